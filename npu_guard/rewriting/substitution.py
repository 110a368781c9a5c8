"""What a substitution is: a root operator, a match that may refuse with a reason, and a rewrite that emits nodes.

Authors write `match` and `rewrite` only, and say nothing of rules or devices: "this form equals that form". The driver asks
where the device has a finding, judges the new nodes from a sketch, takes the cheapest form that pleases the device, and verifies.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import onnx
from msgspec import Struct
from numpy.typing import DTypeLike, NDArray

from npu_guard.base import sandbox
from npu_guard.base.errors import Undecidable
from npu_guard.base.text import short
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.ops import find_operator
from npu_guard.results.proof import PROVED
from npu_guard.rewriting.weights import Evaluate, Small, Weights, evaluated

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.file.document import Document
    from npu_guard.proof.exact import Exact

Array = NDArray[Any]
HISTORY = "npu_guard.substitution"
"""Key of a node's metadata: the substitutions that made it what it is, in order."""
EXACT, APPROXIMATE = "exact", "approximate"
COPIES, NODE_BYTES, UNMEASURED = 2, 4096, 4 << 20
"""Times that protobuf and what is handed to it hold a constant while it is made; what a node may take in bytes, and what a
rewrite may make before the system is asked again how much memory is used."""


class Refused(Exception):
    """A block that is almost the one: the reason, for the reader of the plan."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Match(Struct, frozen=True, eq=False):
    """A block that a substitution can replace. `replaced` are the values that the new nodes have to provide."""

    substitution: Substitution
    root: Node
    nodes: tuple[Node, ...]
    replaced: tuple[Value, ...]
    facts: Any = None
    """What `match` found out and `rewrite` needs."""
    variant: Hashable = None
    """What tells this form from the others that `match` has for the same nodes, such as the longest kernel that it writes."""


class Example(Struct, frozen=True):
    """An executable example of a substitution, in ONNX text as in `rule.Case`.

    `ops` are the operators of the result in order; `refused` is (part of) the reason where the block must be refused.
    The device of the example has `limits`, `operators` and `require` (its `[[limit]]` entries), and has to refuse the block.
    """

    graph: str
    ops: tuple[str, ...] = ()
    refused: str = ""
    limits: Mapping[str, Any] | None = None
    opset: int = 20
    title: str = ""
    label: str = PROVED
    """What is known of the replaced block (`results.proof`), where the substitution is exact."""
    operators: Mapping[str, str] | None = None
    """Those of the substitution where it is None."""
    require: tuple[dict[str, Any], ...] = ()


class Substitution:
    """Base of all substitutions. The docstring states the algebra; first line is the short description."""

    name: ClassVar[str]
    exactness: ClassVar[str] = EXACT
    minimum_snr_db: ClassVar[float] = 0.0
    """Approximate ones: where a block comes less close than this for any of the samples, it is rolled back."""
    roots: ClassVar[tuple[str, ...]]
    """Operators at which `match` is asked."""
    alone: ClassVar[bool] = False
    """Whether it replaces its root and no other node, and so is asked only where something is wrong with that."""
    rank: ClassVar[int] = 0
    """Rank of the first input of roots that it is asked about; 0: any."""
    last: ClassVar[bool] = False
    """Whether it works on what the others write, and so waits until none of them applies any more."""
    ends: ClassVar[bool] = False
    """Whether no form is looked for in the place of what it writes: it says the same in other operators of the kind."""
    limits: ClassVar[Mapping[str, Any]] = {}
    operators: ClassVar[Mapping[str, str]] = {}
    """What the examples assume: limits, and operators with their status as in `rule.Case`."""
    good: ClassVar[tuple[Example, ...]]
    bad: ClassVar[tuple[Example, ...]]
    """Blocks that must be refused, each with its reason."""

    def match(self, node: Node, ctx: Context) -> Match | Sequence[Match] | None:
        """The block around a root; None where this is another kind of block, Refused where it is nearly one.

        Several where there are several ways to write it (`Match.variant`): the device takes the cheapest that it is content
        with. `ctx.bounds` tells which numbers are worth a try. No weight is read here.
        """
        raise NotImplementedError

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Emit the new nodes; the result names what takes the place of each value in `match.replaced`.

        It runs twice: for a sketch, in which weights have a shape and no values, and in earnest. Both have to emit the same
        nodes, so which nodes there are may follow from shapes, attributes and small constants (`ctx.array`), not from weights.
        """
        raise NotImplementedError

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """A deliberately wrong rewrite that looks right, which the verifier must catch."""
        raise NotImplementedError

    @classmethod
    def manual(cls) -> str:
        """The docstring, without its indentation."""
        return inspect.cleandoc(cls.__doc__ or "")


class Builder:
    """Emits nodes and constants for one match, with names that are new, deterministic and tell where they come from."""

    def __init__(
        self, match: Match, document: Document, taken: set[str], capture: Callable[[Sequence[Value]], list[dict[str, Array]]],
        weights: Weights | None = None, numbers: dict[str, int] | None = None,
    ) -> None:  # fmt: skip
        """`weights` and `numbers` (the last tried for each name) are those of other builders for the same document."""
        self.match = match
        self.origin = match.root
        """The old node that gives new ones their names and source lines; a rewrite of many nodes moves it along."""
        self.opset: int = match.root.graph.model.opsets.get("", 1)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.names: list[str] = []
        """Every name that was made here."""
        self.exact: dict[str, Exact] = {}
        """By the name of a constant that was computed, the numbers that it was rounded from."""
        self.promised_db = -math.inf
        self.coarsest = 0
        """Element type to which new nodes round where that is coarser than the types of what they replace; 0 for none."""
        self.note = ""
        """What the report adds to an approximate block: how close the fit came, and how close simpler ones."""
        self._taken = taken
        self._numbers = {} if numbers is None else numbers  # so that the thousandth name is found as fast as the first
        self._before: dict[str, int] = {}
        self._capture = capture
        self._weights = weights or Weights(document)
        self.most = 0
        """Bytes of memory that this process may use; 0 for any number."""
        self._unmeasured = UNMEASURED  # bytes made since the system was last asked

    def op(self, op_type: str, *inputs: str | Value | None, outputs: int = 1, **attributes: Any) -> str:
        """A node; the result is the name of its first output. Inputs are values of the model or names from here."""
        return self.op_many(op_type, *inputs, outputs=outputs, **attributes)[0]

    def op_many(self, op_type: str, *inputs: str | Value | None, outputs: int = 1, **attributes: Any) -> list[str]:
        """A node with several outputs."""
        self._expect_room()
        name = self._name(op_type.lower())
        made = [self._unique(f"{name}_out{i}" if outputs > 1 else f"{name}_out") for i in range(outputs)]
        given = ["" if i is None else i.name if isinstance(i, Value) else i for i in inputs]
        node = onnx.helper.make_node(op_type, given, made, name=name, **attributes)
        # Scopes and source lines stay with what replaces a node, so that a later finding still names the Python line.
        history = [p.value for p in self.origin.proto.metadata_props if p.key == HISTORY]
        node.metadata_props.extend(p for p in self.origin.proto.metadata_props if p.key != HISTORY)
        node.metadata_props.add(key=HISTORY, value=", ".join([*history, self.match.substitution.name]))
        self.nodes.append(node)
        return made

    def like(self, node: Node, *inputs: str | Value | None, **changed: Any) -> list[str]:
        """A node of the model again, on other inputs; attributes that are given replace its own, None drops one."""
        self.origin = node
        made = self.op_many(node.op_type, *inputs, outputs=len(node.outputs), **changed)
        self.nodes[-1].attribute.extend(a for a in node.proto.attribute if a.name not in changed)
        return made

    def reduce(self, op_type: str, x: str | Value, axes: Sequence[int], keepdims: bool = True) -> str:
        """A reduction, its axes where the model's opset has them."""
        if self.opset < find_operator(op_type).inputs[1].since:
            return self.op(op_type, x, axes=list(axes), keepdims=int(keepdims))
        return self.op(op_type, x, self.ints(*axes), keepdims=int(keepdims))

    def slice(self, x: str | Value, axis: int, start: int, end: int, step: int = 1) -> str:
        """A part of one axis; steps are there from opset 10 on."""
        if self.opset < 10:
            return self.op("Slice", x, starts=[start], ends=[end], axes=[axis])
        return self.op("Slice", x, self.ints(start), self.ints(end), self.ints(axis), *([] if step == 1 else [self.ints(step)]))

    def resize(self, x: str | Value, scales: Sequence[float], **attributes: Any) -> str:
        """A Resize by scales; before opset 13 the region of interest is no optional input yet."""
        region = self.constant(np.zeros(0, np.float32), "none") if self.opset < 13 else None
        return self.op("Resize", x, region, self.constant(np.asarray(scales, np.float32), "scales"), **attributes)

    def squeeze(self, x: str | Value, *axes: int) -> str:
        """The tensor without these axes of extent 1."""
        return self._units("Squeeze", x, axes)

    def unsqueeze(self, x: str | Value, *axes: int) -> str:
        """The tensor with axes of extent 1 put in, so that they are at these places of the result."""
        return self._units("Unsqueeze", x, axes)

    def _units(self, op_type: str, x: str | Value, axes: Sequence[int]) -> str:
        return self.op(op_type, x, axes=list(axes)) if self.opset < 13 else self.op(op_type, x, self.ints(*axes))

    def constant(self, array: Array, hint: str = "weight", exact: Exact | None = None) -> str:
        """An initializer. `exact` are the numbers that it is rounded from, where it is computed: the proof is about those."""
        array = np.asarray(array, order="C")
        self._expect_room(array.nbytes)
        name = self._name(hint)
        self.initializers.append(onnx.numpy_helper.from_array(array, name))
        if exact is not None:
            self.exact[name] = exact
        return name

    def rounded(self, numbers: Exact, dtype: DTypeLike, hint: str = "weight") -> str:
        """An initializer of the floats next to some numbers, which the proof is about."""
        return self.constant(numbers.rounded(dtype), hint, numbers)

    def later(
        self, shape: Sequence[int], make: Callable[[], Array], dtype: DTypeLike = np.float32, hint: str = "weight",
        exact: Callable[[], Exact] | None = None,
    ) -> str:  # fmt: skip
        """An initializer whose elements are not made before the form is chosen; for a sketch, neither function is called."""
        array = make()
        if array.shape != tuple(shape) or array.dtype != np.dtype(dtype):
            raise ValueError(f"a constant of {np.dtype(dtype)} {tuple(shape)} became one of {array.dtype} {array.shape}")
        return self.constant(array, hint, None if exact is None else exact())

    def ints(self, *values: int) -> str:
        """An int64 vector: axes, shapes, pads."""
        return self.constant(np.asarray(values, np.int64), "ints")

    def weight(self, value: Value, small: Small = lambda _: None, evaluate: Evaluate = evaluated) -> Array:
        """Values of a constant tensor, read now. Raises Refused where they cannot be had; the others are for `Weights.get`."""
        try:
            return self._weights.get(value, small, evaluate)
        except Undecidable as gap:
            raise Refused(gap.reason) from None

    def activations(self, *values: Value) -> list[dict[str, Array]]:
        """Values of activations in the real model on the calibration data, one dictionary for each sample."""
        return self._capture(values)

    def promise(self, snr_db: float, note: str) -> None:
        """How close an approximate block comes for the worst of the samples; less than that in the proof rolls it back."""
        self.promised_db, self.note = snr_db, note

    def give_back(self) -> None:
        """Let others have the names that were made here."""
        self._taken.difference_update(self.names)
        self._numbers.update(self._before)

    def _expect_room(self, size: int = 0) -> None:
        """Raise MemoryError while there is still some left: protobuf does not ask whether it was given any, and crashes."""
        self._unmeasured += size + NODE_BYTES
        if self.most and self._unmeasured > UNMEASURED:
            if (used := sandbox.used_memory()) and used + COPIES * size > self.most:
                raise MemoryError
            self._unmeasured = 0

    def _name(self, hint: str) -> str:
        return self._unique(f"{self.origin.label}__{self.match.substitution.name}_{hint}")

    def _unique(self, wanted: str) -> str:
        name, number = wanted, self._numbers.get(wanted, 1)
        self._before.setdefault(wanted, number)
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        self._numbers[wanted] = number
        self.names.append(name)
        return name


def closed(nodes: Sequence[Node], replaced: Sequence[Value], ctx: Context) -> None:
    """Refuse a block whose inner values are also needed outside of it. Raises Refused."""
    inside = set(nodes)
    kept = set(replaced)
    for node in nodes:
        if node.graph.parent is not None:
            raise Refused("it is inside a subgraph")
        for value in node.outputs:
            if value is not None and value not in kept:
                _inner(value, inside, kept, ctx)


def _inner(value: Value, inside: set[Node], kept: set[Value], ctx: Context) -> None:
    """Refuse where somebody outside needs the value, or what operators without a trace on the device make of it.

    Shape is one of those. It reads the value all the same, and goes with the block only where all that asks for it does.
    """
    analysis, name, stack, seen = ctx.analysis, short(value.name), [value], {value}
    while stack:
        current = stack.pop()
        if current.is_output:
            what = "" if current is value else f" (as {short(current.name)!r})"
            raise Refused(f"the inner value {name!r} is an output of the model{what}")
        for reader in current.consumers:
            if reader in inside:
                continue
            passed = reader in analysis.elided and (reader.inputs[0] is current or reader.output in analysis.static)
            # One that nobody reads stays where its author wanted it.
            if not passed or not any(v.consumers or v.is_output for v in reader.outputs if v is not None):
                raise Refused(f"the inner value {name!r} is also read by {reader.op} {short(reader.label)!r}")
            made = [v for v in reader.outputs if v is not None and v not in seen]
            seen.update(made)
            stack += [v for v in made if v not in kept]
