"""What the ends of a range of integers clamp: quantizers leave out a Relu or Clip in front of a rounding that does the same."""

from __future__ import annotations

import onnx

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.quantized.encoding import dequantizes, quantizes
from npu_guard.analysis.quantized.held import Held, span
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.handlers import OfKind
from npu_guard.graph.plain import plain

_PRODUCTS = frozenset({"Mul", "MatMul", "Gemm", "Einsum", "Pow", "Exp"})
"""Operators whose result grows faster than what they read: without the upper end, a gate multiplies itself."""
_SCALED = frozenset({"Mul", "Div", "Add", "Sub"})
_MOVING = OfKind("view", "data mover", "identity")
_NEAR = 8
"""Tensors behind a gate that are looked at for a product; the usual gate has a division by 6 between."""
_INPUTS_OPSET = 11
"""The first opset in which Clip reads its bounds as inputs."""


def top(held: Held) -> float:
    """The largest number of a tensor, as a whole one where that is rounded to the same integer."""
    step = float(held.scale)
    exact = (span(held.dtype)[1] - held.zero) * step
    return round(exact) if abs(round(exact) - exact) < step / 4 else exact


def needs_top(value: Value, analysis: Analysis) -> bool:
    """Whether a product of two activations reads the tensor, as it is or scaled: a gate such as Clip(x + 3, 0, 6)."""
    seen, ahead = {value}, [value]
    while ahead and len(seen) <= _NEAR:
        for node in ahead.pop(0).consumers:
            op, computed = plain(node), _computed(node, analysis)
            through = quantizes(node) or dequantizes(node) or node.op_type in _MOVING or (op in _SCALED and computed < 2)
            if op in _PRODUCTS and (computed > 1 or op == "Exp"):
                return True
            if through and node.output not in seen:
                seen.add(node.output)
                ahead.append(node.output)
    return False


def _computed(node: Node, analysis: Analysis) -> int:
    """How many tensors the node reads that are not constant."""
    return sum(v is not None and not analysis.is_constant(v) for v in node.inputs)


def clamp(name: str, made: str, high: float | None, opset: int) -> tuple[onnx.NodeProto, list[onnx.TensorProto]]:
    """A Relu, or a Clip from 0 on where it has an upper end, and the initializers that it reads."""
    if high is None:
        return onnx.helper.make_node("Relu", [name], [made], made), []
    if opset < _INPUTS_OPSET:
        return onnx.helper.make_node("Clip", [name], [made], made, min=0.0, max=high), []
    bounds = {f"{made}_min": 0.0, f"{made}_max": high}
    tensors = [onnx.helper.make_tensor(bound, onnx.TensorProto.FLOAT, [], [number]) for bound, number in bounds.items()]
    return onnx.helper.make_node("Clip", [name, *bounds], [made], made), tensors


def is_rounding(node: Node, held: Held, analysis: Analysis) -> bool:
    """Whether a Relu or Clip from 0 on does nothing but what rounding to these integers does too."""
    if held.zero != span(held.dtype)[0]:
        return False
    if node.op_type == "Relu":
        return True
    bound = node.input(2)
    known = node.attributes.get("max") if bound is None else analysis.constants.get(bound)
    return node.op_type == "Clip" and known is not None and abs(float(known) - top(held)) < float(held.scale) / 2
