"""What each operator does to the channels of values that could be widened.

An operator that is not in the table, or not in a form that is understood here, carries nothing: whatever is widened in front
of it is cut back to its original width.
"""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from npu_guard.analysis.channels import moves
from npu_guard.analysis.channels.flow import Carry, Flow, Form, Operator, Stretch
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.handlers import Handlers


def _convolution(node: Node, flow: Flow) -> Carry | None:
    """Zero filters make the channels, zero weights take them. Depthwise groups grow with the channels, others do not."""
    ctx, y, transposed = flow.ctx, node.output, node.op_type == "ConvTranspose"
    weight = flow.weight(node, 1)
    assert weight is not None
    flow.weight(node, 2)
    x, group = flow.source(node, 0), int(node.attr("group", 1))
    first, second = ctx.extent(weight, 0), ctx.extent(weight, 1)
    channels, width = (first, second * group) if transposed else (second * group, first)
    form = flow.forms.get(x)
    stretch = {2: Stretch({0: (y, 1)})} if node.input(2) is not None else {}
    if form is not None and 1 < group == channels and form.rigid is None:
        stretch[1] = Stretch({0: (x if transposed else y, 1)})
        made = {y: Form(form.units, form.factor * (width // group))}
        return Carry(node, {0: x}, made, ((x, y, 0),), stretch=stretch, numbers={"group": ((x, form.units),)}, width=width)
    if form is not None and group > 1 and (form.rigid is not None or form.factor > 1):
        form = None  # its groups could not be padded alike, so it is read as it is
    axes = {1: (y, group)} if transposed else {0: (y, 1)}
    if form is not None:
        axes |= {0: (x, 1)} if transposed else {1: (x, group)}
    stretch[1] = Stretch(axes)
    values = (y,) if form is None else (x, y)
    groups = tuple((v, group) for v in values) if group > 1 else ()
    return Carry(node, {0: x} if form is not None else {}, {y: Form(width)}, groups=groups, stretch=stretch, width=width)


def _gemm(node: Node, flow: Flow) -> Carry | None:
    ctx, y = flow.ctx, node.output
    weight = ctx.input(node, 1)
    if node.op_type == "MatMul" and not (ctx.rank(ctx.input(node, 0)) == ctx.rank(weight) == 2):
        return None
    flow.weight(node, 1)
    bias = flow.weight(node, 2)
    x, side = flow.source(node, 0), 0 if node.attr("transB", 0) else 1
    width, wide, axes = ctx.extent(weight, side), {}, {side: (y, 1)}
    if x in flow.forms and not node.attr("transA", 0):
        wide, axes = {0: x}, {**axes, 1 - side: (x, 1)}
    stretch = {1: Stretch(axes)}
    apart = bias is not None and ctx.rank(bias) > 0 and ctx.extent(bias, -1) == width
    if bias is not None and apart:
        stretch[2] = Stretch({ctx.rank(bias) - 1: (y, 1)})
    zero = bias is None or apart  # else there is one bias for all
    return Carry(node, wide, {y: Form(width, zero=zero)}, stretch=stretch, width=width)


def _elementwise(node: Node, flow: Flow) -> Carry | None:
    """All operands with channels have to be widened alike; those without are broadcast over the padding too."""
    if flow.opset < 7:  # operands were lined up by attributes
        return None
    ctx, y = flow.ctx, node.output
    rank, channels = ctx.rank(y), ctx.extent(y, 1)
    wide: dict[int, Value] = {}
    stretch: dict[int, Stretch] = {}
    zeros: list[bool] = []
    for i in range(len(node.inputs)):
        value = flow.source(node, i)
        constant, form = ctx.is_constant(value), flow.forms.get(value)
        axis = 1 - rank + ctx.rank(value)
        extent = ctx.extent(value, axis) if axis >= 0 else 1
        if form is not None and axis == 1 and extent == channels:
            wide[i] = value
        elif constant and extent == channels > 1:
            flow.weight(node, i)
            stretch[i] = Stretch({axis: (y, 1)}, float(node.op_type == "Div"))
        elif extent > 1:
            return None
        zeros.append(form.zero if i in wide and form is not None else i in stretch)
    forms = {replace(flow.forms[v], zero=True) for v in wide.values()}
    if len(forms) != 1:
        return None
    zero = all(zeros) and node.operator.keeps_zero
    if node.op_type == "Mul":
        zero = any(zeros)
    elif node.op_type in ("Div", "Pow", "PRelu"):
        if list(wide) != [0] or not ctx.is_constant(node.inputs[1]):
            return None
        operand = flow.small(node, 1) if node.op_type != "PRelu" and 1 not in stretch else None
        if operand is not None and not ((operand != 0).all() if node.op_type == "Div" else (operand > 0).all()):
            return None
        zero = zeros[0]
        if node.op_type == "Pow" and not (zero and operand is not None):
            return None
    elif not node.operator.keeps_finite:
        return None
    made = replace(forms.pop(), zero=zero)
    return Carry(node, wide, {y: made}, tuple((y, v, 0) for v in wide.values()), stretch=stretch)


def _normalization(node: Node, flow: Flow) -> Carry | None:
    if node.attr("training_mode", 0) or not node.attr("spatial", 1) or node.attr("epsilon", 1e-5) <= 0:
        return None
    count = 5 if node.op_type == "BatchNormalization" else 3
    for i in range(1, count):
        flow.weight(node, i)
    return flow.same(node, zero=True, stretch={i: Stretch({0: (node.output, 1)}, float(i == 4)) for i in range(1, count)})


def _reduce(node: Node, flow: Flow) -> Carry | None:
    axes, keeps, x = flow.ctx.axes(node), node.attr("keepdims", 1), flow.source(node, 0)
    if 1 not in axes:
        return flow.same(node) if keeps or 0 not in axes else None
    form = flow.forms.get(x)
    if form is None or not form.zero or node.op_type not in ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare"):
        return None
    return Carry(node, {0: x}, {})  # zeros add nothing


def _clip(node: Node, flow: Flow) -> Carry | None:
    def bound(index: int, name: str) -> float | None:
        value = node.input(index)
        found = node.attributes.get(name) if value is None else flow.ctx.analysis.constants.get(value)
        return None if found is None else float(np.asarray(found).reshape(-1)[0])

    low, high = bound(1, "min"), bound(2, "max")
    known = (low is not None or node.input(1) is None) and (high is not None or node.input(2) is None)
    keeps = known and (low is None or low <= 0) and (high is None or high >= 0)
    return flow.same(node, zero=None if keeps else False)


def _alike(node: Node, flow: Flow) -> Carry | None:
    """Each channel by itself, as the operator's record says what becomes of zeros and of finite numbers."""
    operator = node.operator
    if operator.keeps_finite:
        return flow.same(node, zero=None if operator.keeps_zero else False)
    form = flow.forms.get(flow.source(node, 0))  # of other paddings than zeros it is not known whether they stay finite
    defined = operator.finite_at_zero and form is not None and form.zero
    return flow.same(node, zero=operator.keeps_zero) if defined else None


def _cast(node: Node, flow: Flow) -> Carry | None:
    floats = (1, 10, 11, 16)
    return flow.same(node) if node.attr("to") in floats and flow.ctx.input(node, 0).dtype in floats else None


def _softmax(node: Node, flow: Flow) -> Carry | None:
    if flow.opset < 13 or node.attr("axis", -1) % flow.ctx.rank(node.output) == 1:
        return None
    return flow.same(node, zero=False)


def _quantize(node: Node, flow: Flow) -> Carry | None:
    scale = flow.ctx.input(node, 1)
    one = flow.ctx.is_constant(scale) and all(d == 1 for d in flow.ctx.dims(scale))
    return flow.same(node, zero=False) if one else None  # the padding is the zero point, whatever that stands for


OPERATORS: Handlers[Operator] = Handlers(
    {
        "unary": _alike, "pooling": _alike, "global pooling": _alike, "broadcasting": _elementwise, "reduction": _reduce,
        "view": moves.reshape, "softmax": _softmax,
    },
    {
        "Clip": _clip, "Cast": _cast, "Conv": _convolution, "ConvTranspose": _convolution, "Gemm": _gemm, "MatMul": _gemm,
        "BatchNormalization": _normalization, "InstanceNormalization": _normalization, "Resize": moves.resize,
        "Upsample": moves.resize, "QuantizeLinear": _quantize, "DequantizeLinear": _quantize, "Concat": moves.concat,
        "Split": moves.split, "Slice": moves.cut, "Pad": moves.pad, "Transpose": moves.transpose,
    },
    {
        "Acosh Log Reciprocal": "zeros have no finite result",
        "CastLike BitCast IsInf IsNaN Not BitwiseNot": "what comes out is read as another type",
        "Mod BitShift BitwiseAnd BitwiseOr BitwiseXor": "integers, which are no feature maps",
        "And Or Xor Equal Greater GreaterOrEqual Less LessOrEqual Where": "masks, whose paddings nobody has asked for yet",
        "MaxUnpool": "its indices count elements of the whole map",
        "ArgMax ArgMin ReduceProd ReduceLogSum ReduceLogSumExp": "their result over padded channels is another",
        "ConvInteger QLinearConv DeformConv CausalConvWithState": "their weights are not stretched here",
        "Einsum MatMulInteger QLinearMatMul": "their weights are not stretched here",
        "GroupNormalization LRN LayerNormalization LpNormalization MeanVarianceNormalization RMSNormalization"
        " SimplifiedLayerNormalization": "they mix channels",
        "DynamicQuantizeLinear": "its scale is computed from all channels",
    },
    covers=("convolution", "product", "normalization", "quantization"),
)  # fmt: skip
