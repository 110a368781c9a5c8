from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from npu_guard.rewriting.arithmetic import FLOATS
from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_SINCE = 13
"""Before it, every axis from the stated one on is normalised together."""
_LAST_ONLY = ({"ops": ["Softmax", "LogSoftmax"], "metric": "axes", "in": [-1], "consequence": "host"},)
_CHANNELS_ONLY = ({"ops": ["Softmax", "LogSoftmax"], "metric": "axes", "is": 1, "consequence": "host"},)


class SoftmaxToOtherAxis(Substitution):
    """Softmax over one axis becomes a Transpose, Softmax over an axis that the device takes, and the Transpose back.

    The exponentials and their sum are those of the same numbers, whichever axis they lie along. The new axis is the last one or
    that of the channels; two axes change places, so the Transpose is its own inverse.
    """

    name = "softmax-to-other-axis"
    last = True  # others know their blocks by this operator
    roots = ("Softmax", "LogSoftmax")
    alone = True
    operators = dict.fromkeys(("Softmax", "LogSoftmax", "Transpose"), "supported")
    good = (
        Example(
            "g (float[1,8,4,5] x) => (y) { y = Softmax<axis = 1>(x) }",
            ops=("Transpose", "Softmax", "Transpose"),
            require=_LAST_ONLY,
            title="over the channels",
        ),
        Example(
            "g (float[2,8,4,5] x) => (y) { y = LogSoftmax<axis = -2>(x) }",
            ops=("Transpose", "LogSoftmax", "Transpose"),
            require=_CHANNELS_ONLY,
            title="over the rows",
        ),
        Example(
            "g (float[3,7] x) => (y) { y = Softmax<axis = 0>(x) }",
            ops=("Transpose", "Softmax", "Transpose"),
            require=_LAST_ONLY,
            title="a matrix",
        ),
        Example(
            "g (float[1,2,6,6] x) => (y) { y = Softmax<axis = 2>(x) }",
            ops=("Transpose", "Softmax", "Transpose"),
            require=_LAST_ONLY,
            title="over queries",
        ),
    )
    bad = (
        Example(
            "g (float[1,8,4,5] x) => (y) { y = Softmax<axis = 1>(x) }",
            refused="opset 12 normalises all axes from axis 1 on together",
            opset=12,
            require=_LAST_ONLY,
        ),
        Example(
            "g (float[1,8,H,5] x) => (y) { y = Softmax<axis = 1>(x) }", refused="its shapes are not known", require=_LAST_ONLY
        ),
        Example("g (float[9] x) => (y) { y = Softmax(x) }", refused="there is no other axis", require=_CHANNELS_ONLY),
    )

    def match(self, node: Node, ctx: Context) -> Sequence[Match]:
        extents, opset = numbers(node.output), node.graph.model.opsets.get("", 1)
        if extents is None:
            raise Refused("its shapes are not known; fix them with --input-shape")
        rank = len(extents)
        axis = node.attr("axis", -1) % max(rank, 1)
        if opset < _SINCE and axis != rank - 1:
            raise Refused(f"opset {opset} normalises all axes from axis {axis} on together")
        if node.output.dtype not in FLOATS:
            raise Refused("its elements are neither float32, float16 nor double")
        others = [a for a in dict.fromkeys((rank - 1, 1)) if a not in (axis, rank)] if rank > 1 else []
        if not others:
            raise Refused("there is no other axis")
        return [Match(self, node, (node,), (node.output,), (rank, axis, other), variant=other) for other in others]

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, match.root.op_type)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The logarithm forgotten, or taken."""
        return self._write(match, build, "Softmax" if match.root.op_type == "LogSoftmax" else "LogSoftmax")

    def _write(self, match: Match, build: Builder, op_type: str) -> Mapping[Value, str]:
        rank, axis, other = match.facts
        swap = list(range(rank))
        swap[axis], swap[other] = other, axis
        taken = build.op(op_type, build.op("Transpose", match.root.inputs[0], perm=swap), axis=other)
        return {match.root.output: build.op("Transpose", taken, perm=swap)}
