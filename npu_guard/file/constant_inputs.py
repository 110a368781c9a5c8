"""Inputs that somebody declares to be constants, as the settings carry them; it needs neither onnx nor numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct, field


class Held(Struct, frozen=True):
    """Inputs that count as constants: weights that are inputs as well, and those whose value somebody gives."""

    freeze_weights: bool = False
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
