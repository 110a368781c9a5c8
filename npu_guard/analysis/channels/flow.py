"""Which nodes of a graph can run on widened channels (axis 1), found in one pass, and what has to change for that.

`operators.py` knows the operators; `paddings.py` makes paddings and regions out of what is found here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from npu_guard.analysis.constants import Array
from npu_guard.analysis.evaluate import OPERATORS
from npu_guard.base.errors import Undecidable
from npu_guard.base.text import short
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.handlers import Handlers

if TYPE_CHECKING:
    from npu_guard.analysis.facts import Facts


class Form(Struct, frozen=True):
    """A value that can be widened."""

    units: int
    """Channels, where each is one unit."""
    factor: int = 1
    """Channels to a unit: pixels of a flattened map, filters of a depthwise convolution with several to a channel."""
    zero: bool = True
    """Whether padded channels hold zeros, else some other finite numbers."""
    rigid: Value | None = None
    """Where channels joined that cannot be widened. Only values that come from there share paddings with each other."""


class Stretch(Struct, frozen=True):
    """A constant whose axes follow channels: axis -> value, and groups, of which the axis spans the first."""

    axes: Mapping[int, tuple[Value, int]]
    fill: float = 0.0


Extent = int | tuple[Value, int]
"""A number, or the padded channels that the first units of a value take."""


class Carry(Struct, eq=False):
    """A node that can run on widened values, and what has to change for that."""

    node: Node
    wide: Mapping[int, Value]
    """Inputs that are read in their widened form."""
    forms: Mapping[Value, Form]
    """Outputs that can be widened."""
    ties: tuple[tuple[Value, Value, int], ...] = ()
    """(whole, part, offset): the part is the whole's units from the offset on, and their paddings agree."""
    groups: tuple[tuple[Value, int], ...] = ()
    """Values whose channels fall into that many groups of equal padding."""
    pinned: Mapping[Value, int] = field(default_factory=dict)
    """Parts that cannot be widened, and their channels."""
    stretch: Mapping[int, Stretch] = field(default_factory=dict)
    numbers: Mapping[int | str, tuple[Extent, ...]] = field(default_factory=dict)
    """Integer inputs by index, attributes by name, that tell extents of channels."""
    raw: dict[int, Value] = field(default_factory=dict)
    """Activations that are read in their original width."""
    kept: dict[int, Array] = field(default_factory=dict)
    """Constant inputs that the graph derives from shapes."""
    width: int = 0
    """Output channels, where a device wants them in whole blocks; 0 for other operators."""


class Flow:
    """Which nodes of the main graph carry widened channels; for those that could not be told, why not."""

    def __init__(self, ctx: Facts, operators: Handlers[Operator], without: Set[Node] = frozenset()) -> None:
        """The nodes `without` carry nothing."""
        self.ctx = ctx
        self.opset = ctx.analysis.model.opsets.get("", 1)
        self.forms: dict[Value, Form] = {}
        self.carries: dict[Node, Carry] = {}
        self.reasons: dict[Node, str] = {}
        self._known: set[Value] = set()
        """Values that are known to be readable: a model may share what is behind its weights."""
        for node in ctx.analysis.nodes():
            operator = operators.get(node.op_type) if not node.domain else None
            if operator is None or node in without:
                continue
            try:
                if node.graph.parent is not None:
                    raise Undecidable("it is inside a subgraph")
                carry = operator(node, self)
                if carry is None or any(_is_read(v) for v in node.outputs[1:] if v not in carry.forms):
                    continue
                self._keep(carry)
            except Undecidable as error:
                self.reasons[node] = error.reason
                continue
            self.carries[node] = carry
            self.forms.update(carry.forms)

    def source(self, node: Node, index: int) -> Value:
        """An input, seen through elided nodes."""
        return self.ctx.analysis.origin(self.ctx.input(node, index))

    def weight(self, node: Node, index: int) -> Value | None:
        """A weight that can be read when the node is rewritten. Raises Undecidable with the reason where it cannot."""
        value = node.input(index)
        if value is None:
            return None
        what = f"weight {short(value.name)!r} of {node.op} {short(node.label)!r}"
        if not self.ctx.is_constant(value):
            override = ": it is a graph input too, so a caller may override it; --freeze-weights forbids that"
            override = "" if value.initializer is None else override
            raise Undecidable(f"{what} is not constant{override}")
        if not self._readable(value):
            raise Undecidable(f"{what} is computed by operators that are not evaluated here")
        return value

    def small(self, node: Node, index: int) -> Array | None:
        """The value of a small constant input, None where it is left out."""
        value = node.input(index)
        return None if value is None else self.ctx.array(value)

    def same(self, node: Node, *, zero: bool | None = None, stretch: Mapping[int, Stretch] | None = None) -> Carry | None:
        """A node that works on each channel by itself."""
        x, y = self.source(node, 0), node.output
        form = self.forms.get(x)
        if form is None:
            return None
        form = replace(form, zero=form.zero if zero is None else zero)
        return Carry(node, {0: x}, {y: form}, ((x, y, 0),), stretch=stretch or {})

    def _keep(self, carry: Carry) -> None:
        """Sort the other inputs: those that are read as they are, and constants that hang on shapes of what is replaced."""
        for i, value in enumerate(carry.node.inputs):
            if value is None or i in carry.wide or i in carry.stretch or i in carry.numbers:
                continue
            if not self.ctx.is_constant(value):
                carry.raw[i] = self.ctx.analysis.origin(value)
            elif not self._readable(value):
                carry.kept[i] = self.ctx.array(value)

    def _readable(self, value: Value) -> bool:
        """Whether the value follows from initializers by operators that can be evaluated, without any shape of an activation."""
        stack, seen = [value], {value}
        while stack:
            node = (current := stack.pop()).producer
            if node is None:
                if current.initializer is None or current.is_input:
                    return False
            elif node.op_type != "Constant":
                known = node.op_type in OPERATORS or node.op_type == "DequantizeLinear"  # whose integers can be moved
                if node.domain or not known or node.op_type in ("Shape", "Size"):
                    return False
                behind = [v for v in node.inputs if v is not None and v not in seen and v not in self._known]
                seen.update(behind)  # an operand that is read twice is looked at once
                stack += behind
        self._known |= seen
        return True


Operator = Callable[[Node, Flow], Carry | None]
"""What is to be done at a node, None where it carries nothing. Raises Undecidable where the graph does not tell."""


def _is_read(value: Value | None) -> bool:
    return value is not None and (bool(value.consumers) or value.is_output)
