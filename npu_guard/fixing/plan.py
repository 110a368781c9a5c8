"""The plan of `fix` as a TOML file: what would be replaced, in order, for a person to edit and for `fix` to carry out.

A step is known by its place, the first output of the operator that the block is named after, and its substitution. All else
that the file tells stands in comments.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import msgspec

from npu_guard.base.errors import UsageError
from npu_guard.base.files import MOST_SETTINGS, read_small, toml
from npu_guard.base.text import printable, short
from npu_guard.device import convert, suggest
from npu_guard.fixing.ceiling import Cost
from npu_guard.fixing.choice import Candidate
from npu_guard.fixing.judge import Judge, reason
from npu_guard.fixing.picker import Key
from npu_guard.fixing.twin import MOVED, ROUNDED
from npu_guard.graph.graph import Node
from npu_guard.results.findings import Applied, RefusedMatch, Work
from npu_guard.rewriting.substitution import EXACT, Match, Refused, Substitution
from npu_guard.verification.report import proof_text

_HEAD = """\
# What `npu-guard fix` replaces in this model, in this order. To carry it out:
#
#     npu-guard fix MODEL -o FIXED --apply THIS_FILE
#
# Edit it before: `apply = false` leaves a step out, so does deleting it; steps may change places; another substitution may be
# named, for the block in which the value `at` is made. Steps of one pass are carried out together, as far as they follow each
# other. A step that does not match any more is refused with its reason, and the others go on.
"""


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A block to be replaced."""

    substitution: str
    at: str
    number: int = msgspec.field(name="pass", default=1)
    apply: bool = True


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Steps for one model, and for one device."""

    version: Literal[1]
    model: str
    sha256: str
    profile: str
    step: tuple[Step, ...] = ()


def read_plan(path: Path, known: Collection[str]) -> Plan:
    """A plan; `known` are the names of the substitutions. Raises UsageError."""
    try:
        data = toml(read_small(path, MOST_SETTINGS).decode("utf-8"))
    except FileNotFoundError:
        raise UsageError(f"plan {path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"plan {path}: cannot be read ({error})") from None
    except ValueError as error:
        raise UsageError(f"plan {path}: not valid TOML: {error}") from None
    entries = convert(data.get("step", []), list[dict[str, Any]], f"plan {path}: step")
    plan: Plan = convert({**data, "step": ()}, Plan, f"plan {path}")
    steps = []
    for i, entry in enumerate(entries, 1):
        step: Step = convert(entry, Step, f"plan {path}: step {i}")
        if step.substitution not in known:
            raise UsageError(f"plan {path}: step {i}: no substitution {step.substitution!r}{suggest(step.substitution, known)}")
        steps.append(step)
    return msgspec.structs.replace(plan, step=tuple(steps))


def expect_plan_for(plan: Plan, model: str, digest: str, profile: str) -> None:
    """Refuse a plan that was made for something else. Raises UsageError."""
    if plan.sha256 != digest:
        raise UsageError(
            f"the plan is for {short(plan.model)!r} with SHA-256 {plan.sha256[:12]}..., and {model} has {digest[:12]}...;"
            " make a new one with --plan"
        )
    if plan.profile != profile:
        raise UsageError(
            f"the plan is for the profile {short(plan.profile)!r}, and this run for {profile!r}; name it with --profile"
        )


def plan_text(model: str, digest: str, profile: str, applied: Sequence[Applied], refused: Sequence[RefusedMatch]) -> str:
    """The plan as TOML."""
    lines = [_HEAD, "version = 1", f"model = {_string(model)}", f"sha256 = {_string(digest)}", f"profile = {_string(profile)}"]
    for number, steps in groupby((a for a in applied if a.substitution not in (MOVED, ROUNDED)), key=lambda a: a.number):
        lines += ["", f"# ---- pass {number}"]
        for a in steps:
            lines += ["", "[[step]]", *(f"# {printable(line, 600)}" for line in describe_step(a)), "apply = true"]
            lines += [f"substitution = {_string(a.substitution)}", f"at = {_string(a.at)}", f"pass = {a.number}"]
    if refused:
        lines += ["", "# ---- almost matched", "#"]
        lines += [f"# {r.substitution} at {printable(r.node, 120)}: {printable(r.reason)}" for r in refused]
    return "\n".join(lines) + "\n"


def describe_step(a: Applied) -> Iterator[str]:
    """A step in words: what it is, where, and what it changes."""
    needs = "" if a.exactness == EXACT else ", needs --allow approximate, and fine-tuning of the model"
    yield f"{a.exactness}{needs}; silences {', '.join(a.rules)}"
    where = "" if a.source is None else f", {a.source.file}:{a.source.line} in {a.source.function}"
    yield f"at {a.op_type} {short(a.node)!r}{where}{f' ({a.source.module})' if a.source is not None and a.source.module else ''}"
    yield describe_change(a.before, a.after)
    yield f"replaces {', '.join(short(n) for n in a.nodes_before)}"
    if a.verification.proof is not None:
        yield proof_text(a.verification.proof)
    if a.others:
        yield f"fits here or at a part of it as well: {', '.join(a.others)}"


def describe_change(before: Work, after: Work) -> str:
    """Nodes, MACs and bytes of a block, before and after."""
    parts = ((before.nodes, after.nodes, "nodes"), (before.macs, after.macs, "MACs"))
    counts = ", ".join(f"{a:,} -> {b:,} {what}" for a, b, what in parts)
    return f"{counts}, {before.activation_bytes:,} -> {after.activation_bytes:,} bytes of activations"


def _string(value: str) -> str:
    """A basic string of TOML. Whatever does not print is escaped: names are data and may hold anything."""
    return '"' + "".join(map(_character, value)) + '"'


def _character(c: str) -> str:
    if c in '"\\':
        return f"\\{c}"
    if c.isprintable():
        return c
    if "\ud800" <= c <= "\udfff":  # half of a pair, as in a file name that is not UTF-8; TOML has no such thing
        return f"\\\\u{ord(c):04x}"
    return f"\\u{ord(c):04X}" if ord(c) < 0x10000 else f"\\U{ord(c):08X}"


class Planned:
    """Carries out the steps of a plan, in its order: together as many of a pass as match now and do not overlap."""

    def __init__(self, steps: Sequence[Step], allowed: Mapping[str, Substitution]) -> None:
        """`allowed` are the substitutions that this run may use, by name."""
        self.refused: list[RefusedMatch] = []
        self._left = [s for s in steps if s.apply][::-1]
        self._allowed = allowed

    def pick(self, judge: Judge, number: int, banned: Collection[Key]) -> list[Candidate]:
        """The next steps; those that do not match, not even after the ones before them, are refused."""
        picked: list[Candidate] = []
        spent = Cost()
        taken: set[Node] = set()
        current = None
        while self._left:
            step = self._left[-1]
            if picked and step.number != current:
                break
            try:
                candidate = self._candidate(step, judge, spent)
            except Refused as refusal:
                if picked:
                    break  # it may match once these are done
                self.refused.append(RefusedMatch(step.substitution, short(step.at), refusal.reason))
                self._left.pop()
                continue
            if not taken.isdisjoint(candidate.match.nodes):
                break
            picked.append(candidate)
            spent += candidate.rise
            taken.update(candidate.match.nodes)
            current = step.number
            self._left.pop()
        return picked

    def _candidate(self, step: Step, judge: Judge, spent: Cost) -> Candidate:
        substitution = self._allowed.get(step.substitution)
        if substitution is None:
            raise Refused("it is approximate; --allow approximate permits it")
        search = judge.search
        value = search.analysis.model.graph.values.get(step.at)
        if value is None or value.producer is None:
            raise Refused(f"no operator makes {short(step.at)!r} any more")
        node = value.producer
        matches: Sequence[Match] = ()
        if node.op_type in substitution.roots and not node.domain:
            matches = search.ask(substitution, node)
        if not matches:  # another substitution names the same block after another of its operators
            matches = [s for s in search.each([substitution]) if not isinstance(s, RefusedMatch) and node in s.nodes]
        if not matches:
            raise Refused(f"it does not match at {node.op} {short(node.label)!r}, or there is nothing left to mend")
        # As the fix that made the plan chose among the variants.
        best = max(map(judge.candidate, matches), key=lambda c: (c.gain, -c.price, -len(c.chain)))
        if best.gain <= (0, 0):
            raise Refused(reason(best))
        if why := judge.over(spent + best.rise):
            raise Refused(why)
        return best
