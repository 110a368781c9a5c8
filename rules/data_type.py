from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.analysis.types import DTYPE_NAMES
from npu_guard.base.errors import Undecidable
from npu_guard.checking.rule import Case, Draft, Rule
from npu_guard.device.keys import EVERY

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_FLOATS = {"tensor.dtypes": ["float32", "float16", "int8"]}


class DataType(Rule):
    """An activation has an element type that the device cannot hold.

    *What it does*

    Compares the element type of every input that is read, and of what every operator makes, with `tensor.dtypes`. An
    operator that the device refuses is NPU101's alone. What nobody reads, every compiler drops.

    *Why it matters*

    Memory and arithmetic of the device know a few types. Indices of 64 bits, masks and double precision are not among
    them.

    *What to do*

    Export in float32. Keep indices and masks as constants, so that the compiler folds them, or leave them to the host. A
    comparison with a constant has a form in floating point.
    """

    code = "NPU404"
    name = "data-type"
    ops = (EVERY,)
    limits = ("tensor.dtypes",)
    good = (
        Case(
            "g (float[1,8,4,4] x) => (n) { n = NonZero(x) }",
            limits=_FLOATS,
            operators={"NonZero": "refused"},
            title="the whole operator is refused",
        ),
        Case(
            "g (float[1,8,4,4] x, int64 mode) => (float[1,8,4,4] y) <int64 k = {2}> { y = Relu(x)  n = Mul(mode, k) }",
            limits=_FLOATS,
            title="an input that no output follows from",
        ),
        Case(
            "g (float[1,8,4,4] x) => (float16[1,8,4,4] y) { y = Cast<to = 10>(x) }",
            limits=_FLOATS,
        ),
        Case(
            """g (float[1,8,4,4] x) => (float[1,8,4,4] y)
            <int64[4] shape = {1, 8, 4, 4}, double[1] c> { z = Reshape(x, shape)  d = Cast<to = 1>(c)  y = Mul(z, d) }""",
            limits=_FLOATS,
            title="constants, and what the compiler folds",
        ),
    )
    bad = (
        Case(
            "g (double[1,8,4,4] x) => (float[1,8,4,4] y) { y = Cast<to = 1>(x) }",
            limits=_FLOATS,
            expect=(("x", "float64"),),
            allowed="float32, float16, int8",
            title="double precision at the input",
        ),
        Case(
            "g (float[1,8,4,4] x) => (int64[1,1,4,4] y) { y = ArgMax<axis = 1>(x) }",
            limits=_FLOATS,
            expect=(("y", "int64"),),
            allowed="float32, float16, int8",
            title="indices",
        ),
        Case(
            """g (float[1,8,4,4] x) => (float[1,8,2,2] y, int64[1,8,2,2] i)
            { y, i = MaxPool<kernel_shape = [2,2], strides = [2,2]>(x) }""",
            limits=_FLOATS,
            expect=(("y", "int64"),),
            allowed="float32, float16, int8",
            title="indices beside a map",
        ),
        Case(
            "g (float[1,8,4,4] x) => (y, z) { z = com.example.Op(x)  y = Relu(x) }",
            limits=_FLOATS,
            undecided=("z",),
            title="an operator that ONNX does not define",
        ),
    )

    def needed(self, ctx: Context) -> bool:
        known = ctx.limit("tensor.dtypes")
        return any(DTYPE_NAMES.get(dtype) not in known for dtype, _ in ctx.kinds)

    def check_input(self, value: Value, ctx: Context) -> Iterable[Draft]:
        if value in ctx.quantized.encodings:
            return  # integers that stand for numbers: NPU805 says which of them the device holds
        if value.producer is None and not ctx.analysis.is_read(value):
            return
        dtype, known = ctx.dtype(value), ctx.limit("tensor.dtypes")
        if value.dtype == 0:
            raise Undecidable(f"the element type of {value.name!r} is not known")
        if dtype not in known:
            name = dtype or f"type {value.dtype}"
            yield Draft(f"elements of {name}", limit="tensor.dtypes", measured=name, allowed=", ".join(known), value=value)

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        if node.output.name and not ctx.refuses(node):
            yield from self.check_input(node.output, ctx)
            for value in node.outputs[1:]:
                if value is not None and ctx.analysis.is_read(value):
                    yield from self.check_input(value, ctx)
