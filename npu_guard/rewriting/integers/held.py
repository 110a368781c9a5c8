"""A quantized network in real numbers, with what it takes to write it in integers again."""

from __future__ import annotations

from msgspec import Struct, field

from npu_guard.analysis.quantized.held import Held
from npu_guard.file.document import Document


class Real(Struct):
    """The document in real numbers, and how its tensors were held."""

    document: Document
    held: dict[str, Held] = field(default_factory=dict)
    """By the name of the tensor, those that a pair held."""
    native: dict[str, Held] = field(default_factory=dict)
    """Those that a DequantizeLinear makes of integers that come in."""
    loose: set[tuple[str, str]] = field(default_factory=set)
    """A reader, by its first output, and a held tensor that it reads in floating point; no name is the model's user."""
    clamps: set[str] = field(default_factory=set)
    """What a Relu or Clip makes that stands for a rounding to integers of which the least is 0: quantizers leave it out there."""
    known: set[str] = field(default_factory=set)
    """All tensors, so that new ones can be told."""
    nodes: set[str] = field(default_factory=set)
    """Names of all operators, as those."""
