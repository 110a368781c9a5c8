from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from npu_guard.base.errors import Undecidable
from npu_guard.rewriting.arithmetic import Formula, writable
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

MOST = 8.0
"""How far beyond 0 a bound may lie: a number near 0 is rounded as the bound is, so its error is at most 1e-6."""
_EXTREMES = "extremes"
_RELU = "relu"


class ExtremeToRelu(Substitution):
    """Max, Min and Clip against constants become a difference, a Relu and a sum, or a Clip becomes Max and Min.

    max(x, c) = c + relu(x - c) and min(x, c) = c - relu(c - x), so clip(x, l, h) = h - relu((h - l) - relu(x - l)). An x that is
    far smaller than c keeps the digits that c has there: nothing is lost where the result is at least as large as c, otherwise
    c has to be small. Two tensors that are both computed may differ by any factor, so they stay.
    """

    name = "extreme-to-relu"
    last = True  # others know their blocks by this operator
    roots = ("Max", "Min", "Clip")
    alone = True
    operators = dict.fromkeys(("Relu", "Add", "Sub"), "supported")
    good = (
        Example(
            "g (float[1,8,4,4] x) => (y) <float c = {100.0}> { y = Max(x, c) }",
            ops=("Sub", "Relu", "Add"),
            title="a large lower bound: no result is smaller",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) <float[8,1,1] c = {0.1, 0.2, -3, 4, 5, -0.5, 2, 0}> { y = Min(c, x) }",
            ops=("Sub", "Relu", "Sub"),
            title="against a constant",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) <float l = {-1.5}, float h = {2.5}> { y = Clip(x, l, h) }",
            ops=("Sub", "Relu", "Sub", "Relu", "Sub"),
            title="both bounds",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) <float l = {0.001}> { y = Clip(x, l) }",
            ops=("Sub", "Relu", "Add"),
            title="a lower bound",
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) <float l = {-1.5}, float h = {2.5}> { y = Clip(x, l, h) }",
            ops=("Max", "Min"),
            operators={"Max": "supported", "Min": "supported"},
            title="a Clip by Max and Min",
        ),
    )
    bad = (
        Example(
            "g (float[1,8,4,4] x, float[1,8,4,4] z) => (y) { y = Max(x, z) }", refused="it compares no tensor with a constant"
        ),
        Example(
            "g (float[1,8,4,4] x) => (y) <float l = {-1000000.0}> { y = Max(x, l) }",
            refused="beside a bound of -1e+06 too many digits of the other side are lost",
        ),
        Example("g (int32[1,8,4,4] x, int32[1,8,4,4] z) => (y) { y = Max(x, z) }", refused="neither float32, float16 nor double"),
        Example("g (float[1,8,4,4] x, float l) => (y) { y = Clip(x, l) }", refused="its bounds are computed"),
    )

    def match(self, node: Node, ctx: Context) -> Sequence[Match]:
        writable(node)
        if node.op_type == "Clip":
            low, high = (_bound(node, ctx, i) for i in (1, 2))
            if low is None and high is None:
                raise Refused("it has no bound")
            facts: tuple[object, ...] = ("Clip", low, high)
        else:
            constants = [v for v in node.inputs if v is not None and ctx.is_constant(v)]
            others = [v for v in node.inputs if v is not None and v not in constants]
            if len(constants) != 1 or len(others) != 1:
                raise Refused("it compares no tensor with a constant")
            facts = (node.op_type, others[0], constants[0])
            array = ctx.array(constants[0])
            low, high = (float(array.min()), None) if node.op_type == "Max" else (None, float(array.max()))
        matches = []
        if node.op_type == "Clip":
            matches.append(Match(self, node, (node,), (node.output,), facts, variant=_EXTREMES))
        lossy = next((b for b, sign in ((low, -1), (high, 1)) if b is not None and not b * sign <= MOST), None)
        if lossy is None:
            matches.append(Match(self, node, (node,), (node.output,), facts, variant=_RELU))
        if not matches:
            raise Refused(f"beside a bound of {lossy:g} too many digits of the other side are lost")
        return matches

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        f, (kind, a, b) = Formula(build, match.root.output), match.facts
        return {match.root.output: _clip(match, f, a, b) if kind == "Clip" else _against(f, kind, a, b)}

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The other one of both; bounds that lie a little further apart."""
        f, (kind, a, b) = Formula(build, match.root.output), match.facts
        if kind != "Clip":
            return {match.root.output: f("Sub", b, f("Relu", f("Sub", b if kind == "Max" else a, a if kind == "Max" else b)))}
        wider = (a if a is None else a - 0.01, b if b is None else b + 0.01)
        return {match.root.output: _clip(match, f, *wider)}


def _against(f: Formula, kind: str, x: str | Value, bound: Value | float) -> str:
    """max(x, bound) or min(x, bound)."""
    return f("Add", f("Relu", f("Sub", x, bound)), bound) if kind == "Max" else f("Sub", bound, f("Relu", f("Sub", bound, x)))


def _clip(match: Match, f: Formula, low: float | None, high: float | None) -> str:
    x = match.root.inputs[0]
    assert x is not None
    if match.variant == _EXTREMES:
        above = f("Max", x, low) if low is not None else x
        return f("Min", above, high) if high is not None else str(above)
    if low is None or high is None:
        bound = high if low is None else low
        assert bound is not None
        return _against(f, "Min" if low is None else "Max", x, bound)
    return f("Sub", high, f("Relu", f("Sub", high - low, f("Relu", f("Sub", x, low)))))


def _bound(node: Node, ctx: Context, index: int) -> float | None:
    stated = node.attr(("min", "max")[index - 1]) if node.input(index) is None else None
    if node.input(index) is None:
        return float(stated) if stated is not None and abs(stated) < _LARGEST else None
    try:
        array = ctx.array(ctx.input(node, index))
    except Undecidable:
        raise Refused("its bounds are computed") from None
    return float(array.reshape(()))


_LARGEST = 3.4e38
"""What the attributes of an old Clip are where no bound is meant."""
