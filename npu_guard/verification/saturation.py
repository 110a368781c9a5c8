"""Products of unsigned and signed bytes as ONNX has them, on every processor.

Without VNNI instructions (x86 with AVX2 or AVX-512 alone), ONNX Runtime adds pairs of such products in 16 bits, which saturate
("When and why do I need to try U8U8?" in its documentation of quantization): 255 x 127 + 255 x 127 becomes 32767. Weights as
unsigned bytes, 128 more and with a zero point 128 more, mean the same numbers, and their products are added in 32 bits.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor

from npu_guard.file.bodies import walk_graphs, walk_nodes
from npu_guard.file.value_names import free_name, names_in

_LINEAR, _INTEGER = (0, 2, 3, 5), (0, 2, 1, 3)
_OPERATORS: dict[str, tuple[tuple[int | None, int | None, int, int], ...]] = {
    "QLinearConv": (_LINEAR,),
    "QLinearMatMul": (_LINEAR,),
    "QGemm": (_LINEAR,),
    "ConvInteger": (_INTEGER,),
    "MatMulInteger": (_INTEGER,),
    "MatMulIntegerToFloat": ((0, 4, 1, 5),),
    "DynamicQuantizeMatMul": ((None, None, 1, 3),),
    "DynamicQuantizeLSTM": ((None, None, 1, 9), (None, None, 2, 11)),
    "QAttention": ((0, 6, 1, 7),),
}
"""Inputs of each operator: activation, its zero point, weight, its zero point. Activations without an input are made unsigned."""
_SIGNED, _UNSIGNED = onnx.TensorProto.INT8, onnx.TensorProto.UINT8


def without_saturation(content: bytes, folder: str) -> bytes:
    """A serialized model that computes the same, its signed weights beside unsigned activations as unsigned ones.

    `folder` is where weights outside of the model lie. Raises what onnx raises where these cannot be read.
    """
    model = onnx.ModelProto.FromString(content)
    return model.SerializeToString() if _Weights(model, folder).written() else content


class _Weights:
    def __init__(self, model: onnx.ModelProto, folder: str) -> None:
        self.model = model
        self.folder = folder
        self.tensors = {t.name: t for graph in walk_graphs(model.graph) for t in graph.initializer}
        for node in (n for n in walk_nodes(model.graph.node) if n.op_type == "Constant"):
            self.tensors.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
        self.names: set[str] | None = None
        self.unsigned: dict[str, str] = {}
        self.kinds: dict[str, int] | None = None

    def written(self) -> bool:
        """Whether any weight had to be written anew."""
        for node in walk_nodes(self.model.graph.node):
            for x, zero, weight, weight_zero in _OPERATORS.get(node.op_type, ()):
                if self._is_signed(node, weight, weight_zero) and (x is None or self._is_unsigned(node, x, zero)):
                    node.input.extend([""] * (weight_zero + 1 - len(node.input)))
                    node.input[weight] = self._moved(node.input[weight])
                    node.input[weight_zero] = self._moved(node.input[weight_zero])
        return bool(self.unsigned)

    def _is_signed(self, node: onnx.NodeProto, weight: int, zero: int) -> bool:
        """Whether the weight and its zero point are signed, and constants."""
        given = [node.input[i] for i in (weight, zero) if i < len(node.input) and node.input[i]]
        held = [self.tensors.get(name) for name in given]
        return bool(held) and all(t is not None and t.data_type == _SIGNED for t in held)

    def _is_unsigned(self, node: onnx.NodeProto, x: int, zero: int | None) -> bool:
        known = self.tensors.get(node.input[zero]) if zero is not None and zero < len(node.input) else None
        return (known.data_type if known is not None else self._kind(node.input[x])) == _UNSIGNED

    def _kind(self, name: str) -> int:
        """Type of a value, as shape inference has it; 0 where it has none."""
        if self.kinds is None:
            inferred = onnx.shape_inference.infer_shapes(self.model)
            self.kinds = {
                entry.name: entry.type.tensor_type.elem_type
                for graph in walk_graphs(inferred.graph)
                for entry in (*graph.input, *graph.value_info, *graph.output)
            }
        return self.kinds.get(name, 0)

    def _moved(self, name: str) -> str:
        """The constant as unsigned bytes; nothing at all is a zero point of 0."""
        if name not in self.unsigned:
            if self.names is None:
                self.names = names_in(self.model.graph)
            values = np.zeros((), np.int8)
            if name:
                held = onnx.TensorProto()
                held.CopyFrom(self.tensors[name])
                if held.data_location == onnx.TensorProto.EXTERNAL:
                    load_external_data_for_tensor(held, self.folder)
                values = numpy_helper.to_array(held)
            made = self.unsigned[name] = free_name(f"{name or 'zero_point'}_unsigned", self.names)
            unsigned = (values.astype(np.int16) + 128).astype(np.uint8)
            self.model.graph.initializer.append(numpy_helper.from_array(unsigned, made))
        return self.unsigned[name]
