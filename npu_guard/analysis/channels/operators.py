"""What each operator does to the channels of values that could be widened.

An operator that is not in the table, or not in a form that is understood here, carries nothing: whatever is widened in front
of it is cut back to its original width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from npu_guard.analysis.channels.flow import Carry, Extent, Flow, Form, Operator, Stretch
from npu_guard.graph.graph import Node, Value


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
    forms = {dataclasses.replace(flow.forms[v], zero=True) for v in wide.values()}
    if len(forms) != 1:
        return None
    zero = all(zeros)
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
    made = dataclasses.replace(forms.pop(), zero=zero)
    return Carry(node, wide, {y: made}, tuple((y, v, 0) for v in wide.values()), stretch=stretch)


def _concat(node: Node, flow: Flow) -> Carry | None:
    ctx, y = flow.ctx, node.output
    sources = [flow.source(node, i) for i in range(len(node.inputs))]
    wide = {i: v for i, v in enumerate(sources) if v in flow.forms}
    forms = [flow.forms[v] for v in wide.values()]
    zero = all(f.zero for f in forms)
    if node.attr("axis", 1) % ctx.rank(y) != 1:
        alike = {dataclasses.replace(f, zero=True) for f in forms}
        if len(alike) != 1 or len(wide) != len(sources):
            return None
        return Carry(node, wide, {y: dataclasses.replace(alike.pop(), zero=zero)}, tuple((y, v, 0) for v in sources))
    if not wide or any(f.factor > 1 for f in forms):
        return None
    ties, pinned, offset = [], {}, 0
    for i, value in enumerate(sources):
        extent = ctx.extent(value, 1)
        ties.append((y, value, offset))
        offset += extent
        if i not in wide:
            pinned[value] = extent
    rigid = y if pinned or any(f.rigid for f in forms) else None
    return Carry(node, wide, {y: Form(offset, zero=zero, rigid=rigid)}, tuple(ties), pinned=pinned)


def _split(node: Node, flow: Flow) -> Carry | None:
    x = flow.source(node, 0)
    form = flow.forms.get(x)
    if form is None:
        return None
    parts = [v for v in node.outputs if v is not None]
    if node.attr("axis", 0) % flow.ctx.rank(x) != 1:
        return Carry(node, {0: x}, dict.fromkeys(parts, form), tuple((x, v, 0) for v in parts))
    if form.factor > 1 or len(parts) != len(node.outputs):
        return None
    made, ties, offset = {}, [], 0
    for part in parts:
        made[part] = dataclasses.replace(form, units=flow.ctx.extent(part, 1), rigid=form.rigid and part)
        ties.append((x, part, offset))
        offset += made[part].units
    sizes = tuple((v, made[v].units) for v in parts)
    return Carry(node, {0: x}, made, tuple(ties), numbers={1 if flow.opset >= 13 else "split": sizes})


def _slice(node: Node, flow: Flow) -> Carry | None:
    x, y, ctx = flow.source(node, 0), node.output, flow.ctx
    form = flow.forms.get(x)
    if form is None:
        return None
    if flow.opset < 10:
        starts, axes, steps = node.attributes["starts"], node.attributes.get("axes"), None
    else:
        starts, axes, steps = (None if a is None else a.tolist() for a in (flow.small(node, i) for i in (1, 3, 4)))
    axes = range(len(starts)) if axes is None else axes
    if 1 not in [a % ctx.rank(x) for a in axes]:
        return flow.same(node)
    if len(starts) > 1 or form.factor > 1 or steps not in (None, [1]):
        return None
    start, units = min(starts[0] + (form.units if starts[0] < 0 else 0), form.units), ctx.extent(y, 1)
    start = max(start, 0)
    if not units:
        return None
    low, high = (1, 2) if flow.opset >= 10 else ("starts", "ends")
    numbers: dict[int | str, tuple[Extent, ...]] = {low: ((x, start),), high: ((x, start + units),)}
    form = dataclasses.replace(form, units=units, rigid=form.rigid and y)
    return Carry(node, {0: x}, {y: form}, ((x, y, start),), numbers=numbers)


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


def _reshape(node: Node, flow: Flow) -> Carry | None:
    """Batch and channels stay in front; space may take another form, or follow the channels into one axis."""
    before, after = flow.ctx.dims(flow.ctx.input(node, 0)), flow.ctx.dims(node.output)
    carry = flow.same(node)
    if carry is None or min(len(before), len(after)) < 2 or before[0] is None or before[0] != after[0]:
        return None
    if node.op_type != "Reshape" and before[1] == 1:
        return None  # which axis goes or comes hangs on the one channel being one
    form, space = carry.forms[node.output], [d for d in before[2:] if isinstance(d, int)]
    rest = [d for d in after[2:] if isinstance(d, int)]
    if len(space) != len(before) - 2 or len(rest) != len(after) - 2:
        return None
    if after[1] != before[1]:
        if rest or after[1] != form.units * form.factor * int(np.prod(space)):
            return None
        form = dataclasses.replace(form, factor=form.factor * int(np.prod(space)))
        carry.forms = {node.output: form}
    if node.op_type == "Reshape":
        if flow.opset < 5 or (node.attr("allowzero", 0) and not isinstance(before[0], int)):
            return None
        batch = before[0] if isinstance(before[0], int) else 0
        carry.numbers = {1: (batch, (node.output, form.units), *rest)}
    return carry


def _resize(node: Node, flow: Flow) -> Carry | None:
    carry = flow.same(node)
    if carry is None or node.attr("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        return None
    x = carry.wide[0]
    axes = [a % flow.ctx.rank(x) for a in node.attributes.get("axes", range(flow.ctx.rank(x)))]
    if 1 not in axes:
        return carry
    at, newest = axes.index(1), node.op_type == "Resize" and flow.opset >= 11
    sizes = flow.small(node, 3) if newest else None
    if sizes is not None and sizes.size:
        if node.attr("keep_aspect_ratio_policy", "stretch") != "stretch" or sizes[at] != flow.ctx.extent(node.output, 1):
            return None
        extents: list[Extent] = [int(s) for s in sizes]
        extents[at] = (node.output, carry.forms[node.output].units)
        carry.numbers = {3: tuple(extents)}
        return carry
    scales = node.attributes["scales"] if "scales" in node.attributes else flow.small(node, 2 if newest else 1)
    return carry if scales is not None and scales[at] == 1 else None


def _pad(node: Node, flow: Flow) -> Carry | None:
    x = flow.source(node, 0)
    if x not in flow.forms:
        return None
    pads = node.attr("pads") if flow.opset < 11 else flow.ctx.array(flow.ctx.input(node, 1)).tolist()
    if pads is None:
        return None
    given = flow.small(node, 3) if flow.opset >= 18 else None
    axes = [a % flow.ctx.rank(x) for a in (range(len(pads) // 2) if given is None else given.tolist())]
    if any(pads[i] or pads[i + len(axes)] for i, axis in enumerate(axes) if axis == 1):
        return None
    filled = flow.small(node, 2) if flow.opset >= 11 else np.asarray(node.attr("value", 0.0))
    if filled is None or not filled.any() or node.attr("mode", "constant") != "constant":
        return flow.same(node)
    return flow.same(node, zero=False) if np.isfinite(filled.astype(np.float64)).all() else None


def _clip(node: Node, flow: Flow) -> Carry | None:
    def bound(index: int, name: str) -> float | None:
        value = node.input(index)
        found = node.attributes.get(name) if value is None else flow.ctx.analysis.constants.get(value)
        return None if found is None else float(np.asarray(found).reshape(-1)[0])

    low, high = bound(1, "min"), bound(2, "max")
    known = (low is not None or node.input(1) is None) and (high is not None or node.input(2) is None)
    keeps = known and (low is None or low <= 0) and (high is None or high >= 0)
    return flow.same(node, zero=None if keeps else False)


def _exp(node: Node, flow: Flow) -> Carry | None:
    """Defined at zero; what other paddings would give is not known."""
    form = flow.forms.get(flow.source(node, 0))
    return flow.same(node, zero=node.op_type == "Sqrt") if form is not None and form.zero else None


def _cast(node: Node, flow: Flow) -> Carry | None:
    floats = (1, 10, 11, 16)
    return flow.same(node) if node.attr("to") in floats and flow.ctx.input(node, 0).dtype in floats else None


def _softmax(node: Node, flow: Flow) -> Carry | None:
    if flow.opset < 13 or node.attr("axis", -1) % flow.ctx.rank(node.output) == 1:
        return None
    return flow.same(node, zero=False)


def _transpose(node: Node, flow: Flow) -> Carry | None:
    return flow.same(node) if tuple(node.attributes.get("perm", ()))[:2] == (0, 1) else None


def _quantize(node: Node, flow: Flow) -> Carry | None:
    scale = flow.ctx.input(node, 1)
    one = flow.ctx.is_constant(scale) and all(d == 1 for d in flow.ctx.dims(scale))
    return flow.same(node, zero=False) if one else None  # the padding is the zero point, whatever that stands for


_ZERO_STAYS = (
    "Relu", "LeakyRelu", "ThresholdedRelu", "Elu", "Selu", "Celu", "Gelu", "Mish", "HardSwish", "Swish", "Tanh", "Erf",
    "Softsign", "Abs", "Neg", "Sign", "Floor", "Ceil", "Round", "Sin", "Atan",
    "MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool",
)  # fmt: skip
_FINITE = ("Sigmoid", "HardSigmoid", "Softplus", "Cos")
OPERATORS: Mapping[str, Operator] = {
    **dict.fromkeys(_ZERO_STAYS, lambda node, flow: flow.same(node)),
    **dict.fromkeys(_FINITE, lambda node, flow: flow.same(node, zero=False)),
    **dict.fromkeys(("Conv", "ConvTranspose"), _convolution),
    **dict.fromkeys(("Gemm", "MatMul"), _gemm),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Pow", "PRelu"), _elementwise),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), _normalization),
    **dict.fromkeys(
        ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare"), _reduce
    ),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    **dict.fromkeys(("Exp", "Sqrt"), _exp),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _quantize),
    "Concat": _concat, "Split": _split, "Slice": _slice, "Pad": _pad, "Clip": _clip, "Cast": _cast, "Softmax": _softmax,
    "Transpose": _transpose,
}  # fmt: skip
