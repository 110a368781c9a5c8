"""What a report that is kept depends on."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Dependencies(Struct, frozen=True):
    """What a report rests on besides its stamp: the structure of the model, and what was looked up outside of it."""

    key: str
    files: Mapping[str, tuple[str, bool]]
    """What was looked up to find lines of Python; see `origin.Lookups`."""
    beside: Mapping[str, int]
    """Sizes of files of weights, by location."""
