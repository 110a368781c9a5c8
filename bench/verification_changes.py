"""Subtle changes of a network, and other spellings of the same one, for `verification.py`.

Each edits a model in place and says whether it applied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

Array = NDArray[Any]
Change = Callable[[onnx.ModelProto, np.random.Generator], bool]
_ACTIVATIONS = {"Relu", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "HardSwish", "HardSigmoid", "Clip", "Softplus"}
_NEAR = {"Sigmoid": "HardSigmoid", "HardSwish": "Relu", "Tanh": "Softsign", "Elu": "LeakyRelu", "Relu": "Elu", "Softplus": "Relu"}


def _pick(model: onnx.ModelProto, rng: np.random.Generator, ops: Iterable[str]) -> onnx.NodeProto | None:
    nodes = [n for n in model.graph.node if n.op_type in set(ops)]
    return nodes[int(rng.integers(len(nodes)))] if nodes else None


def _weight(model: onnx.ModelProto, rng: np.random.Generator, what: str, rank: int = 0) -> onnx.TensorProto | None:
    read = {name for node in model.graph.node for name in node.input}
    found = [t for t in model.graph.initializer if t.name.startswith(f"{what}_") and len(t.dims) >= rank and t.name in read]
    return found[int(rng.integers(len(found)))] if found else None


def _edited(tensor: onnx.TensorProto | None, change: Callable[[Array], Array | None]) -> bool:
    """Put what a function makes of a weight in its place; False where there is none, or nothing changes."""
    if tensor is None:
        return False
    array = onnx.numpy_helper.to_array(tensor)
    changed = change(array.copy())
    if changed is None or (changed.shape == array.shape and np.array_equal(changed, array)):
        return False
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(changed.astype(array.dtype)), tensor.name))
    return True


def _attribute(node: onnx.NodeProto | None, name: str, change: Callable[[Any], Any]) -> bool:
    for attribute in node.attribute if node is not None else ():
        if attribute.name == name:
            value = change(onnx.helper.get_attribute_value(attribute))
            attribute.CopyFrom(onnx.helper.make_attribute(name, value))
            return True
    return False


def _bypass(model: onnx.ModelProto, node: onnx.NodeProto | None, inputs: int = 0) -> bool:
    """Let a node's input through in its place."""
    if node is None:
        return False
    at = list(model.graph.node).index(node)
    passed = onnx.helper.make_node("Identity", [node.input[inputs]], list(node.output), name=node.name)
    model.graph.node.remove(node)
    model.graph.node.insert(at, passed)
    return True


def _behind(model: onnx.ModelProto, node: onnx.NodeProto, made: Callable[[str, str], list[onnx.NodeProto]]) -> bool:
    """Put nodes that make the output of a node, of what it gave, behind it."""
    at = list(model.graph.node).index(node)
    name = node.output[0]
    node.output[0] = f"{name}_before"
    for i, new in enumerate(made(f"{name}_before", name)):
        model.graph.node.insert(at + 1 + i, new)
    return True


def _scalar(model: onnx.ModelProto, value: float, name: str) -> str:
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), name))
    return name


def _clipped(low: float, high: float) -> Change:
    def change(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
        node = _pick(model, rng, _ACTIVATIONS | {"Conv"})
        if node is None:
            return False
        bounds = [_scalar(model, low, "clip_low"), _scalar(model, high, "clip_high")]
        return _behind(model, node, lambda a, b: [onnx.helper.make_node("Clip", [a, *bounds], [b])])

    return change


def _near(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    node = _pick(model, rng, _NEAR)
    if node is None:
        return False
    node.op_type = _NEAR[node.op_type]
    del node.attribute[:]
    return True


def _slot(what: str, change: Callable[[Array, np.random.Generator], Array | None], rank: int = 0) -> Change:
    return lambda model, rng: _edited(_weight(model, rng, what, rank), lambda array: change(array, rng))


def _zeroed(array: Array, rng: np.random.Generator) -> Array:
    array.flat[int(np.abs(array).argmax())] = 0
    return array


def _nudged(array: Array, rng: np.random.Generator) -> Array:
    array.flat[int(rng.integers(array.size))] += 1e-3
    return array


def _swapped(array: Array, rng: np.random.Generator) -> Array | None:
    if len(array) < 2:
        return None
    i, j = rng.choice(len(array), 2, replace=False)
    array[[i, j]] = array[[j, i]]
    return array


def _transposed(array: Array, rng: np.random.Generator) -> Array | None:
    return np.swapaxes(array, -1, -2) if array.ndim >= 2 and array.shape[-1] == array.shape[-2] else None


def _channel_off(array: Array, rng: np.random.Generator) -> Array:
    array[int(rng.integers(len(array)))] = 0
    return array


def _tap_off(array: Array, rng: np.random.Generator) -> Array | None:
    if array.ndim != 4 or array.shape[-1] < 3:
        return None
    array[:, :, int(rng.integers(3)), int(rng.integers(3))] = 0
    return array


def _pads_moved(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    return _attribute(
        _pick(model, rng, ("Conv", "MaxPool", "AveragePool")), "pads", lambda p: [p[0] + 1, p[1], p[2] - 1, p[3]] if p[2] else p
    )


def _dilated(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    node = _pick(model, rng, ("Conv",))
    if node is None or not any(a.name == "dilations" for a in node.attribute):
        return False
    other = {1: 2, 2: 1}
    return _attribute(node, "dilations", lambda d: [other[d[0]]] * 2) and _attribute(node, "pads", lambda p: [other[p[0]]] * 4)


def _strided(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    """A stride that is forgotten and made up by repeating values."""
    node = _pick(model, rng, ("MaxPool", "AveragePool"))
    if node is None:
        return False
    node.attribute.append(onnx.helper.make_attribute("strides", [2, 2]))
    scales = onnx.numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "repeat")
    model.graph.initializer.append(scales)
    return _behind(model, node, lambda a, b: [onnx.helper.make_node("Resize", [a, "", "repeat"], [b], mode="nearest")])


def _softmax_axis(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    return _attribute(_pick(model, rng, ("Softmax",)), "axis", lambda axis: 1)


def _argmax_axis(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    node = _pick(model, rng, ("ArgMax",))
    if node is None:
        return False
    node.op_type = "ArgMin" if rng.random() < 0.5 else "ArgMax"
    return node.op_type == "ArgMin" or _attribute(node, "axis", lambda axis: 2)


def _grouped(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    """The weights of all groups but the first are those of the first."""
    for node in model.graph.node:
        group = next((a.i for a in node.attribute if a.name == "group"), 1)
        if node.op_type == "Conv" and group > 1:
            tensor = next(t for t in model.graph.initializer if t.name == node.input[1])
            return _edited(tensor, lambda w, g=group: np.concatenate([w[: len(w) // g]] * g))
    return False


def _window_off(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    node = _pick(model, rng, ("MaxPool", "AveragePool"))
    return _attribute(node, "kernel_shape", lambda k: [3, 1]) and _attribute(node, "pads", lambda p: [1, 0, 1, 0])


def _other_pool(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    node = _pick(model, rng, ("AveragePool",))
    if node is None:
        return False
    node.attribute.append(onnx.helper.make_attribute("count_include_pad", 1))
    return True


def _outputs_swapped(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    if len(model.graph.output) < 2:
        return False
    first, second = model.graph.output[0], model.graph.output[1]
    first.name, second.name = second.name, first.name
    return True


def _output_type(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    output = model.graph.output[0]
    if output.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        return False
    node = next(n for n in model.graph.node if output.name in n.output)
    if len(model.graph.output) > 1 or any(output.name in n.input for n in model.graph.node):
        return False
    output.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    return _behind(model, node, lambda a, b: [onnx.helper.make_node("Cast", [a], [b], to=onnx.TensorProto.DOUBLE)])


def _opened(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    return True


def _branches(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    node = _pick(model, rng, ("Where",))
    if node is None:
        return False
    node.input[1], node.input[2] = node.input[2], node.input[1]
    return True


def _mask_moved(array: Array, rng: np.random.Generator) -> Array:
    place = int(rng.integers(array.size))
    array.flat[place] = not array.flat[place]
    return array


def _where(test: str, bound: float) -> Change:
    """The output changes where a value of the network is beyond a bound, and nowhere else."""

    def change(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
        node = _pick(model, rng, ("Conv", "Add", "Mul"))
        if node is None:
            return False
        k, factor = _scalar(model, bound, "only_bound"), _scalar(model, 1.05, "only_factor")
        make = onnx.helper.make_node
        return _behind(
            model, node, lambda a, b: [
                make(test, [a, k], [f"{b}_where"]), make("Mul", [a, factor], [f"{b}_more"]),
                make("Where", [f"{b}_where", f"{b}_more", a], [b]),
            ],
        )  # fmt: skip

    return change


def _constant_input(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    """One is added to an image that is the same everywhere."""
    if model.graph.input[0].name != "image":
        return False
    node = next(n for n in model.graph.node if "image" in n.input)
    make = onnx.helper.make_node
    less = _scalar(model, 1e-6, "flat_bound")
    nodes = [
        make("ReduceMax", ["image"], ["flat_max"], keepdims=1), make("ReduceMin", ["image"], ["flat_min"], keepdims=1),
        make("Sub", ["flat_max", "flat_min"], ["flat_spread"]), make("Less", ["flat_spread", less], ["flat"]),
        make("Cast", ["flat"], ["flat_number"], to=onnx.TensorProto.FLOAT), make("Add", ["image", "flat_number"], ["flat_image"]),
    ]  # fmt: skip
    node.input[list(node.input).index("image")] = "flat_image"
    for i, new in enumerate(nodes):
        model.graph.node.insert(i, new)
    return True


def _bytes_beyond(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    """Bytes are cut off at 200."""
    node = next((n for n in model.graph.node if n.op_type == "Cast" and "pixels" in n.input), None)
    if node is None:
        return False
    bound = _scalar(model, 200.0, "byte_bound")
    return _behind(model, node, lambda a, b: [onnx.helper.make_node("Min", [a, bound], [b])])


def _index_off(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    """One row of an embedding is another."""
    node = next((n for n in model.graph.node if n.op_type == "Gather" and "ids" in n.input), None)
    if node is None:
        return False
    tensor = next(t for t in model.graph.initializer if t.name == node.input[0])
    return _edited(tensor, lambda w: np.concatenate([w[:-1], w[:1]]))


def _moved_by(what: str, place: int, step: float) -> Change:
    def change(array: Array, rng: np.random.Generator) -> Array:
        array.flat[place] += np.asarray(step).astype(array.dtype)
        return array

    return _slot(what, change)


def _right(bounds: Array) -> Array:
    return bounds + np.array([0, 1])


def _slice_moved(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    node = _pick(model, rng, ("Slice",))
    if node is None:
        return False
    tensors = {t.name: t for t in model.graph.initializer}
    return _edited(tensors[node.input[1]], _right) and _edited(tensors[node.input[2]], _right)


CHANGES: dict[str, Change] = {
    "activation removed": lambda m, r: _bypass(m, _pick(m, r, _ACTIVATIONS)),
    "activation replaced by a near one": _near,
    "clipped at 3": _clipped(-1e30, 3.0), "clipped at 100": _clipped(-1e30, 100.0), "clipped at -2": _clipped(-2.0, 1e30),
    "largest weight zeroed": _slot("weight", _zeroed), "one weight moved by 1e-3": _slot("weight", _nudged),
    "weight transposed": _slot("weight", _transposed, 2), "weights of two channels swapped": _slot("weight", _swapped, 2),
    "bias dropped": _slot("bias", lambda a, r: a * 0), "bias of one channel moved by 1e-3": _slot("bias", _nudged),
    "pad off by one": _pads_moved, "dilation off by one": _dilated, "stride of two, values repeated": _strided,
    "softmax over another axis": _softmax_axis, "ArgMax: least, or another axis": _argmax_axis,
    "slice bound off by one": _slice_moved, "border value": _moved_by("fill", 0, 0.25),
    "epsilon": lambda m, r: _attribute(
        _pick(m, r, ("InstanceNormalization", "BatchNormalization")), "epsilon", lambda e: e * 10
    ),
    "alpha": lambda m, r: _attribute(_pick(m, r, ("LeakyRelu", "Elu", "HardSigmoid")), "alpha", lambda a: a * 1.02),
    "scale of a quantization": _moved_by("scale", 0, 0.001), "zero point": _moved_by("zero", 0, 1),
    "factor off by a thousandth": _slot("factor", lambda a, r: a * np.float32(1.001)),
    "gain of one channel": _slot("gain", _nudged), "group forgotten": _grouped,
    "channel forgotten": _slot("weight", _channel_off, 2),
    "tap forgotten": _slot("weight", _tap_off, 4),
    "window narrower": _window_off, "padding counted in a mean": _other_pool,
    "order of channels": _slot("order", _swapped), "order of outputs": _outputs_swapped, "type of an output": _output_type,
    "open axis": _opened, "branches of Where": _branches, "one element of a mask": _slot("mask", _mask_moved),
    "gate removed": lambda m, r: _bypass(m, _pick(m, r, ("Mul",))),
    "residual forgotten": lambda m, r: _bypass(m, _pick(m, r, ("Add",)), 1),
    "only where values are above 30": _where("Greater", 30.0), "only where values are below -30": _where("Less", -30.0),
    "only for blank images": _constant_input, "only for bytes above 200": _bytes_beyond, "one row of an embedding": _index_off,
}  # fmt: skip
"""Changes that are none to a reader who skims, by kind."""
INTERFACE = ("order of outputs", "type of an output", "open axis")
"""Those of them that change what a model takes or gives, whatever it computes."""


def _halves(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    """A convolution as the sum of two over half of the channels each."""
    node = next((n for n in model.graph.node if n.op_type == "Conv" and len(n.input) > 2), None)
    if node is None or any(a.name == "group" and a.i > 1 for a in node.attribute):
        return False
    tensor = next(t for t in model.graph.initializer if t.name == node.input[1])
    weight = onnx.numpy_helper.to_array(tensor)
    half = weight.shape[1] // 2
    x, bias, out = node.input[0], node.input[2], node.output[0]
    parts = {"half_sizes": np.array([half, weight.shape[1] - half]), "half_a": weight[:, :half], "half_b": weight[:, half:]}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in parts.items())
    make, kept = onnx.helper.make_node, {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    new = [
        make("Split", [x, "half_sizes"], ["half_x", "half_y"], axis=1),
        make("Conv", ["half_x", "half_a", bias], ["half_p"], **kept),
        make("Conv", ["half_y", "half_b"], ["half_q"], **kept), make("Add", ["half_q", "half_p"], [out]),
    ]  # fmt: skip
    at = list(model.graph.node).index(node)
    model.graph.node.remove(node)
    for i, n in enumerate(new):
        model.graph.node.insert(at + i, n)
    return True


def _relu_as_max(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    node = _pick(model, rng, ("Relu", "Clip"))
    if node is None:
        return False
    if node.op_type == "Clip":
        low, high = node.input[1], node.input[2]
        node.op_type = "Max"
        del node.input[2:]
        node.input[1] = low
        return _behind(model, node, lambda a, b: [onnx.helper.make_node("Min", [a, high], [b])])
    node.op_type = "Max"
    node.input.append(_scalar(model, 0.0, "spelled_zero"))
    return True


def _sigmoid_as_tanh(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    """1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2."""
    node = next((n for n in model.graph.node if n.op_type == "Sigmoid"), None)
    if node is None:
        return False
    half, one = _scalar(model, 0.5, "spelled_half"), _scalar(model, 1.0, "spelled_one")
    make, x, out, at = onnx.helper.make_node, node.input[0], node.output[0], list(model.graph.node).index(node)
    model.graph.node.remove(node)
    new = [make("Mul", [x, half], ["sp_a"]), make("Tanh", ["sp_a"], ["sp_b"]), make("Add", ["sp_b", one], ["sp_c"]),
           make("Mul", ["sp_c", half], [out])]  # fmt: skip
    for i, n in enumerate(new):
        model.graph.node.insert(at + i, n)
    return True


def _norm_folded(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    """A BatchNormalization as a product and a sum."""
    node = next((n for n in model.graph.node if n.op_type == "BatchNormalization"), None)
    if node is None:
        return False
    tensors = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    gain, bias, mean, variance = (tensors[n] for n in node.input[1:])
    epsilon = next(a.f for a in node.attribute if a.name == "epsilon")
    factor = gain / np.sqrt(variance + epsilon)
    for name, array in (("fold_factor", factor), ("fold_bias", bias - mean * factor)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32).reshape(1, -1, 1, 1), name))
    node.op_type = "Mul"
    del node.attribute[:]
    del node.input[1:]
    node.input.append("fold_factor")
    return _behind(model, node, lambda a, b: [onnx.helper.make_node("Add", [a, "fold_bias"], [b])])


def _renamed(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    """As another exporter writes it: other names throughout."""
    names = {name for node in model.graph.node for name in (*node.input, *node.output) if name}
    for node in model.graph.node:
        for side in (node.input, node.output):
            for i, name in enumerate(side):
                side[i] = f"other/{name}" if name in names else name
    for entry in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        entry.name = f"other/{entry.name}"
    del model.graph.value_info[:]
    return True


def _newer_opset(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    model.CopyFrom(onnx.version_converter.convert_version(model, 18))
    return True


def _function(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    """An activation as a call of a function of the model."""
    node = _pick(model, rng, {"Relu", "Sigmoid", "Tanh", "Softplus", "HardSwish"})
    if node is None:
        return False
    inner = onnx.helper.make_node(node.op_type, ["x"], ["y"])
    opsets = [onnx.helper.make_opsetid("", 17)]
    model.functions.append(onnx.helper.make_function("own", "Activation", ["x"], ["y"], [inner], opsets))
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))
    node.op_type, node.domain = "Activation", "own"
    return True


def _reordered(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    """Another order of operands, nodes and weights."""
    for node in model.graph.node:
        if node.op_type in ("Add", "Mul"):
            node.input[0], node.input[1] = node.input[1], node.input[0]
    weights = list(model.graph.initializer)[::-1]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
    return True


def _twice_turned(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    """An activation in another layout, there and back."""
    node = _pick(model, rng, ("Relu", "Tanh", "Sigmoid", "LeakyRelu", "Elu", "HardSwish"))
    if node is None or node.output[0] in {o.name for o in model.graph.output}:
        return False
    make, x = onnx.helper.make_node, node.input[0]
    at = list(model.graph.node).index(node)
    node.input[0] = "turned"
    _behind(model, node, lambda a, b: [make("Transpose", [a], [b], perm=[0, 3, 1, 2])])
    model.graph.node.insert(at, make("Transpose", [x], ["turned"], perm=[0, 2, 3, 1]))
    return True


RESPELLINGS: dict[str, Change] = {
    "convolution as the sum of two": _halves, "Relu and Clip as Max and Min": _relu_as_max, "Sigmoid as Tanh": _sigmoid_as_tanh,
    "BatchNormalization as product and sum": _norm_folded, "all names others": _renamed, "a newer opset": _newer_opset,
    "a function of the model": _function, "another order": _reordered, "another layout, there and back": _twice_turned,
}  # fmt: skip
"""The same function, written otherwise, by kind."""
