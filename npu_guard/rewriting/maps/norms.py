"""Reductions and normalizations over any axes of tensors that lie in maps, by their definitions."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from msgspec.structs import replace

from npu_guard.base.text import short
from npu_guard.graph.graph import Value
from npu_guard.rewriting.finite import is_finite
from npu_guard.rewriting.maps.algebra import Maps, both, fixed, meeting, reduced
from npu_guard.rewriting.maps.regroup import reshaped
from npu_guard.rewriting.maps.softmax import softmax, softmax_axes
from npu_guard.rewriting.maps.step import Step, flat, is_read
from npu_guard.rewriting.maps.tensors import Laid
from npu_guard.rewriting.maps.written import numpy_type
from npu_guard.rewriting.substitution import Refused
from npu_guard.rewriting.views import Atom

_BEHIND = {"ReduceL2": "Sqrt", "ReduceLogSum": "Log"}
_AS_THEY_ARE = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")


def reduction(step: Step) -> list[Laid]:
    """Sums, means, extremes and norms. Raises Refused."""
    x, node, op_type = step.tensor(), step.node, step.node.op_type
    axes = step.axes(x)
    if not axes and node.attr("noop_with_empty_axes", 0):
        return [x]
    program = step.maps.program
    gone = frozenset(flat([x.axes[a] for a in axes]))
    if op_type == "ReduceLogSumExp":
        x = _log_sum_exp(step, x, gone)
    else:
        if op_type in ("ReduceL2", "ReduceSumSquare"):
            x = replace(x, name=program.two("Mul", x.name, x.name))
        elif op_type == "ReduceL1":
            x = replace(x, name=program.one("Abs", x.name))
        x = reduced(step.maps, op_type if op_type in _AS_THEY_ARE else "ReduceSum", x, gone)
        if op_type in _BEHIND:
            x = replace(x, name=program.one(_BEHIND[op_type], x.name))
    if not node.attr("keepdims", 1):
        x = replace(x, axes=tuple(a for i, a in enumerate(x.axes) if i not in axes))
    return [x]


def _log_sum_exp(step: Step, x: Laid, gone: frozenset[Atom]) -> Laid:
    """With the maximum taken out, as exponentials of large numbers are infinite. Raises Refused.

    Infinite numbers less an infinite maximum would be no numbers, so that it is held within what its type has.
    """
    maps, program, value = step.maps, step.maps.program, step.node.input(0)
    top = reduced(maps, "ReduceMax", x, gone)
    if value is not None and not is_finite(value, step.ctx):
        largest = float(np.finfo(numpy_type(x.name.dtype)).max)
        for op_type, bound in (("Max", -largest), ("Min", largest)):
            top = replace(top, name=program.two(op_type, top.name, program.number(bound, top.name)))
    return both(maps, "Add", _log_of_sum(maps, both_as(maps, "Sub", x, top), gone), top)


def _log_of_sum(maps: Maps, x: Laid, gone: frozenset[Atom]) -> Laid:
    total = reduced(maps, "ReduceSum", replace(x, name=maps.program.one("Exp", x.name)), gone)
    return replace(total, name=maps.program.one("Log", total.name))


def softmaxed(step: Step) -> list[Laid]:
    """Softmax and LogSoftmax over one axis. Raises Refused."""
    x, node, maps = step.tensor(), step.node, step.maps
    over = softmax_axes(node, x)
    if node.op_type not in maps.lacking:
        return [softmax(maps, x, over, node.op_type)]
    x = both_as(maps, "Sub", x, reduced(maps, "ReduceMax", x, over))
    return [both_as(maps, "Sub", x, _log_of_sum(maps, x, over))]


def pooled(step: Step) -> list[Laid]:
    """GlobalAveragePool and GlobalMaxPool, of tensors that are no maps."""
    x = step.tensor()
    op_type = "ReduceMean" if step.node.op_type == "GlobalAveragePool" else "ReduceMax"
    return [reduced(step.maps, op_type, x, frozenset(flat(x.axes[2:])))]


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
    """LpNormalization; what is 0 everywhere along the axis stays 0, as ONNX says. Raises Refused."""
    x, node, program = step.tensor(), step.node, step.maps.program
    over, square = frozenset(x.axes[node.attr("axis", -1)]), node.attr("p", 2) != 1
    sized = program.two("Mul", x.name, x.name) if square else program.one("Abs", x.name)
    total = reduced(step.maps, "ReduceSum", replace(x, name=sized), over)
    length = program.one("Sqrt", total.name) if square else total.name
    least = float(np.finfo(numpy_type(x.name.dtype)).tiny)  # less than the root of any square that is not 0
    divisor = program.two("Max", length, program.number(least, length))
    return [both_as(step.maps, "Div", x, replace(total, name=divisor))]
