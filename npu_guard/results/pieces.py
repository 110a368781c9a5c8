"""A model cut into pieces, as reports show it: a part of `results.py`, and as inert."""

from __future__ import annotations

from msgspec import Struct


class PieceRow(Struct, frozen=True):
    """A part of the model that runs in one go, on the `npu` or on the `host`."""

    index: int
    side: str
    nodes: int
    macs: int
    bytes: int
    """Activations that it makes."""
    inputs: int
    outputs: int


class CrossingRow(Struct, frozen=True):
    """A tensor that one piece hands to others, by their indices; `bytes` is None where an extent is not known."""

    tensor: str
    shape: tuple[int | str | None, ...] | None
    dtype: str | None
    bytes: int | None
    source: int
    targets: tuple[int, ...]


class BreakerRow(Struct, frozen=True):
    """Operators that break the graph: what making them compatible would change, and where they are."""

    operators: str
    effect: str
    scope: tuple[str, ...]
    output: str
    """First output of the first of them."""
    graph: tuple[str, ...] = ()


class Pieces(Struct, frozen=True):
    """A model cut into pieces for NPU and host, in order of execution, in words and in numbers."""

    headline: str
    pieces: tuple[PieceRow, ...]
    crossings: tuple[CrossingRow, ...]
    breakers: tuple[BreakerRow, ...]
    """What would join pieces or move work to the NPU, most of it first."""
