"""In which integers the tensors of a network in real numbers are held, where it stands for a quantized one.

Forms are searched on such a network, and a device may take 8 bits otherwise than floating point.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from npu_guard.analysis.quantized.held import FLOAT
from npu_guard.analysis.types import DTYPE_NAMES

if TYPE_CHECKING:
    from npu_guard.analysis.analyze import Analysis
    from npu_guard.graph.graph import Value

_KEY = "stands for"


class StandsFor(Struct, frozen=True):
    """Types of the quantized network."""

    types: Mapping[str, int]
    """onnx.TensorProto.DataType by the name of the tensor, of those that are held."""
    known: Collection[str]
    """All tensors of the network; others are new."""
    usual: int
    """The type of new ones."""


def stand(analysis: Analysis, what: StandsFor | None) -> None:
    """Note what an analysis stands for."""
    if what is not None:
        analysis.known[_KEY] = what


def stood(analysis: Analysis) -> StandsFor | None:
    """What was noted."""
    found: StandsFor | None = analysis.known.get(_KEY)
    return found


def type_of(value: Value, analysis: Analysis) -> str | None:
    """The name of the integer type that a tensor in floating point is held in; None where it is in none, or nothing is known."""
    what = stood(analysis)
    if what is None or value.dtype != FLOAT or analysis.is_constant(value):
        return None
    dtype = what.types.get(value.name) if value.name in what.known else what.usual
    return None if dtype is None else DTYPE_NAMES.get(dtype)
