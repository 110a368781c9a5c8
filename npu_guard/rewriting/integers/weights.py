"""New weights and constants of a network that becomes integers again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.constants import Array
from npu_guard.analysis.quantized.held import FLOAT, Held, zero_point
from npu_guard.base.errors import Undecidable
from npu_guard.file.document import Document
from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting.integers.grid import Style, fitting, in_steps, on_grid, weight_scales
from npu_guard.rewriting.integers.scheme import Wanted, fitted, middle
from npu_guard.rewriting.substitution import Refused
from npu_guard.rewriting.weights import Weights, evaluated

_CHANNEL_OPSET = 13
"""The first in which DequantizeLinear has an axis."""
_INT32 = onnx.TensorProto.INT32
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Concat", "PRelu"})
"""Operators whose constant operands are held as activations are."""


class NewWeights:
    """Writes constants in integers: initializers, and the nodes that make numbers of them."""

    def __init__(
        self, document: Document, analysis: Analysis, style: Style, wanted: Wanted,
        name: Callable[[str], str], domain: Callable[[int], str], nodes: list[onnx.NodeProto], made: list[onnx.TensorProto],
    ) -> None:  # fmt: skip
        """`domain` is that of the DequantizeLinear that has a type."""
        self._domain = domain
        self._analysis = analysis
        self._style = style
        self._wanted = wanted
        self._name = name
        self._nodes = nodes
        self._made = made
        self._weights = Weights(document)
        self.rounded = 0
        """Weights and operands that are written and are no whole number of steps."""
        self._known: dict[tuple[str, int | None, str], tuple[str, Array]] = {}

    def of(self, node: Node, copy: onnx.NodeProto, read: Sequence[Held], *, wide: bool = False, least: float = 0.0) -> None:
        """Give a node's constants a form in integers. Raises Refused.

        `read` is how its activations are held, `wide` whether in 16 bits. Operands that are no weights are `least` at least.
        """
        if node.domain:
            return
        scales: Array | None = None
        for index, value in enumerate(node.inputs):
            if value is None or value.dtype != FLOAT or not self._analysis.is_constant(value):
                continue
            role = node.operator.role(index)
            if (node.kind in ("convolution", "product") or self._is_other_weight(node, value)) and role in ("weight", "data"):
                copy.input[index], scales = self._weight(node, value)
            elif role == "bias" and len(read) == 1 and node.kind in ("convolution", "product"):
                if scales is not None:
                    copy.input[index] = self._bias(value, read[0], scales)
            elif (
                node.op_type in _ELEMENTWISE
                and role in ("data", "weight", "slope")
                and (wide or self._wanted.approximate or not _is_dequantized(value))
            ):
                copy.input[index] = self._operand(value, wide=wide, least=least)

    def _is_other_weight(self, node: Node, value: Value) -> bool:
        """Whether it is a parameter of a normalization with scales that the device does not take."""
        return node.kind == "normalization" and _is_dequantized(value) and self._is_to_change(node, value)

    def _axis(self, node: Node, value: Value) -> int | None:
        rank = len(value.shape or ())
        style, op = self._style, node.op_type
        wanted = self._wanted
        allowed = wanted.by_channel and (wanted.channel_operators is None or op in wanted.channel_operators)
        seen = op in style.channel_operators and (allowed or not wanted.approximate)
        other = op not in style.operators and bool(style.channel_operators) and allowed
        if self._analysis.model.opsets.get("", 1) < _CHANNEL_OPSET or not (seen or other):
            return None
        if op == "ConvTranspose":
            return 1 if node.attr("group", 1) == 1 else None
        if node.kind == "convolution":
            return 0
        if rank != 2:
            return None
        return 0 if op == "Gemm" and node.attr("transB", 0) else 1

    def _is_to_change(self, node: Node, value: Value) -> bool:
        """Whether the device wants a weight that is in integers to have other scales, and it may be rounded to them."""
        if not self._wanted.approximate or value.producer is None:
            return False
        integers, scale, zero = (value.producer.input(i) for i in range(3))
        scales = self._array(scale) if scale is not None else np.ones(1)
        dtype = integers.dtype if integers is not None else 0
        if self._wanted.weight_types and dtype not in self._wanted.weight_types:
            return True
        zeros = self._array(zero) if zero is not None else np.zeros(1)
        if dtype in self._wanted.weights_symmetric and bool((zeros != middle(dtype)).any()):
            return True
        powers = self._wanted.powers and bool((np.frexp(scales)[0] != 0.5).any())
        return powers or (scales.size > 1 and self._axis(node, value) is None)

    def _weight(self, node: Node, value: Value) -> tuple[str, Array]:
        """The name of the weight, and its scales."""
        if _is_dequantized(value) and not self._is_to_change(node, value):
            assert value.producer is not None
            scale = value.producer.input(1)
            assert scale is not None
            return value.name, self._array(scale)
        axis = self._axis(node, value)
        key = value.name, axis, "weight"
        if key not in self._known:
            numbers = self._array(value)
            scales = weight_scales(numbers, axis, self._style)
            zero = middle(self._style.weight)
            integers = self._integers(numbers, scales, zero, axis, self._style.weight)
            made = self._dequantized(value.name, integers, scales if axis is not None else scales.reshape(()), zero, axis)
            self._known[key] = made, scales
        return self._known[key]

    def constant(self, name: str, numbers: Array) -> str:
        """A weight that is new, with one scale."""
        scale = weight_scales(numbers, None, self._style).reshape(())
        zero = middle(self._style.weight)
        return self._dequantized(name, in_steps(numbers, scale, zero, None, self._style.weight), scale, zero, None)

    def _bias(self, value: Value, read: Held, scales: Array) -> str:
        if _is_dequantized(value) and not self._wanted.approximate:
            return value.name
        numbers = self._array(value)
        scale = (np.float64(read.scale) * scales.astype(np.float64)).astype(np.float32)
        axis = 0 if scale.size > 1 else None
        if axis is not None and scale.shape != numbers.shape:
            return value.name
        integers = in_steps(numbers, scale, 0, axis, _INT32)
        return self._dequantized(value.name, integers, scale if axis is not None else scale.reshape(()), 0, axis)

    def _operand(self, value: Value, *, wide: bool, least: float) -> str:
        key = value.name, None, f"{'wide ' if wide else ''}operand of {least}"
        if key not in self._known:
            numbers = self._array(value)
            numbers = np.maximum(numbers, np.float32(least)) if least > 0 else numbers
            low, high = float(numbers.min(initial=0.0)), float(numbers.max(initial=0.0))
            held = fitted(fitting(low, high, self._style, wide=wide), self._wanted)
            integers = self._integers(numbers, held.scale, held.zero, None, held.dtype)
            self._known[key] = self._dequantized(value.name, integers, held.scale, held.zero, None), held.scale
        return self._known[key][0]

    def _integers(self, numbers: Array, scales: Array, zero: int, axis: int | None, dtype: int) -> Array:
        self.rounded += not on_grid(numbers, scales, axis)
        return in_steps(numbers, scales, zero, axis, dtype)

    def _array(self, value: Value) -> Array:
        try:
            return self._weights.get(value, lambda _: None, evaluated)
        except Undecidable as gap:
            raise Refused(gap.reason) from None

    def _dequantized(self, name: str, integers: Array, scale: Array, zero: int, axis: int | None) -> str:
        names = [self._name(f"{name}_{what}") for what in ("integers", "scale")]
        self._made.append(onnx.numpy_helper.from_array(integers, names[0]))
        self._made.append(onnx.numpy_helper.from_array(scale, names[1]))
        if zero or integers.dtype != np.int32:
            names.append(self._name(f"{name}_zero_point"))
            dtype = onnx.helper.np_dtype_to_tensor_dtype(integers.dtype)
            held = Held(dtype, scale, zero)
            one = zero_point(held, names[2])
            self._made.append(one if axis is None else _many(one, integers, axis, zero))
        result, domain = self._name(f"{name}_numbers"), self._domain(onnx.helper.np_dtype_to_tensor_dtype(integers.dtype))
        self._nodes.append(onnx.helper.make_node("DequantizeLinear", names, [result], result, domain=domain))
        if axis is not None:
            self._nodes[-1].attribute.append(onnx.helper.make_attribute("axis", axis))
        return result


def _many(one: onnx.TensorProto, integers: Array, axis: int, zero: int) -> onnx.TensorProto:
    made: onnx.TensorProto = onnx.numpy_helper.from_array(np.full(integers.shape[axis], zero, integers.dtype), one.name)
    return made


def _is_dequantized(value: Value) -> bool:
    return value.producer is not None and value.producer.op_type == "DequantizeLinear"
