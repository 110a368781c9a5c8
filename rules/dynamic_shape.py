from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.base.errors import Undecidable
from npu_guard.checking.rule import Case, Draft, Rule
from npu_guard.device.keys import EVERY
from npu_guard.graph.graph import is_known

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_STATIC = {"tensor.static_shape": True}


class DynamicShape(Rule):
    """An extent other than the batch is not known at compile time.

    *What it does*

    Looks at the inputs of the model, and at operators that turn tensors of known shape into one whose shape depends on
    data: NonZero, a Reshape to a computed shape, a branch. What follows from these is not reported again, and an
    operator that the device refuses is NPU101's alone. Extents that follow from the inputs' own are not dynamic once the
    inputs are fixed.

    *Why it matters*

    The compiler lays out all memory and all transfers beforehand. It needs every extent as a number.

    *What to do*

    Export with fixed sizes, or give them with `--input-shape`. Replace data-dependent selection by a mask, or run it on
    the host.
    """

    code = "NPU403"
    name = "dynamic-shape"
    ops = (EVERY,)
    limits = ("tensor.static_shape",)
    good = (
        Case(
            "g (float[1,8,4,4] x) => (n) { n = NonZero(x) }",
            limits=_STATIC,
            operators={"NonZero": "refused"},
            title="the whole operator is refused",
        ),
        Case(
            'g (float["N",8,4,4] x) => (y) { y = Relu(x) }',
            limits=_STATIC,
            title="a dynamic batch",
        ),
        Case(
            """g (float["N",8,4,4] x) => (y)
            <int64[1] rest = {-1}> { s = Shape<end = 1>(x)  t = Concat<axis = 0>(s, rest)  y = Reshape(x, t) }""",
            limits=_STATIC,
            title="a shape that follows from the input's",
        ),
        Case(
            'g (float["N",8,"H","W"] x) => (y) { y = Relu(x) }',
            limits={"tensor.static_shape": False},
            title="on a device that takes any shape",
        ),
    )
    bad = (
        Case(
            'g (float["N",8,"H","W"] x) => (y) { z = Relu(x)  y = Relu(z) }',
            limits=_STATIC,
            expect=(("x", None),),
            title="dynamic height and width, reported at the input alone",
        ),
        Case(
            "g (float[1,8,4,4] x) => (y) { i = NonZero(x)  y = Transpose(i) }",
            limits=_STATIC,
            expect=(("i", None),),
        ),
        Case(
            "g (float[1,8,4,4] x, int64[4] shape) => (y) { y = Reshape(x, shape) }",
            limits=_STATIC,
            expect=(("y", None),),
            title="a shape that the data give",
        ),
        Case(
            """g (float[1,8,4,4] x, bool c) => (y) {
            y = If(c) <then_branch = a () => (float[1,8,4,4] p) { p = Relu(x) },
                       else_branch = b () => (float[1,8,2,2] q) { q = MaxPool<kernel_shape = [2,2], strides = [2,2]>(x) }> }""",
            limits=_STATIC,
            expect=(("y", None),),
            title="branches of two shapes",
        ),
        Case(
            "g (float[] x) => (y) { y = Relu(x) }",
            limits=_STATIC,
            undecided=("x",),
            title="an input without a shape",
        ),
        Case(
            "g (float[1,8,4,4] x) => (y) { y = com.example.Pool(x) }",
            limits=_STATIC,
            undecided=("y",),
            title="an operator that ONNX does not define",
        ),
    )

    def needed(self, ctx: Context) -> bool:
        return not all(is_known(shape) for _, shape in ctx.kinds)

    def check_input(self, value: Value, ctx: Context) -> Iterable[Draft]:
        if not ctx.limit("tensor.static_shape"):
            return
        dynamic = [(axis, d) for axis, d in enumerate(ctx.dims(value)) if axis > 0 and not isinstance(d, int)]
        if dynamic:
            axes = ", ".join(f"{axis} ({d})" if d else str(axis) for axis, d in dynamic)
            yield Draft(f"dynamic ax{'es' if len(dynamic) > 1 else 'is'} {axes} of {ctx.show(value)}", "tensor.static_shape")

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        if not ctx.analysis.unknown or not ctx.limit("tensor.static_shape") or ctx.refuses(node):
            return
        inputs = [v for v in node.inputs if v is not None]
        if any(not _static(v, from_axis=1) for v in inputs):
            return
        # A dynamic batch may come in (a list of unknown length has nothing else) and go on, but not start here.
        start = 0 if all(_static(v) for v in inputs) else 1
        for value in node.outputs:
            if value is None or not value.name or _static(value, from_axis=start) or not ctx.analysis.is_read(value):
                continue
            why = ctx.why(value)
            told = node.operator.sized_by_data or node.subgraphs or _reads_numbers(node, ctx)
            if not told or why in ctx.overridable:
                raise Undecidable(why)
            yield Draft(f"{node.op} makes a shape that depends on data, {ctx.show(value)}", "tensor.static_shape", value=value)
            return


def _static(value: Value, from_axis: int = 0) -> bool:
    return value.shape is not None and is_known(value.shape[from_axis:])


def _reads_numbers(node: Node, ctx: Context) -> bool:
    """Whether a computed number or list comes in: shapes, sizes, counts and bounds all come that way."""
    if node.graph.model.schema(node) is None:
        return False
    return any(v.shape is not None and len(v.shape) < 2 and not ctx.is_constant(v) for v in node.inputs if v is not None)
