from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING

from npu_guard.graph.graph import is_known
from npu_guard.results.proof import SAMPLED
from npu_guard.rewriting.arithmetic import Formula, writable
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_MOST = 8
"""The highest norm: of higher powers nothing is left in float32."""
_DILATIONS = 19
"""The first opset in which AveragePool has dilations."""
_KEPT = ("kernel_shape", "strides", "pads", "dilations", "auto_pad")


class LpPoolToAverage(Substitution):
    """A pool of norms becomes an average of powers.

    The p-norm of a window of n numbers is (|a|^p + |b|^p + ...)^(1/p), and the sum is n times the mean of all n, where what is
    padded counts as zero. |x|^1 is Abs, |x|^2 is x times x; the root is Sqrt for p = 2, a Pow beyond, and none for p = 1.
    GlobalLpPool is the same over the whole map.
    """

    name = "lp-pool-to-average"
    roots = ("LpPool", "GlobalLpPool")
    alone = True
    operators = dict.fromkeys(("Abs", "Mul", "Pow", "AveragePool", "GlobalAveragePool", "Sqrt"), "supported")
    good = (
        Example(
            "g (float[1,3,8,7] x) => (y) { y = LpPool<kernel_shape = [3,3], pads = [1,1,1,1]>(x) }",
            ops=("Mul", "AveragePool", "Mul", "Sqrt"),
        ),
        Example(
            "g (float[2,3,9,6] x) => (y) { y = LpPool<kernel_shape = [3,2], strides = [2,1], p = 1>(x) }",
            ops=("Abs", "AveragePool", "Mul"),
            title="sums of magnitudes, strided",
        ),
        Example(
            "g (float[1,4,5,7] x) => (y) { y = GlobalLpPool(x) }",
            ops=("Mul", "GlobalAveragePool", "Mul", "Sqrt"),
            title="over the whole map",
        ),
        Example(
            "g (float[1,4,15] x) => (y) { y = LpPool<kernel_shape = [5], p = 3>(x) }",
            ops=("Abs", "Pow", "AveragePool", "Mul", "Pow"),
            title="the third norm of a row",
            label=SAMPLED,
        ),
        Example(
            "g (float[1,2,9,9] x) => (y) { y = LpPool<kernel_shape = [2,3], dilations = [2,3], p = 4>(x) }",
            ops=("Pow", "AveragePool", "Mul", "Pow"),
            title="dilated",
            label=SAMPLED,
        ),
    )
    bad = (
        Example(
            "g (float[1,2,9,9] x) => (y) { y = LpPool<kernel_shape = [2,2], strides = [2,2], ceil_mode = 1>(x) }",
            refused="windows that reach beyond the padding",
        ),
        Example("g (float[1,2,9,9] x) => (y) { y = LpPool<kernel_shape = [2,2], p = 9>(x) }", refused="the norm of 9"),
        Example("g (float[1,2,H,9] x) => (y) { y = GlobalLpPool(x) }", refused="its shape is not known"),
        Example(
            "g (float[1,2,9,9] x) => (y) { y = LpPool<kernel_shape = [2,2], dilations = [2,2]>(x) }",
            opset=18,
            refused="opset 18 is older than 19",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match:
        writable(node)
        shape, opset = ctx.input(node, 0).shape, node.graph.model.opsets.get("", 1)
        if not 1 <= node.attr("p", 2) <= _MOST:
            raise Refused(f"the norm of {node.attr('p', 2)} has no form")
        if node.op_type == "GlobalLpPool":
            if shape is None or not is_known(shape[2:]):
                raise Refused("its shape is not known; fix it with --input-shape")
            return Match(self, node, (node,), (node.output,), prod(shape[2:]))
        if node.attr("ceil_mode", 0):
            raise Refused("windows that reach beyond the padding count less")
        if opset < _DILATIONS and any(d != 1 for d in node.attr("dilations", ())):
            raise Refused(f"opset {opset} is older than {_DILATIONS}, in which AveragePool has dilations")
        return Match(self, node, (node,), (node.output,), prod(ctx.kernel(node)))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, match.facts)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The mean of the window and not its sum."""
        return self._write(match, build, match.facts - 1)

    def _write(self, match: Match, build: Builder, count: int) -> Mapping[Value, str]:
        node, f = match.root, Formula(build, match.root.output)
        x, p = node.inputs[0], node.attr("p", 2)
        assert x is not None
        powers = f("Mul", x, x) if p == 2 else f("Abs", x) if p == 1 else f("Pow", f("Abs", x) if p % 2 else x, p)
        if node.op_type == "GlobalLpPool":
            mean = f("GlobalAveragePool", powers)
        else:
            kept = {name: node.attributes[name] for name in _KEPT if node.attributes.get(name)}
            mean = build.op("AveragePool", powers, **kept, count_include_pad=1)
        total = f("Mul", mean, count)
        return {node.output: total if p == 1 else f("Sqrt", total) if p == 2 else f("Pow", total, Fraction(1, p))}
