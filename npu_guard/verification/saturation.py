"""Products of unsigned and signed bytes as ONNX has them, on every processor.

Without VNNI instructions (x86 with AVX2 or AVX-512 alone), ONNX Runtime adds pairs of such products in 16 bits, which saturate
("When and why do I need to try U8U8?" in its documentation of quantization): 255 x 127 + 255 x 127 becomes 32767. Signed bytes
as unsigned ones, 128 more and with a zero point 128 more, mean the same numbers, whose products are added in 32 bits.
Constants are written anew; what the model computes or is given is moved by three nodes in front of the operator.
"""

from __future__ import annotations

import numpy as np
import onnx
from msgspec import Struct
from onnx import helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor

from npu_guard.file.bodies import bodies_of
from npu_guard.file.value_names import free_name, names_in

_LINEAR = (0, 2, 3, 5)
_OPERATORS: dict[str, tuple[tuple[int | None, int | None, int, int], ...]] = {
    "QLinearConv": (_LINEAR,),
    "QLinearMatMul": (_LINEAR,),
    "QGemm": (_LINEAR,),
    "ConvInteger": ((0, 2, 1, 3), (1, 3, 0, 2)),
    "MatMulInteger": ((0, 2, 1, 3),),
    "MatMulIntegerToFloat": ((0, 4, 1, 5),),
    "DynamicQuantizeMatMul": ((None, None, 1, 3),),
    "DynamicQuantizeLSTM": ((None, None, 1, 9), (None, None, 2, 11)),
    "QAttention": ((0, 6, 1, 7),),
}
"""Inputs of each operator where an unsigned one beside a signed one saturates: of the first and its zero point, of the second.

First ones without an input are made unsigned. ConvInteger puts its weights first, and saturates in that order.
"""
_SIGNED, _UNSIGNED = onnx.TensorProto.INT8, onnx.TensorProto.UINT8


def without_saturation(content: bytes, folder: str) -> bytes:
    """A serialized model that computes the same, signed bytes beside unsigned ones as unsigned ones.

    `folder` is where weights outside of the model lie. Raises what onnx raises where these cannot be read.
    """
    model = onnx.ModelProto.FromString(content)
    return model.SerializeToString() if _Unsigned(model, folder).written() else content


class _Scope(Struct, eq=False):
    """What the names in one graph stand for. Bodies beside each other may use one name for two things."""

    place: int
    """Which graph of the model it is, as they are walked."""
    graph: onnx.GraphProto
    around: _Scope | None
    makers: dict[str, onnx.NodeProto]
    tensors: dict[str, onnx.TensorProto]
    """Constants."""
    given: frozenset[str]
    """What is given, or may be given in place of an initializer."""

    def of(self, name: str) -> _Scope | None:
        """The scope, this one or one around it, that has the name."""
        scope: _Scope | None = self
        while scope is not None and not (name in scope.given or name in scope.makers or name in scope.tensors):
            scope = scope.around
        return scope

    def constant(self, name: str) -> onnx.TensorProto | None:
        """The constant of a name; None for what is computed or given."""
        scope = self.of(name)
        return None if scope is None or name in scope.given else scope.tensors.get(name)


def _scopes(model: onnx.ModelProto) -> list[_Scope]:
    """Those of the graph and its bodies, each before its own."""
    found: list[_Scope] = []
    waiting: list[tuple[onnx.GraphProto, _Scope | None]] = [(model.graph, None)]
    while waiting:
        graph, around = waiting.pop()
        makers = {name: node for node in graph.node for name in node.output}
        values = ((n.output[0], a.t) for n in graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value")
        tensors = {t.name: t for t in graph.initializer} | dict(values)
        found.append(_Scope(len(found), graph, around, makers, tensors, frozenset(entry.name for entry in graph.input)))
        waiting += [(body, found[-1]) for node in graph.node for a in node.attribute for body in bodies_of(a)]
    return found


class _Unsigned:
    def __init__(self, model: onnx.ModelProto, folder: str) -> None:
        self.model = model
        self.folder = folder
        self.scopes = _scopes(model)
        self.names: set[str] | None = None
        self.stored: dict[int, tuple[onnx.TensorProto, str]] = {}
        """New names, by the place of a tensor in memory, which is held here so that no other takes the place."""
        self.nothing = numpy_helper.from_array(np.zeros((), np.int8), "zero_point")
        self.middle = numpy_helper.from_array(np.array(128, np.int32), "middle")
        self.kinds: list[dict[str, int]] | None = None

    def written(self) -> bool:
        """Whether any operand had to be written anew."""
        placed = [self._placed(scope) for scope in self.scopes]
        for scope, before in zip(reversed(self.scopes), reversed(placed), strict=True):  # bodies are copied with their nodes
            if any(before.values()):
                nodes = [made for index, node in enumerate(scope.graph.node) for made in (*before.get(index, ()), node)]
                kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
                del scope.graph.node[:]
                scope.graph.node.extend(kept)
        return any(map(len, placed))

    def _placed(self, scope: _Scope) -> dict[int, list[onnx.NodeProto]]:
        """Places of operators in a graph that read something else now, with the new nodes in front of each."""
        found: dict[int, list[onnx.NodeProto]] = {}
        moved: dict[str, str] = {}
        for index, node in enumerate(scope.graph.node):
            for x, zero, other, other_zero in _OPERATORS.get(node.op_type, ()):
                signed = self._kind(scope, node, other, other_zero) == _SIGNED
                if signed and (x is None or self._kind(scope, node, x, zero) == _UNSIGNED):
                    node.input.extend([""] * (other_zero + 1 - len(node.input)))
                    new = found.setdefault(index, [])
                    for place in (other, other_zero):
                        node.input[place] = self._moved(scope, node.input[place], moved, new)
        return found

    def _kind(self, scope: _Scope, node: onnx.NodeProto, place: int, zero: int | None) -> int:
        """Element type of an operand, which is that of its zero point; 0 where nothing tells."""
        given = [node.input[i] for i in (zero, place) if i is not None and i < len(node.input) and node.input[i]]
        constants = [held.data_type for name in given if (held := scope.constant(name)) is not None]
        return constants[0] if constants else next((kind for name in given if (kind := self._inferred(scope, name))), 0)

    def _inferred(self, scope: _Scope, name: str) -> int:
        """Element type of what is computed or given: of operators that ONNX does not know, that of the zero points they read."""
        if self.kinds is None:
            model = onnx.shape_inference.infer_shapes(self.model)
            entries = [(*s.graph.input, *s.graph.value_info, *s.graph.output) for s in _scopes(model)]
            self.kinds = [{entry.name: entry.type.tensor_type.elem_type for entry in some} for some in entries]
        own = scope.of(name)
        if own is None:
            return 0
        if kind := self.kinds[own.place].get(name, 0):
            return kind
        maker = own.makers.get(name)
        read = [own.constant(i) for i in maker.input] if maker is not None else []
        return next((t.data_type for t in reversed(read) if t is not None and t.data_type in (_SIGNED, _UNSIGNED)), 0)

    def _moved(self, scope: _Scope, name: str, moved: dict[str, str], new: list[onnx.NodeProto]) -> str:
        """The operand as unsigned bytes; nothing at all is a zero point of 0. Nodes that make it go to `new`."""
        held = scope.constant(name) if name else self.nothing
        if held is not None:
            return self._constant(held)
        if name not in moved:
            wide, more, moved[name] = (self._free(f"{name}_{word}") for word in ("int32", "more", "unsigned"))
            new += [
                helper.make_node("Cast", [name], [wide], to=onnx.TensorProto.INT32),
                helper.make_node("Add", [wide, self._stored(self.middle, self.middle)], [more]),
                helper.make_node("Cast", [more], [moved[name]], to=_UNSIGNED),
            ]
        return moved[name]

    def _constant(self, tensor: onnx.TensorProto) -> str:
        """A constant as unsigned bytes."""
        if id(tensor) in self.stored:
            return self.stored[id(tensor)][1]
        held = onnx.TensorProto.FromString(tensor.SerializeToString())
        if held.data_location == onnx.TensorProto.EXTERNAL:
            load_external_data_for_tensor(held, self.folder)
        values = (numpy_helper.to_array(held).astype(np.int16) + 128).astype(np.uint8)
        return self._stored(tensor, numpy_helper.from_array(values, f"{tensor.name or 'constant'}_unsigned"))

    def _stored(self, key: onnx.TensorProto, new: onnx.TensorProto) -> str:
        """The name of a new initializer, made once for a tensor."""
        if id(key) not in self.stored:
            made = onnx.TensorProto.FromString(new.SerializeToString())
            made.name = self._free(new.name)
            self.model.graph.initializer.append(made)
            self.stored[id(key)] = key, made.name
        return self.stored[id(key)][1]

    def _free(self, name: str) -> str:
        if self.names is None:
            self.names = names_in(self.model.graph)
        return free_name(name, self.names)
