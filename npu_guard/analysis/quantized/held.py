"""How tensors of a quantized network are held, with the numbers that they state."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from msgspec import Struct

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.constants import Array
from npu_guard.analysis.quantized.encoding import Encoding, whole

_T = onnx.TensorProto
FLOAT = _T.FLOAT
_INTEGERS: Mapping[int, tuple[int, bool]] = {
    _T.INT4: (4, True), _T.UINT4: (4, False), _T.INT8: (8, True), _T.UINT8: (8, False), _T.INT16: (16, True),
    _T.UINT16: (16, False), _T.INT32: (32, True), _T.UINT32: (32, False),
}  # fmt: skip
"""Bits of integers, and whether they have a sign."""


class Held(Struct, frozen=True):
    """How one activation is held: one scale and one zero point."""

    dtype: int
    scale: Array
    """A scalar of float32."""
    zero: int

    def same(self, other: Held) -> bool:
        """Whether the integers of both mean the same numbers."""
        return self.dtype == other.dtype and self.zero == other.zero and float(self.scale) == float(other.scale)


def held_of(encoding: Encoding | None, analysis: Analysis) -> Held | None:
    """An encoding with the numbers that it states; None where it is computed, has an axis, or is beyond what is read."""
    if encoding is None or encoding.dynamic or encoding.axis is not None or encoding.scale is None:
        return None
    scale = analysis.constants.get(encoding.scale)
    zero = None if encoding.zero is None else analysis.constants.get(encoding.zero)
    if scale is None or scale.size != 1 or (zero is None and encoding.zero is not None) or encoding.dtype not in _INTEGERS:
        return None
    at = 0 if zero is None else whole(zero)[0].item()
    return Held(encoding.dtype, scale.reshape(()), at) if isinstance(at, int) else None


def span(dtype: int) -> tuple[int, int]:
    """The least and the largest integer of a type; (0, 0) of one that has none, such as float8."""
    bits, signed = _INTEGERS.get(dtype, (0, False))
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def zero_point(held: Held, name: str) -> onnx.TensorProto:
    """A zero point as an initializer."""
    made: onnx.TensorProto = onnx.helper.make_tensor(name, held.dtype, [], [held.zero])
    return made
