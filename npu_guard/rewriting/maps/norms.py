"""Reductions, softmax and normalizations over any axes of tensors that lie in maps, by their definitions."""

from __future__ import annotations

import math
from collections.abc import Iterable

from msgspec.structs import replace

from npu_guard.base.text import short
from npu_guard.graph.graph import Value
from npu_guard.rewriting.maps.algebra import Maps, fixed, meeting, reduced, softmax
from npu_guard.rewriting.maps.regroup import reshaped
from npu_guard.rewriting.maps.step import Step, flat, is_read
from npu_guard.rewriting.maps.tensors import Laid
from npu_guard.rewriting.substitution import Refused
from npu_guard.rewriting.views import Atom

_BEFORE = {"ReduceL1": "Abs", "ReduceLogSumExp": "Exp"}
_BEHIND = {"ReduceL2": "Sqrt", "ReduceLogSum": "Log", "ReduceLogSumExp": "Log"}


def reduction(step: Step) -> list[Laid]:
    """Sums, means, extremes and norms. Raises Refused."""
    x, node, op_type = step.tensor(), step.node, step.node.op_type
    axes = step.axes(x)
    if not axes and node.attr("noop_with_empty_axes", 0):
        return [x]
    program = step.maps.program
    if op_type in ("ReduceL2", "ReduceSumSquare"):
        x = replace(x, name=program.two("Mul", x.name, x.name))
    elif op_type in _BEFORE:
        x = replace(x, name=program.one(_BEFORE[op_type], x.name))
    plain = op_type if op_type in ("ReduceMean", "ReduceMax", "ReduceMin") else "ReduceSum"
    if op_type == "ReduceProd":
        raise Refused("ReduceProd has no form on maps")
    x = reduced(step.maps, plain, x, frozenset(flat([x.axes[a] for a in axes])))
    if op_type in _BEHIND:
        x = replace(x, name=program.one(_BEHIND[op_type], x.name))
    if not node.attr("keepdims", 1):
        x = replace(x, axes=tuple(a for i, a in enumerate(x.axes) if i not in axes))
    return [x]


def pooled(step: Step) -> list[Laid]:
    """GlobalAveragePool and GlobalMaxPool, of tensors that are no maps."""
    x = step.tensor()
    op_type = "ReduceMean" if step.node.op_type == "GlobalAveragePool" else "ReduceMax"
    return [reduced(step.maps, op_type, x, frozenset(flat(x.axes[2:])))]


def softmaxed(step: Step) -> list[Laid]:
    """Softmax and LogSoftmax over one axis."""
    x, node = step.tensor(), step.node
    opset = node.graph.model.opsets.get("", 1)
    axis = node.attr("axis", -1 if opset >= 13 else 1) % len(x.axes)
    over = flat(x.axes[axis:]) if opset < 13 else x.axes[axis]
    return [softmax(step.maps, x, frozenset(over), node.op_type)]


def centred(maps: Maps, x: Laid, over: Iterable[Atom], epsilon: float, passes: int = 1) -> Laid:
    """x less its mean, by its deviation."""
    gone, program = frozenset(over), maps.program
    for _ in range(passes):  # the second takes away what the first is wrong by: of equal numbers, nothing must be left
        x = both_as(maps, "Sub", x, reduced(maps, "ReduceMean", x, gone))
    square = replace(x, name=program.two("Mul", x.name, x.name))
    variance = reduced(maps, "ReduceMean", square, gone)
    shifted = program.two("Add", variance.name, program.number(epsilon, variance.name))
    return both_as(maps, "Div", x, replace(variance, name=program.one("Sqrt", shifted)))


def both_as(maps: Maps, op_type: str, x: Laid, y: Laid) -> Laid:
    """An operator on a tensor and what was made from it, which has some of its factors."""
    axes = x.axes
    x, y, target = meeting(maps, x, y)
    return Laid(axes, target, maps.program.two(op_type, x.name, y.name))


def layer_normalization(step: Step) -> list[Laid]:
    """LayerNormalization and RMSNormalization over the last axes. Raises Refused."""
    x, node = step.tensor(), step.node
    if is_read(node.outputs[1:]):
        raise Refused(f"the mean or deviation of {node.op} is read too")
    axis = node.attr("axis", -1) % len(x.axes)
    rms = node.op_type in ("RMSNormalization", "SimplifiedLayerNormalization")
    x = centred(step.maps, x, flat(x.axes[axis:]), node.attr("epsilon", 1e-5), passes=int(not rms))
    return [_scaled(step, x, ((1, "Mul"), (2, "Add")), None)]


def _scaled(step: Step, x: Laid, operands: Iterable[tuple[int, str]], shape: tuple[int, ...] | None) -> Laid:
    for index, op_type in operands:
        value = step.node.input(index)
        if value is None:
            continue
        if not step.ctx.is_constant(value):
            raise Refused(f"weight {short(value.name)!r} of {step.node.op} is not constant")
        dims = tuple(d for d in value.shape or () if isinstance(d, int))
        x, operand = fixed(step.maps, x, shape or dims, step.read(value), value.dtype)
        x = replace(x, name=step.maps.program.two(op_type, x.name, operand))
    return x


def instance_normalization(step: Step) -> list[Laid]:
    """Over all of space, for each channel apart."""
    x, node = step.tensor(), step.node
    x = centred(step.maps, x, flat(x.axes[2:]), node.attr("epsilon", 1e-5), passes=2)
    return [_scaled(step, x, ((1, "Mul"), (2, "Add")), (x.shape[1], *(1,) * (len(x.axes) - 2)))]


def group_normalization(step: Step) -> list[Laid]:
    """Over space and the channels of a group."""
    x, node = step.tensor(), step.node
    groups, shape = int(node.attr("num_groups")), step.shape
    x = reshaped(step.maps, x, (shape[0], groups, shape[1] // groups, *shape[2:]))
    x = centred(step.maps, x, flat(x.axes[2:]), node.attr("epsilon", 1e-5), passes=2)
    each = _length(node.input(1)) == groups != shape[1]  # before opset 21, scales are those of groups
    if each:
        x = _scaled(step, x, ((1, "Mul"), (2, "Add")), (groups, *(1,) * (len(x.axes) - 2)))
    x = reshaped(step.maps, x, shape)
    return [x if each else _scaled(step, x, ((1, "Mul"), (2, "Add")), (shape[1], *(1,) * (len(shape) - 2)))]


def _length(value: Value | None) -> int:
    return 0 if value is None else math.prod(d for d in value.shape or () if isinstance(d, int))


def unit_length(step: Step) -> list[Laid]:
    """LpNormalization with p = 2. Raises Refused."""
    x, node, program = step.tensor(), step.node, step.maps.program
    if node.attr("p", 2) != 2:
        raise Refused("LpNormalization with p other than 2")
    over = frozenset(x.axes[node.attr("axis", -1)])
    square = replace(x, name=program.two("Mul", x.name, x.name))
    total = reduced(step.maps, "ReduceSum", square, over)
    return [both_as(step.maps, "Div", x, replace(total, name=program.one("Sqrt", total.name)))]
