"""Conditions on elements as numbers 0 and 1: comparisons, what combines them, and choices that read them.

The numbers of a floating-point type have a least distance from each other at each place, so a ramp that is steep enough is a
step: `Numbers` writes it. Not, And, Or and Xor of numbers that are 0 or 1 are 1 - a, a b, a + b - a b and (a - b)^2, all exact.
`Where(m, a, b)` is m a + (1 - m) b where both are finite, as one summand is 0 then. A branch that may be infinite where it
is left out, such as y / w behind w = 0, is computed from 1 there: exp, log, root, power and quotient of 1 are finite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from msgspec import Struct

from npu_guard.base.text import short
from npu_guard.checking.context import Context
from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting.arithmetic import FLOATS, Formula, writable
from npu_guard.rewriting.finite import is_finite
from npu_guard.rewriting.substitution import Builder, Refused, closed

BOOL = 9
LARGEST = 64
"""Nodes that one region of conditions may have."""
COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")
_LOGIC = ("And", "Or", "Xor", "Not")
_MOVERS = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Expand", "Flatten", "Identity")
_ENDS = ("Where", "Cast")
_SAFE_AT_ONE = ("Exp", "Log", "Sqrt", "Reciprocal", "Pow", "Div")
"""Operators that may make what is infinite, and do not at 1."""


class Region(Struct, frozen=True):
    """Conditions that hang together, with the choices that read them, in the order of the model."""

    nodes: tuple[Node, ...]
    ends: tuple[Node, ...]
    kept: frozenset[Node]
    """Nodes on the way to a branch, which are written again with a guard."""
    dtype: int


def region(start: Node, ctx: Context) -> Region | None:
    """The region that a node is in; None where it has no condition that is computed. Raises Refused."""
    inside: dict[Node, None] = {}
    ends: dict[Node, None] = {}
    waiting = [v for v in (start.output, *start.inputs) if v is not None and v.dtype == BOOL and not ctx.is_constant(v)]
    seen: set[Value] = set()
    while waiting:
        value = waiting.pop()
        if value in seen or ctx.is_constant(value):
            continue
        seen.add(value)
        maker = value.producer
        if maker is None or value.is_output:
            raise Refused(
                "it is an output of the model" if maker is not None else f"{short(value.name)!r} is an input of the model"
            )
        inside[maker] = None
        if len(inside) > LARGEST:
            raise Refused(f"conditions of more than {LARGEST} nodes hang together")
        waiting += _reads(maker, ctx)
        for reader in value.consumers:
            if reader.op_type in _ENDS and reader.output.dtype in FLOATS and not reader.domain and reader.inputs[0] is value:
                ends[reader] = None
            elif reader.op_type in (*_LOGIC, *_MOVERS) and not reader.domain:
                waiting.append(reader.output)
            else:
                raise Refused(f"{reader.op} {short(reader.label)!r} reads whether it holds")
    if not seen:
        return None
    if not ends:
        raise Refused("nobody reads it")
    return _ordered(inside, ends, ctx)


def _reads(maker: Node, ctx: Context) -> list[Value]:
    """Conditions that one is made from. Raises Refused."""
    if maker.domain or maker.op_type not in (*COMPARISONS, *_LOGIC, *_MOVERS):
        raise Refused(f"{maker.op} {short(maker.label)!r} makes a condition that has no form in numbers")
    if maker.op_type not in COMPARISONS:
        given = maker.inputs if maker.op_type in _LOGIC else maker.inputs[:1]
        if any(v is not None and not ctx.is_constant(v) for v in maker.inputs[len(given) :]):
            raise Refused(f"{maker.op} {short(maker.label)!r} moves a condition to where it is computed")
        return [v for v in given if v is not None]
    x, y = ctx.input(maker, 0), ctx.input(maker, 1)
    if x.dtype not in FLOATS:
        raise Refused(f"{maker.op} {short(maker.label)!r} compares what is not of floating point")
    if _bound(maker, ctx) is None and not (is_finite(x, ctx) or is_finite(y, ctx)):
        raise Refused(f"{maker.op} {short(maker.label)!r} compares what may be infinite on both sides")
    return []


def _ordered(inside: Mapping[Node, None], ends: Mapping[Node, None], ctx: Context) -> Region:
    kept: dict[Node, None] = {}
    for end in ends:
        writable(end)
        for branch in end.inputs[1:] if end.op_type == "Where" else ():
            assert branch is not None
            _guardable(branch, end, ctx, kept)
    kinds = {ctx.input(n, 0).dtype for n in inside if n.op_type in COMPARISONS} | {n.output.dtype for n in ends}
    if len(kinds) > 1:
        raise Refused("its conditions and choices have elements of several types")
    order = {n: i for i, n in enumerate(ctx.analysis.model.graph.nodes)}
    members = {*inside, *ends, *kept}
    if members - order.keys():
        raise Refused("it is inside a subgraph")
    nodes = tuple(sorted(members, key=order.__getitem__))
    closed(nodes, [n.output for n in ends], ctx)
    return Region(nodes, tuple(n for n in nodes if n in ends), frozenset(kept), kinds.pop())


def _guardable(value: Value, end: Node, ctx: Context, kept: dict[Node, None]) -> None:
    """Note the nodes that a branch is written again for, so that it is finite where it is left out. Raises Refused."""
    known = ctx.analysis.constants.get(value)
    if is_finite(value, ctx) and (known is None or known.dtype.kind != "f" or np.isfinite(known).all()):
        return
    maker = value.producer
    reason = Refused(f"{short(value.name)!r} may be infinite where {end.op} {short(end.label)!r} leaves it out")
    if (
        maker is None
        or maker.domain
        or maker.op_type == "Where"
        or value.is_output
        or len(value.consumers) != 1
        or maker.operator.kind not in _ALIKE
    ):
        raise reason
    if maker.op_type not in _SAFE_AT_ONE and not maker.operator.keeps_finite:
        raise reason
    if maker.op_type == "Pow" and not ctx.is_constant(ctx.input(maker, 1)):
        raise reason
    kept[maker] = None
    for operand in maker.inputs:
        if operand is not None:
            _guardable(operand, end, ctx, kept)


_ALIKE = ("unary", "broadcasting")
"""Kinds of operators that work element by element."""


def _bound(node: Node, ctx: Context) -> tuple[Value, float, bool] | None:
    """The tensor, the one constant that it is compared with, and whether that is on the right."""
    for i, other in ((0, 1), (1, 0)):
        x, bound = ctx.input(node, i), ctx.input(node, other)
        array = ctx.analysis.constants.get(bound)
        if array is not None and array.size == 1 and array.ndim <= len(x.shape or ()) and not ctx.is_constant(x):
            return x, float(array.reshape(())), i == 0
    return None


class Numbers:
    """Writes a region: conditions become the names of numbers."""

    def __init__(self, region: Region, ctx: Context, build: Builder, like: Value, *, turned: bool = False) -> None:
        self.ctx = ctx
        self.build = build
        self.region = region
        self.formula = Formula(build, like)
        self.turned = turned
        self.made: dict[Value, str] = {}
        self.found: dict[Value, str] = {}
        self._others: dict[str, str] = {}

    def write(self) -> dict[Value, str]:
        """What takes the place of each choice. Raises Refused."""
        found = self.found
        for node in self.region.nodes:
            self.build.origin = node
            if node in self.region.ends:
                name = self._chosen(node) if node.op_type == "Where" else self._number(self.ctx.input(node, 0))
                found[node.output] = self.build.op("Identity", name) if name in found.values() else name
            elif node in self.region.kept:
                continue
            elif node.op_type in COMPARISONS:
                self.made[node.output] = self._compared(node)
            elif node.op_type in _LOGIC:
                self.made[node.output] = self._logic(node)
            else:
                self.made[node.output] = self.build.like(node, self._number(self.ctx.input(node, 0)), *node.inputs[1:])[0]
        return found

    def _read(self, value: Value) -> Value | str:
        """A value of the model, or what takes its place in this region."""
        return self.found.get(value, value)

    def _operand(self, node: Node, index: int) -> Value | str:
        return self._read(self.ctx.input(node, index))

    def _number(self, value: Value) -> str:
        """A condition as a number; a constant one is stored as numbers."""
        if value not in self.made:
            dims = tuple(d for d in value.shape or () if isinstance(d, int))
            kind = self.formula.dtype
            self.made[value] = self.build.later(dims, lambda: np.asarray(self.build.weight(value), kind), kind, "mask")
        return self.made[value]

    def _compared(self, node: Node) -> str:
        f, known = self.formula, _bound(node, self.ctx)
        if node.op_type == "Equal":
            return self._equal(node, known)
        below = node.op_type.startswith("Less")
        if known is None:  # x > y; x <= y is not x > y
            x, y = self._operand(node, 0), self._operand(node, 1)
            strict = not node.op_type.endswith("OrEqual")
            left, right = (y, x) if below == strict else (x, y)
            least = float(np.finfo(f.dtype).smallest_subnormal)
            ramp = f.clip(self._steep(f("Sub", left, right), least), 0.0, 1.0)
            return self._turned(ramp if strict else f("Sub", 1.0, ramp))
        bound, first, x = known[1], known[2], self._read(known[0])
        below = below == first
        near, infinity = np.asarray(bound, f.dtype), np.asarray(np.inf, f.dtype)
        if node.op_type.endswith("OrEqual"):
            near = np.nextafter(near, infinity if below else -infinity)
        gap = abs(float(np.nextafter(near, -infinity if below else infinity)) - float(near))
        if not (math.isfinite(gap) and gap):
            raise Refused(f"it compares with {bound:g}")
        ramp = f("Sub", float(near), x) if below else f("Sub", x, float(near))
        return self._turned(f.clip(self._steep(ramp, gap), 0.0, 1.0))

    def _equal(self, node: Node, known: tuple[Value, float, bool] | None) -> str:
        """1 less the square of the sign of the difference."""
        f = self.formula
        if known is None:
            gap = float(np.finfo(f.dtype).smallest_subnormal)
            difference = f("Sub", self._operand(node, 0), self._operand(node, 1))
        else:
            near, infinity = np.asarray(known[1], f.dtype), np.asarray(np.inf, f.dtype)
            gap = min(abs(float(np.nextafter(near, way)) - float(near)) for way in (infinity, -infinity))
            if not (math.isfinite(gap) and gap):
                raise Refused(f"it compares with {known[1]:g}")
            difference = f("Sub", self._read(known[0]), float(near))
        sign = f.clip(self._steep(difference, gap), -1.0, 1.0)
        return self._turned(f("Sub", 1.0, f("Mul", sign, sign)))

    def _steep(self, ramp: str, gap: float) -> str:
        """A difference times a power of two that makes 1 or more of the least one; it multiplies without rounding."""
        power, most = -math.frexp(gap)[1] + 1, np.finfo(self.formula.dtype).maxexp - 1
        while power > 0:
            step = min(power, most)
            ramp, power = self.formula("Mul", ramp, 2.0**step), power - step
        return ramp

    def _turned(self, mask: str) -> str:
        return self.formula("Sub", 1.0, mask) if self.turned else mask

    def _logic(self, node: Node) -> str:
        f = self.formula
        operands = [self._number(v) for v in node.inputs if v is not None]
        if node.op_type == "Not":
            return self._other(operands[0])
        a, b = operands
        if node.op_type == "And":
            return f("Mul", a, b)
        if node.op_type == "Or":
            return f("Sub", f("Add", a, b), f("Mul", a, b))
        difference = f("Sub", a, b)
        return f("Mul", difference, difference)

    def _other(self, mask: str) -> str:
        if mask not in self._others:
            self._others[mask] = self.formula("Sub", 1.0, mask)
            self._others[self._others[mask]] = mask
        return self._others[mask]

    def _chosen(self, node: Node) -> str:
        condition, yes, no = (self.ctx.input(node, i) for i in range(3))
        mask = self._number(condition)
        parts: list[str] = []
        for branch, left_out in ((yes, no), (no, yes)):
            if not self._is(branch, 0.0) or self._is(left_out, 0.0):
                chosen = mask if branch is yes else self._other(mask)
                alone = self._is(branch, 1.0) and condition.shape == node.output.shape
                parts.append(chosen if alone else self.formula("Mul", self._guarded(branch, chosen), chosen))
        return parts[0] if len(parts) == 1 else self.formula("Add", *parts)

    def _is(self, value: Value, number: float) -> bool:
        array = self.ctx.analysis.constants.get(value)
        return array is not None and array.size == 1 and array.ndim == 0 and float(array) == number

    def _guarded(self, value: Value, mask: str) -> Value | str:
        """A branch, computed from 1 where the mask is 0."""
        maker = value.producer
        if maker is None or maker not in self.region.kept:
            return self._read(value)
        operands = [None if v is None else self._guarded(v, mask) for v in maker.inputs]
        if maker.op_type in _SAFE_AT_ONE:
            at = 1 if maker.op_type == "Div" else 0
            divisor = operands[at]
            assert divisor is not None
            operands[at] = self.formula("Add", self.formula("Mul", divisor, mask), self._other(mask))
        return self.build.like(maker, *operands)[0]
