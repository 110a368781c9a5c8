"""Changes that fit into leaves: each leaf gets a successor, and the forwards above them stay as they are.

That the results are equal would also hold for a leaf that was left as it was. So what the forwards do by functions has to be the
same operators in both models, and the leaves have to be those that the fixed model has.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from npu_guard.training import norms
from npu_guard.training.calls import Call, argument_names
from npu_guard.training.changes import Change
from npu_guard.training.construct import constructed, outputs_of
from npu_guard.training.graph import Graph, Op
from npu_guard.training.operators import WRITERS
from npu_guard.training.writer import CannotWrite, Writer, Written

NO_TRACE = {"Reshape", "Flatten", "Identity", "Squeeze", "Expand", "Unsqueeze"}
"""Operators of a forward that may be missing in the fixed model: the exporter cancels them with what the leaves do."""
CLOSE = 2e-5


class Leaves:
    """Finds successors for the leaves in which changes lie."""

    def __init__(
        self, model: nn.Module, inputs: Mapping[str, Tensor], before: Graph, after: Graph, calls: Mapping[str, list[Call]],
        folded: norms.Folded, trained: Callable[[str], bool],
    ) -> None:  # fmt: skip
        self._model, self._inputs, self._before, self._after = model, inputs, before, after
        self._calls, self._folded, self._trained = calls, folded, trained
        self._leaves = {path for path, module in model.named_modules() if path and norms.is_leaf(module)}
        self._wanted: list[Tensor] | None = None

    def of(self, change: Change) -> dict[str, Written] | str:
        """Successors by path, or why the change does not fit into leaves."""
        made = self._successors(change)
        if isinstance(made, str) or not made:
            return made or "nothing of it is in a leaf"
        trial = copy.deepcopy(self._model)
        for path, written in made.items():
            trial.set_submodule(path, constructed(written))
        try:
            found = outputs_of(trial.eval(), self._inputs)
        except Exception as error:  # whatever the user's modules raise where they are given something else
            words = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
            return f"the leaves alone do not fit together ({words})"
        if self._wanted is None:
            self._wanted = outputs_of(copy.deepcopy(self._model).eval(), self._inputs)
        for a, b in zip(self._wanted, found, strict=True):
            if a.shape != b.shape or (a - b).abs().max() > CLOSE * (1e-9 + a.abs().max()):
                return "the leaves alone give something else"
        return made

    def _successors(self, change: Change) -> dict[str, Written] | str:
        more = self._functions(change.new) - self._functions(change.old)
        if more:
            return f"the forward of {next(iter(more))[0] or 'the network'} itself has other operators"
        less = self._functions(change.old) - self._functions(change.new)
        if gone := [key for key in less if key[1] not in NO_TRACE]:
            return f"the forward of {gone[0][0] or 'the network'} itself has other operators"
        made: dict[str, Written] = {}
        for path in dict.fromkeys(op.scope for op in (*change.old, *change.new) if op.scope in self._leaves):
            if len(self._calls.get(path, ())) != 1:
                return f"{path} is called {len(self._calls.get(path, ()))} times"
            ops = [op for op in self._after.ops if op.scope == path]
            if not any(True for _ in self._model.get_submodule(path).parameters()) and self._as_before(path, ops):
                continue
            try:
                made |= self._successor(path, ops)
            except CannotWrite as error:
                return f"{path}: {error}"
        return made

    def _functions(self, ops: list[Op]) -> Counter[tuple[str, str]]:
        return Counter((op.scope, op.type) for op in ops if op.scope not in self._leaves)

    def _as_before(self, path: str, ops: list[Op]) -> bool:
        """Whether a leaf without weights does what it did, on other extents perhaps."""

        def kinds(graph: Graph, ops: list[Op]) -> list[object]:
            given = [[graph.array(i).tolist() for i in op.inputs if i in graph.constants] for op in ops]
            return [
                (op.type, sorted(a.SerializeToString() for a in op.proto.attribute), g) for op, g in zip(ops, given, strict=True)
            ]

        return kinds(self._before, [op for op in self._before.ops if op.scope == path]) == kinds(self._after, ops)

    def _successor(self, path: str, ops: list[Op]) -> dict[str, Written]:
        """What takes the place of a leaf, and of the convolution before it where the exporter has fused both."""
        if not ops:
            return {path: Written("", constructor="nn.Identity()")}
        pair = self._folded.pairs.get(path)
        place = pair[0].path if pair else path
        own = set(ops)
        made = {o for op in ops for o in op.outputs}
        constants, outputs = self._after.constants, self._after.outputs
        inputs = list(dict.fromkeys(i for op in ops for i in op.reads() if i not in made and i not in constants))
        ends = [o for o in made if o in outputs or any(r not in own for r in self._after.consumers.get(o, ()))]
        if len(inputs) != 1 or len(ends) != 1:
            raise CannotWrite(f"it has {len(inputs)} inputs and {len(ends)} outputs in the fixed model")
        argument = "x" if place else argument_names(self._calls[place][0].module, place)[0]
        writer = Writer(self._after, class_name(place), self._trained, {})
        writer.write(ops, {inputs[0]: argument}, {}, WRITERS)
        written = writer.written
        written.arguments, written.result = [f"{argument}: Tensor"], writer.value(ends[0])
        seen, needed = self._calls[place][0].arguments[0], self._after.shape(inputs[0])
        if seen.ndim == 2 and len(needed) == 4:
            written.unpack.append(f"{argument} = torch.unflatten({argument}, 1, {needed[1:]})")
        found = {place: plain(written)}
        if pair:
            at = norms.channels_of(self._after, self._after.producer[ends[0]], pair[1].module)
            shape = self._after.shape(ends[0])
            norm = self._folded.norm(path, shape, 1, at)
            if norm is None or norms.frames_of(self._after.values[ends[0]], pair[1], at) != 1:
                raise CannotWrite("a norm is folded into it, and its channels are not those of before")
            if not self._folded.stays(path, shape, at):
                found[path] = Written("", constructor=norm.constructor, state=dict(norm.state))
        return found


def class_name(path: str) -> str:
    """The path of a module as its block is named: `decoder.0.conv` is `Decoder0ConvNpu`, and `0` is `Layer0Npu`."""
    name = "".join(word[:1].upper() + word[1:] for word in re.split(r"\W|_", path) if word)
    return f"{'Layer' if name[:1].isdigit() else ''}{name}Npu"


def common_name(paths: Sequence[str]) -> str:
    """The name for one class at several paths: `blocks.0.conv` and `blocks.1.conv` are `BlocksConvNpu`; "" where they differ."""
    words = [path.split(".") for path in paths]
    same = [one[0] for one in zip(*words, strict=False) if len(set(one)) == 1 and not one[0].isdigit()]
    return class_name(".".join(same)) if same and len({len(one) for one in words}) == 1 else ""


def plain(written: Written) -> Written:
    """The constructor alone, where the class would only wrap one module of torch's."""
    line = written.fields[0] if len(written.fields) == 1 else ""
    name, _, constructor = line.partition(" = ")
    single = constructor.startswith("nn.") and not constructor.startswith("nn.Parameter") and not written.unpack
    attribute = name.removeprefix("self.")
    if not single or len(written.body) != 1 or not written.body[0].endswith(f" = self.{attribute}(x)"):
        return written
    state = {key.removeprefix(f"{attribute}."): value for key, value in written.state.items()}
    return Written("", constructor=constructor, state=state, ops=1, emitted=written.emitted)
