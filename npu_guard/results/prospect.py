"""What a check foresees of `fix`, which judges more blocks and goes on where a check ends."""

from __future__ import annotations

from msgspec import Struct


class Prospect(Struct, frozen=True):
    """How far the forms were looked for, and what those that `fix` would take cost."""

    untried: int = 0
    """Errors at blocks for which a form was found that was not judged, as a check judges so many blocks."""
    macs: int | None = None
    """MACs that the model would make more, or fewer; None where that is not known."""
    bytes: int | None = None
    """Bytes of activations that it would write more, or fewer; None where that is not known."""
    ends: str = ""
    """`head`, `tail` or `head and tail`, where the errors that no exact form removes are only there."""
