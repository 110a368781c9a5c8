"""How tensors of a quantized network are held, with the numbers that they state."""

from __future__ import annotations

import numpy as np
import onnx
from msgspec import Struct

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.constants import Array
from npu_guard.analysis.quantized.encoding import Encoding

FLOAT = onnx.TensorProto.FLOAT


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
    if scale is None or scale.size != 1 or (zero is None and encoding.zero is not None):
        return None
    return Held(encoding.dtype, scale.reshape(()), 0 if zero is None else int(zero.reshape(-1)[0]))


def span(dtype: int) -> tuple[int, int]:
    """The least and the largest integer of a type."""
    info = np.iinfo(onnx.helper.tensor_dtype_to_np_dtype(dtype))
    return int(info.min), int(info.max)


def zero_point(held: Held, name: str) -> onnx.TensorProto:
    """A zero point as an initializer."""
    made: onnx.TensorProto = onnx.helper.make_tensor(name, held.dtype, [], [held.zero])
    return made
