"""Subtle faults in a model that was rewritten: what an author's slip looks like, whichever substitution he writes."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Fault = Callable[[onnx.ModelProto, np.random.Generator], bool]
"""Changes the model in place; False where it has no place for this fault."""


def _weights(model: onnx.ModelProto, least: int = 1, rank: int = 0) -> list[tuple[onnx.TensorProto, NDArray[np.floating]]]:
    found = [(t, numpy_helper.to_array(t).copy()) for t in model.graph.initializer if t.data_type in (1, 10, 11)]
    return [(t, a) for t, a in found if a.size >= least and a.ndim >= rank]


def _put(tensor: onnx.TensorProto, array: NDArray[np.floating]) -> bool:
    changed = array.tobytes() != numpy_helper.to_array(tensor).tobytes()
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
    return changed


def channels_swapped(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    for tensor, array in _weights(model, 2, 2):
        for axis in (0, 1):
            if array.shape[axis] > 1:
                order = np.arange(array.shape[axis])
                order[:2] = 1, 0
                if _put(tensor, np.take(array, order, axis)):
                    return True
    return False


def small_weight_zeroed(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    for tensor, array in _weights(model, 2):
        used = np.flatnonzero(array)
        if used.size > 1:
            array.reshape(-1)[used[np.abs(array.reshape(-1)[used]).argmin()]] = 0
            return _put(tensor, array)
    return False


def weight_moved(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    for tensor, array in _weights(model):
        used = np.flatnonzero(array)
        if used.size:
            array.reshape(-1)[used[0]] *= 1.001
            return _put(tensor, array)
    return False


def kernel_turned(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    return any(_put(t, a.swapaxes(2, 3)) for t, a in _weights(model, 4, 4) if a.shape[2] == a.shape[3] > 1)


def bias_dropped(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose", "Gemm") and len(node.input) > 2 and node.input[2]:
            del node.input[2]
            return True
    return False


def pad_off_by_one(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    """From the one side to the other, so that every shape stays."""
    for node in model.graph.node:
        for attribute in node.attribute:
            half = len(attribute.ints) // 2
            for i in range(half if attribute.name == "pads" else 0):
                if attribute.ints[i] + attribute.ints[i + half] > 0:
                    step = 1 if attribute.ints[i] else -1
                    attribute.ints[i] -= step
                    attribute.ints[i + half] += step
                    return True
    return False


def slice_off_by_one(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    known = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Slice" and len(node.input) > 2 and all(name in known for name in node.input[1:3]):
            start, end = (numpy_helper.to_array(known[name]) for name in node.input[1:3])
            step = 1 if start.reshape(-1)[0] == 0 else -1
            for i, array in enumerate((start + step, end + step), 1):
                model.graph.initializer.append(numpy_helper.from_array(array, f"moved{i}"))
                node.input[i] = f"moved{i}"
            return True
    return False


def parts_swapped(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    for node in model.graph.node:
        if node.op_type == "Concat" and len(set(node.input)) > 1:
            first = next(i for i in range(len(node.input) - 1) if node.input[i] != node.input[i + 1])
            node.input[first], node.input[first + 1] = node.input[first + 1], node.input[first]
            return True
    return False


def group_forgotten(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    for node in model.graph.node:
        if node.op_type in ("Max", "Min", "Sum") and len(node.input) > 1:
            node.input[len(node.input) - 1] = node.input[0]
            return True
    return False


def epsilon_changed(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "epsilon":
                attribute.f *= 2
                return True
    for tensor, array in _weights(model):
        if array.size == 1 and 0 < abs(array.item()) < 1e-3:
            return _put(tensor, array * 2)
    return False


def activation_removed(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    for node in model.graph.node:
        if node.op_type in ("Relu", "Clip", "Sigmoid", "Tanh"):
            node.CopyFrom(onnx.helper.make_node("Identity", node.input[:1], node.output))
            return True
    return False


def operand_of_a_neighbour(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    nodes = [n for n in model.graph.node if n.op_type in ("Mul", "Add", "Sub", "Div", "Max") and len(n.input) == 2]
    for node, other in itertools.pairwise(nodes):
        if node.input[1] != other.input[1]:
            other.input[1] = node.input[1]
            return True
    return False


FAULTS: tuple[Fault, ...] = (
    channels_swapped, small_weight_zeroed, weight_moved, kernel_turned, bias_dropped, pad_off_by_one, slice_off_by_one,
    parts_swapped, group_forgotten, epsilon_changed, activation_removed, operand_of_a_neighbour,
)  # fmt: skip


def weight_moved_by_an_ulp(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    """No fault, but no identity either."""
    for tensor, array in _weights(model):
        used = np.flatnonzero(array)
        if used.size:
            at = rng.choice(used)
            array.reshape(-1)[at] = np.nextafter(array.reshape(-1)[at], np.asarray(np.inf, array.dtype))
            return _put(tensor, array)
    return False
