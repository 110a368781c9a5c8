from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.analysis.cost import size_bytes
from npu_guard.analysis.static import is_read
from npu_guard.checking.rule import Case, Draft, Rule
from npu_guard.device.keys import EVERY

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value


class TensorSize(Rule):
    """One activation is larger than the device's memory for it.

    *What it does*

    Compares the bytes of every input of the model, and of every operator's outputs, with `tensor.bytes_max`. Bytes are of
    the element type in the model, batch included. One finding for each operator, at its largest output.

    *Why it matters*

    A map that does not fit is cut into tiles, where the compiler can, and refused where it cannot.

    *What to do*

    Reduce the resolution earlier, use fewer channels at full resolution, or a smaller element type.
    """

    code = "NPU405"
    name = "tensor-size"
    ops = (EVERY,)
    limits = ("tensor.bytes_max",)
    good = (
        Case(
            "g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Relu(x) }",
            limits={"tensor.bytes_max": 512},
            title="512 bytes are the most that fits",
        ),
        Case(
            """g (float16[1,8,4,4] x) => (float16[1,8,4,4] y)
            <float16[64,8,4,4] c, int64[1] axes = {0}> { m = ReduceMax<keepdims = 1>(c, axes)  y = Add(x, m) }""",
            limits={"tensor.bytes_max": 256},
            title="a constant of any size",
        ),
    )
    bad = (
        Case(
            """g (float[1,8,4,4] x) => (float[1,16,4,4] y)
            <float[16,8,1,1] w> { y = Conv(x, w) }""",
            limits={"tensor.bytes_max": 512},
            expect=(("y", 1024),),
        ),
        Case(
            "g (float[1,8,4,5] x) => (y) { y = ReduceMean(x) }",
            limits={"tensor.bytes_max": 512},
            expect=(("x", 640),),
            title="the input itself",
        ),
        Case(
            "g (float[1,8,4,4] x) => (a, b) <int64[2] split = {2, 6}> { a, b = Split<axis = 1>(x, split) }",
            limits={"tensor.bytes_max": 512 - 256},
            expect=(("x", 512), ("a", 384)),
            title="the larger of two outputs",
        ),
        Case(
            'g (float[1,8,"H",4] x) => (y) { y = ReduceMean(x) }',
            limits={"tensor.bytes_max": 512},
            undecided=("x",),
            title="an unknown extent",
        ),
    )

    def check_input(self, value: Value, ctx: Context) -> Iterable[Draft]:
        return self._compare([value], ctx)

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        return self._compare([v for v in node.outputs if v is not None and v.name and (v is node.output or is_read(v))], ctx)

    def _compare(self, values: list[Value], ctx: Context) -> Iterable[Draft]:
        allowed = ctx.limit("tensor.bytes_max")
        largest = max(values, key=size_bytes, default=None)  # what is not known counts as 0 here
        if largest is not None and size_bytes(largest) > allowed:
            size = size_bytes(largest)
            text = f"{ctx.show(largest)} takes {size} bytes, more than {allowed}"
            yield Draft(text, limit="tensor.bytes_max", measured=size, value=largest)
            return
        for value in values:
            ctx.bytes(value)  # undecidable where it is not known
