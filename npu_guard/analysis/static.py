"""What every compiler does before it looks at a graph: constants folded away, operators that do nothing skipped.

No values are computed here, only which tensors are constant and which nodes leave no trace on the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx

from npu_guard.analysis import einsum
from npu_guard.analysis.constants import Constants
from npu_guard.graph.graph import Model, Node, Value, is_known
from npu_guard.graph.handlers import OfKind
from npu_guard.results.findings import Dim

_RANDOM = OfKind("random")
BROADCASTING = OfKind("broadcasting")


def is_constant(value: Value | None, static: set[Value]) -> bool:
    """Whether the graph alone determines the value. An initializer that a caller may override is not constant."""
    if value is None:
        return True
    if value.producer is None:
        return value.initializer is not None and not value.is_input
    return value in static


def static_values(nodes: Iterable[Node]) -> set[Value]:
    """Values that follow from initializers and from shapes alone, in one pass over the nodes in order.

    Shape arithmetic on dynamic extents belongs here too: it runs on numbers that the compiler or the host fixes, never
    on data.
    """
    static: set[Value] = set()
    for node in nodes:
        if node.op_type in ("Constant", "Shape", "Size") and not node.domain:
            constant = True
        elif not node.inputs or node.subgraphs or _RANDOM.get(node.op_type):
            constant = False
        else:
            constant = True
            for value in node.inputs:
                if (
                    value is not None
                    and value not in static
                    and not (value.producer is None and value.initializer is not None and not value.is_input)
                ):  # is_constant, spelled out: this line runs once for each edge of the graph
                    constant = False
                    break
        if constant and _is_folded(node):
            static.update(v for v in node.outputs if v is not None)
    return static


def _is_folded(node: Node) -> bool:
    """Whether a compiler knows what the operator makes of constants; of foreign ones, those that quantize weights."""
    if node.domain:
        return node.domain == "com.microsoft" and node.op_type in ("QuantizeLinear", "DequantizeLinear")
    return node.graph.model.schema(node) is not None and not (node.op_type == "Dropout" and node.input(2) is not None)


def is_read(value: Value | None) -> bool:
    """Whether somebody reads the value: a node, or whoever runs the model."""
    return value is not None and bool(value.consumers or value.is_output)


def leads_nowhere(model: Model) -> set[Node]:
    """Nodes of which nothing reaches an output, which every compiler drops; none in a graph without outputs."""
    graph = model.graph
    if not graph.outputs:
        return set()
    if model.has_bodies:
        from npu_guard.analysis.liveness import dead_nodes  # few models have any

        return dead_nodes(model)
    found: set[Node] = set()
    ends = [n for n in graph.nodes if not (first := n.outputs[0]).consumers and not first.is_output]  # type: ignore[union-attr]
    stack = [n for n in ends if not any(map(is_read, n.outputs))]
    while stack:
        node = stack.pop()
        found.add(node)
        for value in node.inputs:
            before = None if value is None else value.producer
            if before is not None and before not in found and not any(_reaches(v, found) for v in before.outputs):
                stack.append(before)
    return found


def _reaches(value: Value | None, gone: set[Node]) -> bool:
    return value is not None and (value.is_output or any(node not in gone for node in value.consumers))


def trains(node: Node, constants: Constants) -> bool | None:
    """Whether the node does at training what it does not do at inference; None where a computed flag tells."""
    if node.domain:
        return False
    if node.op_type == "Dropout":
        if "is_test" in node.attributes:  # opsets 1 and 6
            return not node.attributes["is_test"]
        mode = node.input(2)
        value = None if mode is None else constants.get(mode)
        given = node.input(1)
        ratio = None if given is None else constants.get(given)
        if ratio is not None and not ratio.any():
            return False  # nothing is dropped, and what is left is not scaled
        return bool(value.any()) if value is not None else None if mode is not None else False
    if node.op_type == "BatchNormalization":
        statistics = any(is_read(v) for v in node.outputs[1:])
        return bool(node.attr("training_mode", 0)) or statistics
    return False


def does_nothing(node: Node, constants: Constants) -> bool:
    """Whether the node passes its first input on unchanged, at inference and for the known shapes."""
    if node.domain or node.op_type not in PASSING or not node.inputs or node.inputs[0] is None:
        return False
    x, y = node.inputs[0], node.output
    if node.op_type == "Identity":
        return True
    if node.op_type == "Dropout":
        return trains(node, constants) is False
    if node.op_type in _NEUTRAL:
        return _NEUTRAL[node.op_type](node)
    if node.op_type == "Clip":
        return _bounds_nothing(node, constants)
    if node.op_type in ("Cast", "CastLike"):
        return x.dtype == y.dtype != onnx.TensorProto.UNDEFINED
    if x.shape != y.shape or not is_known(x.shape):
        return False
    if node.op_type == "Transpose":
        return _keeps_order(x.shape, node.attr("perm"))
    if node.op_type in ("Resize", "Upsample"):
        # A crop-and-resize reads a region, so equal extents say nothing there.
        # And a scale that leaves the extent as it is for lack of room still moves the samples.
        scales = stated_scales(node, constants)
        crops = node.attr("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
        return not crops and scales is not None and all(scale == 1 for scale in scales)
    if node.op_type == "Slice":
        steps = node.input(4)
        values = None if steps is None else constants.get(steps)
        return steps is None or (values is not None and bool((values == 1).all()))
    if node.op_type == "Pad":
        given = node.input(1)
        pads = node.attributes.get("pads") if given is None else constants.get(given)
        return pads is not None and not np.any(pads)
    return True  # Reshape, Expand, Squeeze and the like to the shape that is there


def _bounds_nothing(node: Node, constants: Constants) -> bool:
    """A Clip without bounds, or with those of the type, which is what its first versions have where they are left out."""
    for index, name, side in ((1, "min", -1), (2, "max", 1)):
        operand = node.input(index)
        bound = node.attributes.get(name) if operand is None else constants.get(operand)
        if operand is None and bound is None:
            continue
        if bound is None or np.size(bound) != 1 or not float(np.ravel(bound)[0]) * side >= _LARGEST:
            return False
    return True


_LARGEST = float(np.finfo(np.float32).max)


def _takes_one_pixel(node: Node) -> bool:
    """A pooling whose window is one pixel and moves by one; indices that somebody reads are more than the pixel."""
    windows = (node.attributes.get(name) or (1,) for name in ("kernel_shape", "strides"))
    pads = node.attributes.get("pads") or ()
    return all(set(window) == {1} for window in windows) and not any(pads) and not any(is_read(v) for v in node.outputs[1:])


def _has_one_input(node: Node) -> bool:
    return len(node.inputs) == 1


def _has_block_of_one(node: Node) -> bool:
    return node.attributes.get("blocksize") == 1


_NEUTRAL: Mapping[str, Callable[[Node], bool]] = {
    "DepthToSpace": _has_block_of_one, "SpaceToDepth": _has_block_of_one, "Concat": _has_one_input, "Sum": _has_one_input,
    "Max": _has_one_input, "Min": _has_one_input, "Mean": _has_one_input, "MaxPool": _takes_one_pixel,
    "AveragePool": _takes_one_pixel, "Split": lambda node: len(node.outputs) == 1,
    "Einsum": lambda node: (order := einsum.order(node)) is not None and order == tuple(sorted(order)),
}  # fmt: skip
"""Operators that do nothing for what they are given beside the data, whatever the shape."""
PASSING = frozenset(
    {"Identity", "Dropout", "Cast", "CastLike", "Reshape", "Flatten", "Expand", "Tile", "Transpose", "Slice", "Pad", "Resize",
     "Upsample", "Squeeze", "Unsqueeze", "Clip", *_NEUTRAL}
)  # fmt: skip
"""Operators that can pass their input on: what `does_nothing` and `only_broadcasts` look at."""
_REGROUPING = OfKind("view")


def regroups(node: Node, constants: Constants) -> bool:
    """Whether a Gather is the second half of a Reshape: it takes all that is there, in order, and gives it other extents.

    Torch exports a strided view as a Reshape to one axis and a Gather with a table. Compilers fold it where the table counts up.
    """
    if node.op_type != "Gather" or node.domain or node.inputs[0] is None:
        return False
    view = node.inputs[0]
    before = view.producer
    if before is None or before.op_type not in _REGROUPING or before.domain or view.only_consumer is None:
        return False
    source = before.inputs[0]
    # Of a Reshape that does nothing itself, this would be the first half.
    return source is not None and source.shape != view.shape and _takes_all(node, constants)


def _takes_all(node: Node, constants: Constants) -> bool:
    x, table = node.inputs[0], node.input(1)
    if x is None or table is None or x.shape is None or table.shape is None:
        return False
    axis = node.attr("axis", 0)
    extent = x.shape[axis] if -len(x.shape) <= axis < len(x.shape) else None
    if not isinstance(extent, int) or math.prod(d if isinstance(d, int) else 0 for d in table.shape) != extent:
        return False
    indices = constants.get(table)
    return indices is not None and np.array_equal(np.where(indices < 0, indices + extent, indices).ravel(), np.arange(extent))


def stated_scales(node: Node, constants: Constants) -> list[float] | None:
    """Scales that a Resize or Upsample states as numbers, none where it states sizes; None where they are computed."""
    operand = node.input(1 if node.op_type == "Upsample" or len(node.inputs) == 2 else 2)
    if operand is None:
        return list(node.attributes.get("scales", ()))
    array = constants.get(operand)
    return list(map(float, array.ravel())) if array is not None else [] if operand.shape == (0,) else None


def _keeps_order(shape: tuple[Dim, ...], perm: tuple[int, ...] | None) -> bool:
    order = perm if perm is not None else tuple(reversed(range(len(shape))))
    moved = [axis for axis in order if shape[axis] != 1]
    return moved == sorted(moved)


_FEW = 16
"""Inputs of a Sum or Max to look at for each of them; a model with thousands would take the square of that."""


_HOLDING = frozenset({"QuantizeLinear", "DequantizeLinear"})
_IN_INTEGERS = frozenset({"QLinearAdd", "QLinearMul"})
"""Operators of ONNX Runtime that broadcast their two tensors as Add and Mul do; beside these they read scales and zero points."""


def is_scalar(value: Value | None) -> bool:
    """Whether a tensor is known to have one number."""
    return value is not None and value.shape is not None and all(extent == 1 for extent in value.shape)


def only_broadcasts(node: Node) -> bool:
    """An Expand whose readers would broadcast to the same shape without it: exporter noise."""
    if node.op_type != "Expand" or node.domain or node.output.is_output:
        return False
    x, y = node.inputs[0], node.output
    if x is None or x.shape is None or not y.consumers:
        return False
    same = [y]
    for value in same:  # and behind QuantizeLinear and DequantizeLinear, which change no extent
        held = [r.output for r in value.consumers if r.op_type in _HOLDING and r.inputs[0] is value and is_scalar(r.input(1))]
        if any(v.is_output for v in held) or len(same) + len(held) > _FEW:
            return False
        same += held
    for reader in dict.fromkeys(r for v in same for r in v.consumers):
        if reader.output in same:
            continue
        in_integers = reader.domain == "com.microsoft" and reader.op_type in _IN_INTEGERS
        if not (in_integers or (reader.op_type in BROADCASTING and not reader.domain)) or len(reader.inputs) > _FEW:
            return False
        read = [v for i, v in enumerate(reader.inputs) if not in_integers or reader.operator.role(i) == "data"]
        shapes = [x.shape if v in same else (None if v is None else v.shape) for v in read]
        if reader.output.shape is None or broadcast(shapes) != reader.output.shape:
            return False
    return True


def broadcast(shapes: Iterable[tuple[Dim, ...] | None]) -> tuple[Dim, ...] | None:
    """Multidirectional broadcasting of shapes; None where one is unknown or they do not go together."""
    result: list[Dim] = []
    for shape in shapes:
        if shape is None:
            return None
        result = [*[1] * (len(shape) - len(result)), *result]
        offset = len(result) - len(shape)
        for axis, extent in enumerate(shape):
            have = result[offset + axis]
            if have in (1, extent):
                result[offset + axis] = extent
            elif extent != 1:
                return None
    return tuple(result)
