"""Where each change lands in the module tree: in leaves, in a whole submodule, in a new forward of the network, or flat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from npu_guard.training import leaves
from npu_guard.training.attach import is_parametrizing
from npu_guard.training.calls import Call, Finder, argument_names, fused, locate, record
from npu_guard.training.changes import Change, changes, surviving
from npu_guard.training.compose import Composed, children_of, compose
from npu_guard.training.graph import Graph, Op, below
from npu_guard.training.norms import folded_norms
from npu_guard.training.sums import Sum
from npu_guard.training.unfolding import Again, unfold
from npu_guard.training.writer import CannotWrite, Written

LEAF, MODULE, FORWARD, FLAT = "leaf", "module", "forward", "flat"
SHOWN = 3
"""Modules that a reason names."""


@dataclass(slots=True)
class Place:
    """A module that is replaced."""

    path: str
    kind: str
    written: Written
    substitutions: list[str]
    changes: list[Change] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Refusal:
    """A change that lands nowhere, and why."""

    substitutions: list[str]
    outputs: list[str]
    reasons: list[str]
    where: str = ""
    """Modules in which it is, with lines of the source."""


@dataclass(slots=True)
class Plan:
    """All places, the innermost first."""

    places: list[Place]
    refused: list[Refusal]
    changes: list[Change]
    sums: Mapping[str, Sum]
    """Norms behind sums of convolutions, by path."""


class Planner:
    """Finds the places for the changes between two graphs of one network. `trained` tells which weights are.

    `again` takes the steps from the one to the other with other weights.
    """

    def __init__(
        self, model: nn.Module, inputs: Mapping[str, Tensor], before: Graph, after: Graph, trained: Callable[[str], bool],
        again: Again,
    ) -> None:  # fmt: skip
        self.model, self.inputs, self.before, self.after, self.trained = model, inputs, before, after, trained
        finder = Finder(before.values)
        self.calls = record(model, inputs, finder)
        locate(self.calls, before, finder)
        self.by_path: dict[str, list[Call]] = {}
        for call in self.calls:
            self.by_path.setdefault(call.path, []).append(call)
        self.shared = _shared(model)
        self.survivors = surviving(before, after)
        self.fused = list(fused(self.calls))
        self.norms = folded_norms(self.fused)
        self.changes = changes(before, after, self.survivors)
        unfold(before, after, self.norms, again)

    def plan(self) -> Plan:
        """A place for each change. Those of which one fails are refused together with it."""
        found = leaves.Leaves(self.model, self.inputs, self.before, self.after, self.by_path, self.norms, self.trained)
        inner: dict[str, Place] = {}
        outer: dict[str, list[Change]] = {}
        refused: list[Refusal] = []
        for change in self.changes:
            # Where one leaf makes up the place, both ways come to the same.
            made = found.of(change)
            if isinstance(made, dict) and not made.keys() & inner.keys():
                for path, written in made.items():
                    lost = _lost(self.by_path[path][0], written)
                    inner[path] = Place(path, LEAF, written, list(change.substitutions), [change], lost)
                continue
            reasons = [made] if isinstance(made, str) else ["a leaf of it is replaced already"]
            around = self._enclosing(change, reasons)
            if around is None:
                refused.append(refusal(change, reasons))
            else:
                outer.setdefault(around, []).append(change)
        places = self._written(inner, outer, refused)
        named(places)
        return Plan(places, refused, self.changes, self.norms.sums)

    def _enclosing(self, change: Change, reasons: list[str]) -> str | None:
        """The nearest module around a change whose arguments and results both models have."""
        for path in sorted(self.by_path, key=lambda p: (-(p.count(".") + 1) if p else 1, p)):
            calls = self.by_path[path]
            if not all(below(op.scope, path) for op in change.old):
                continue
            where = path or "the network"
            if len(calls) > 1 or path in self.shared:
                reasons.append(f"{where} is called {max(2, len(calls))} times")
                continue
            found = self._boundary(calls[0])
            if found is None:
                reasons.append(f"{where}: what goes in or comes out is no value of the exported model")
                continue
            inputs, outputs = found
            if gone := [n for n in (*inputs, *outputs) if n not in self.survivors and n not in self.after.outputs]:
                reasons.append(f"{where}: {gone[0]!r} at its border is gone in the fixed model")
                continue
            ops = self.after.between(set(inputs), outputs)
            if ops is None or not set(change.new) <= set(ops) or any(not below(op.scope, path) for op in ops):
                reasons.append(f"{where}: the new operators are not all inside")
                continue
            return path
        return None

    def _boundary(self, call: Call) -> tuple[list[str], list[str]] | None:
        found = call.found
        return found if found is not None or call.path else (list(self.before.inputs), list(self.before.outputs))

    def _written(self, inner: dict[str, Place], outer: dict[str, list[Change]], refused: list[Refusal]) -> list[Place]:
        """Classes for the modules, from the innermost: what is replaced inside is called by what is around it."""
        places = dict(inner)
        for path in sorted(outer, key=lambda p: (-(p.count(".") + 1) if p else 1, p)):
            new: set[Op] = {op for change in self.changes for op in change.new}
            call = self.by_path[path][0]
            inputs, outputs = self._boundary(call) or ([], [])
            ops = self.after.between(set(inputs), outputs) or []
            inside = [c for c in self.calls if c.path != path and below(c.path, path)]
            children = children_of(
                self.after, path, ops, inside, self.survivors, new, {p.path: _ops(p) for p in places.values()}, self.fused
            )
            job = Composed(self.after, call, path, inputs, outputs, ops, children, self.norms, inside, self.trained)
            substitutions = list(dict.fromkeys(s for c in outer[path] for s in c.substitutions))
            try:
                written = compose(job, self._class_name(path), argument_names(call.module, path))
            except CannotWrite as error:
                refused += [refusal(c, [f"{path or 'the network'}: {error}"]) for c in outer[path]]
                continue
            absorbed = [p for p in places.values() if below(p.path, path) and _first_outputs(p) & written.emitted]
            for place in absorbed:
                del places[place.path]
                substitutions += [s for s in place.substitutions if s not in substitutions]
            kind = MODULE if path else FORWARD if written.kept else FLAT
            took = [*outer[path], *(c for p in absorbed for c in p.changes)]
            places[path] = Place(path, kind, written, substitutions, took, _lost(call, written))
        return sorted(places.values(), key=lambda p: -(p.path.count(".") + 1) if p.path else 1)

    def _class_name(self, path: str) -> str:
        kind = type(self.model.get_submodule(path))
        own = not kind.__module__.startswith("torch.nn.")
        return f"{kind.__name__}Npu" if own else leaves.class_name(path)


def named(places: Sequence[Place]) -> None:
    """One name for classes with the same text, after what their paths have in common, and different names for others."""
    groups: list[list[Place]] = []
    for place in places:
        if not place.written.constructor:
            like = next((g for g in groups if g[0].written.same(place.written)), None)
            groups.append([place]) if like is None else like.append(place)
    used: set[str] = set()
    for group in groups:
        names = {place.written.name for place in group}
        base = names.pop() if len(names) == 1 else leaves.common_name([p.path for p in group]) or group[0].written.name
        name, number = base, 1
        while name in used:
            number += 1
            name = f"{base}{number}"
        used.add(name)
        for place in group:
            place.written.name = name


def _ops(place: Place) -> set[Op]:
    return {op for change in place.changes for op in change.new}


def _first_outputs(place: Place) -> set[str]:
    return {op.outputs[0] for change in place.changes for op in change.new}


def _shared(model: nn.Module) -> set[str]:
    """Paths of modules that the network has at several places."""
    by_id: dict[int, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        by_id.setdefault(id(module), []).append(path)
    return {path for paths in by_id.values() if len(paths) > 1 for path in paths}


def _lost(call: Call, written: Written) -> list[str]:
    """Modules inside that did something in training only and are not there any more, and parametrizations of weights."""
    lost = []
    for path, module in call.module.named_modules():
        full = ".".join(part for part in (call.path, path) if part)
        if full in written.norms or any(below(path, called) for called in written.called):
            continue
        lost += [f"{full or 'the network'} ({name})" for name in _parametrizations(module)]
        if path and (isinstance(module, _BatchNorm) or ("Drop" in type(module).__name__ and not list(module.children()))):
            lost.append(f"{full} ({type(module).__name__})")
    return lost


def _parametrizations(module: nn.Module) -> list[str]:
    """What computes weights of a module anew at each call: torch's parametrizations, and hooks as older spectral_norm has."""
    made: Any = module.parametrizations if is_parametrized(module) else {}
    found = [(type(one), name) for name, several in made.items() for one in several]
    for hook in module._forward_pre_hooks.values():
        if is_parametrizing(hook):
            found.append((type(hook), getattr(hook, "name", None) or getattr(hook, "_tensor_name", "weight")))
    return [f"{kind.__name__.strip('_')} of {name}" for kind, name in found]


def refusal(change: Change, reasons: list[str]) -> Refusal:
    """A change that lands nowhere."""
    return Refusal(list(change.substitutions), [o for op in change.old for o in op.outputs], reasons, _where(change))


def _where(change: Change) -> str:
    """The modules in which the change is, the network itself where it is in no other, each with its first line."""
    first: dict[str, str] = {}
    for op in sorted(change.old, key=lambda op: not op.line):
        first.setdefault(op.scope, op.place)
    return several([place for scope, place in first.items() if scope] or list(first.values()))


def several(words: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    return ", ".join(words[:SHOWN]) + (f" and {len(words) - SHOWN} more" if len(words) > SHOWN else "")


def refusals_of(places: Sequence[Place], why: str) -> list[Refusal]:
    """One for each change of places that do not hold."""
    where = several([p.path or "the network" for p in places])
    found = {id(c): c for place in places for c in place.changes}
    return [refusal(change, [f"{where}: {why}"]) for change in found.values()]


def reasons_of(refusals: Sequence[Refusal]) -> list[str]:
    """A line for each refusal."""
    found = []
    for r in refusals:
        what = (", ".join(r.substitutions) or "a change") + (f" in {r.where}" if r.where else "")
        found.append(f"{what}: {r.reasons[-1] if r.reasons else 'no place'}")
    return found
