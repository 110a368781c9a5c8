"""Weights as they were before the exporter folded a norm into them, so that the norm itself goes back behind them.

Folding gives W' = s W and b' = s (b - mean) + beta with s = weight / sqrt(var + eps), channel by channel. To divide by s again is
impossible where a channel has s = 0, and a rewrite may have put channels anywhere. So the steps of the fix are taken once more on
the exported model with W and b, which the modules before the norms have, and the constants that follow from these are taken over.
Then the fixed model is run with the norms between, and has to give the same values: where it does not, as behind weights that
their module computes, they stay folded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from torch import nn

from npu_guard.file.document import Document
from npu_guard.rewriting import roles
from npu_guard.rewriting.roles import Role
from npu_guard.training import norms
from npu_guard.training.calls import Call
from npu_guard.training.graph import Array, Graph, Op
from npu_guard.training.norms import NEUTRAL, Folded, epsilon_of
from npu_guard.training.sums import summed
from npu_guard.verification.runtime import CannotRun, Runtime

TAKES_NORM = ("Conv", "ConvTranspose", "Gemm")
"""Operators into which the exporter folds a norm."""
CLOSE = 1e-4
"""Differences from the fixed model that roundings explain, relative to the peak of each channel and to that of the value."""
ROUNDED = 1e-2
"""How much of what the norm takes away in eval mode counts beside the peak of its channel: a hundredth, of which CLOSE."""
Again = Callable[[Document], Graph | None]
"""Takes the steps of the fix on another model; None where they cannot be taken there."""


@dataclass(frozen=True, slots=True)
class Own:
    """What an operator of the original has of its module: weight and bias by the names of the folded ones."""

    arrays: Mapping[str, Array]
    bias: str
    """Name of the folded bias where the module has none, else ""."""


@dataclass(frozen=True, slots=True)
class Located:
    """Where a norm goes in the fixed model."""

    op: Op
    frames: int
    at: Array
    call: Call


def unfold(before: Graph, after: Graph, folded: Folded, again: Again) -> None:
    """Give the fixed model the weights of before the fold where that is possible, and note these norms in `folded.whole`.

    Its structure is changed too: a bias that the fold alone has made goes. It does not run as it is from then on.
    """
    own = {path: found for path, pair in folded.pairs.items() if (found := own_weights(before, path, pair[0].module))}
    places = {path: place for path in own if (place := located(after, path, folded.pairs[path][1]))}
    other = _other(before, after, {path: own[path] for path in places}, again) if places else None
    if other is None:
        return
    while places:
        new = _taken(after, other, [own[path] for path in places])
        wrong = _first_wrong(after, new, places)
        if wrong is None:
            break
        del places[wrong]
    else:
        return
    with_norm = {name: after.array(name) for name in new}
    after.constants.update(new)
    for path, place in places.items():
        folded.whole[path] = behind = place.op.outputs[0]
        names = {name for name, tensor in new.items() if own[path].arrays.keys() & set(_sources(tensor))}
        state = _tensors_of(place, after.shape(behind))
        if (whole_sum := summed(after, behind, names, with_norm, state, epsilon_of(place.call))) is not None:
            folded.sums[path] = whole_sum
    _drop_biases(after, [own[path] for path in places])


def own_weights(graph: Graph, path: str, module: nn.Module) -> Own | None:
    """Of the operator that has the norm at the path folded in; None where others read its weights, or the module has no such."""
    found = [op for op in graph.ops if op.scope == path and op.type in TAKES_NORM]
    if len(found) != 1 or len(found[0].inputs) < 3:
        return None
    op, names = found[0], list(found[0].inputs[1:3])
    if any(name not in graph.constants or len(graph.consumers[name]) > 1 for name in names):
        return None
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if weight is None:
        return None
    kernel = weight.detach().numpy()
    if op.type == "Gemm" and not op.attributes.get("transB", 0):
        kernel = kernel.T
    folded = [graph.array(name) for name in names]
    arrays = [kernel, np.zeros_like(folded[1]) if bias is None else bias.detach().numpy()]
    if any(a.shape != b.shape or a.dtype != b.dtype for a, b in zip(arrays, folded, strict=True)):
        return None
    return Own(dict(zip(names, arrays, strict=True)), names[1] if bias is None else "")


def located(graph: Graph, path: str, call: Call) -> Located | None:
    """The first operator that gives what the norm does."""
    for op in graph.ops:
        if op.scope == path and op.type != "BatchNormalization":
            at = norms.channels_of(graph, op, call.module)
            if frames := norms.frames_of(graph.values[op.outputs[0]], call, at):
                return Located(op, frames, at, call)
    return None


def _other(before: Graph, after: Graph, own: Mapping[str, Own], again: Again) -> Graph | None:
    """The fixed model of the original with these weights; None where it is built otherwise."""
    document = before.document.copy()
    arrays = {name: array for one in own.values() for name, array in one.arrays.items()}
    for tensor in document.tensors():
        if tensor.name in arrays:
            tensor.CopyFrom(_tensor(tensor, arrays[tensor.name]))
    other = again(document)
    if other is None or len(other.ops) != len(after.ops):
        return None
    same = all(a.same(b) for a, b in zip(after.ops, other.ops, strict=True))
    return other if same and all(n in other.constants and other.shape(n) == after.shape(n) for n in after.constants) else None


def _taken(after: Graph, other: Graph, own: Collection[Own]) -> dict[str, onnx.TensorProto]:
    """Constants that follow from the weights, and from no others that were folded, as the other model has them."""
    names = {name for one in own for name in one.arrays}
    found = {}
    for name, tensor in after.constants.items():
        if names & set(_sources(tensor)):
            found[name] = _tensor(tensor, other.array(name))
    return found


def _first_wrong(after: Graph, new: Mapping[str, onnx.TensorProto], places: Mapping[str, Located]) -> str | None:
    """The path of the first norm behind which the value is another one than in the fixed model."""
    document = after.document.copy()
    graph = document.proto.graph
    behind = {place.op.outputs[0]: path for path, place in places.items()}
    for tensor in document.tensors():
        if tensor.name in new:
            tensor.CopyFrom(new[tensor.name])
    nodes = []
    for node in graph.node:
        nodes.append(node)
        path = behind.get(node.output[0]) if node.output else None
        if path is None:
            continue
        name = node.output[0]
        node.output[0] = f"{name}.before.norm"
        made = _norm_node(node.output[0], name, places[path], after.shape(name))
        graph.initializer.extend(made[1])
        nodes.append(made[0])
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    known = {o.name for o in graph.output}
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in behind if name not in known)
    feed = {name: after.values[name] for name in after.inputs}
    try:
        with Runtime() as runtime:
            seen = runtime.run(*document.runnable(), [feed])[0]
    except CannotRun:
        return next(iter(places))
    return next((path for name, path in behind.items() if not _equal(after.values[name], seen[name], places[path])), None)


def _equal(wanted: Array, given: Array, place: Located) -> bool:
    """Channel by channel, as one of small values may be wrong beside others; and those that were added.

    The fold has the mean in the bias, and what is small beside it has its roundings.
    """
    axes = tuple(i for i in range(wanted.ndim) if i != 1)
    gain, _, mean, variance = _tensors_of(place, wanted.shape)
    shift = np.abs(mean * gain / np.sqrt(variance + epsilon_of(place.call)))
    room = np.abs(wanted).max(axes, initial=0) + CLOSE * np.abs(wanted).max(initial=0) + ROUNDED * shift
    return bool((np.abs(wanted - given).max(axes, initial=0) <= CLOSE * room).all())


def _norm_node(given: str, name: str, place: Located, shape: tuple[int, ...]) -> tuple[onnx.NodeProto, list[onnx.TensorProto]]:
    """The norm as an operator."""
    tensors = [onnx.numpy_helper.from_array(array, f"{name}.norm.{i}") for i, array in enumerate(_tensors_of(place, shape))]
    names = [given, *(t.name for t in tensors)]
    return onnx.helper.make_node("BatchNormalization", names, [name], epsilon=epsilon_of(place.call)), tensors


def _tensors_of(place: Located, shape: tuple[int, ...]) -> list[Array]:
    """Weight, bias, mean and variance of all channels of a value, those of all frames that lie in them."""
    state = norms.state_of(place.call.module, shape, place.frames, place.at) or {}
    found = []
    for part, filler in NEUTRAL.items():
        array = np.full(shape[1], filler, np.float32)
        array[: place.frames * len(state[part])] = np.tile(state[part], place.frames)
        found.append(array)
    return found


def _drop_biases(graph: Graph, own: Collection[Own]) -> None:
    """Take out the biases that only the fold has made: behind a module without one they are zero, and stay so in training."""
    names = {name for one in own for name in one.arrays if one.bias}
    for op in graph.ops:
        if op.type not in TAKES_NORM or len(op.inputs) < 3 or op.inputs[2] not in graph.constants:
            continue
        if set(_sources(graph.constants[op.inputs[2]])) <= names and not graph.array(op.inputs[2]).any():
            del op.proto.input[2]


def _sources(tensor: onnx.TensorProto) -> tuple[str, ...]:
    role = roles.read(tensor) or Role(roles.TRAINED, (tensor.name,))
    return role.sources if role.kind == roles.TRAINED else (tensor.name,)


def _tensor(old: onnx.TensorProto, array: Array) -> onnx.TensorProto:
    """The tensor with other elements."""
    made = onnx.numpy_helper.from_array(np.ascontiguousarray(array), old.name)
    made.metadata_props.extend(old.metadata_props)
    return made
