"""Pairs of graphs on the two sides of a limit that a device file states, for all devices: one keeps to it, one is a step beyond.

The pairs are made from the numbers in the device files, and each as a graph in which the limit has to be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from npu_guard.device.device import Profile
from npu_guard.device.requirement import Requirement

_FLOAT = onnx.TensorProto.FLOAT
_OUT = 16
Build = Callable[[str, int], onnx.ModelProto]


class Mutant(NamedTuple):
    """A limit with a graph on each of its sides; the node is called `node`."""

    limit: str
    allowed: int
    rule: str
    op: str
    within: onnx.ModelProto
    beyond: onnx.ModelProto


def _model(op: str, shape: list[int], weights: dict[str, list[int]], **attributes: object) -> onnx.ModelProto:
    """An activation, the operator, and another activation."""
    tensors = [numpy_helper.from_array(np.zeros(dims, np.float32), name) for name, dims in weights.items()]
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "first"),
        helper.make_node(op, ["a", *weights], ["b"], "node", **attributes),
        helper.make_node("Relu", ["b"], ["y"], "last"),
    ]
    ends = [onnx.ValueInfoProto(name="y")]
    ends[0].type.tensor_type.elem_type = _FLOAT
    graph = helper.make_graph(nodes, "mutant", [helper.make_tensor_value_info("x", _FLOAT, shape)], ends, tensors)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])


def _window(op: str, kernel: int, size: int, **attributes: object) -> onnx.ModelProto:
    """The operator with a square window, on a map that is as large."""
    if op in ("MaxPool", "AveragePool"):
        return _model(op, [1, _OUT, size, size], {}, kernel_shape=[kernel] * 2, **attributes)
    return _model(op, [1, _OUT, size, size], {"w": [_OUT, _OUT, kernel, kernel]}, **attributes)


def _kernel(op: str, value: int) -> onnx.ModelProto:
    return _window(op, value, value + 1)


def _stride(op: str, value: int) -> onnx.ModelProto:
    return _window(op, max(value, 2) if op in ("MaxPool", "AveragePool") else 3, 4 * value + 3, strides=[value] * 2)


def _dilation(op: str, value: int) -> onnx.ModelProto:
    return _window(op, 3, 2 * value + 4, dilations=[value] * 2)


def _pads(op: str, value: int) -> onnx.ModelProto:
    return _window(op, value + 1, value + 2, pads=[value] * 4)


def _groups(op: str, value: int) -> onnx.ModelProto:
    return _model(op, [1, 2 * value, 8, 8], {"w": [2 * value, 2, 3, 3]}, group=value)


def _rank(op: str, value: int) -> onnx.ModelProto:
    return _model(op, [1, *[2] * (value - 1)], {})


def _full_rank(op: str, value: int) -> onnx.ModelProto:
    return _model(op, [2] * value, {})


def _extent(op: str, value: int) -> onnx.ModelProto:
    return _model(op, [1, _OUT, value, 4], {})


_WINDOWS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")
_POINTWISE = ("Relu", "Sigmoid", "Tanh", "Softmax", "LeakyRelu", "Elu", "Erf", "Abs", "Exp", "Sqrt", "Neg")
_BUILDS: dict[str, tuple[tuple[str, ...], Build]] = {
    "kernel": (_WINDOWS, _kernel),
    "kernel.h": (_WINDOWS, _kernel),
    "kernel.w": (_WINDOWS, _kernel),
    "stride": (_WINDOWS, _stride),
    "stride.h": (_WINDOWS, _stride),
    "stride.w": (_WINDOWS, _stride),
    "dilation": (("Conv",), _dilation),
    "dilation.h": (("Conv",), _dilation),
    "pads": (_WINDOWS, _pads),
    "group": (("Conv",), _groups),
    "rank": (_POINTWISE, _rank),
    "rank.X": (_POINTWISE, _rank),
    "rank.input": (_POINTWISE, _rank),
    "nonsingleton_rank": (_POINTWISE, _full_rank),
    "extent": (_POINTWISE, _extent),
    "extent.X": (_POINTWISE, _extent),
}


def limit_mutants(profile: Profile) -> Iterator[Mutant]:
    """A pair for each plain upper bound of a device on an operator that one graph shows."""
    for r in profile.requirements:
        metric = r.clause.metric.text
        if r.when or r.alternatives or metric not in _BUILDS:
            continue
        ops, build = _BUILDS[metric]
        bound = dict(r.clause.bounds).get("max")
        if not isinstance(bound, int) or isinstance(bound, bool) or bound < 1:
            continue
        for op in ops:
            if _is_about(r, op):
                yield Mutant(r.key, bound, r.code(op), op, build(op, bound), build(op, bound + 1))


def _is_about(r: Requirement, op: str) -> bool:
    return op in r.ops or "*" in r.ops
