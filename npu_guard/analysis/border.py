"""A block that is looked at alone is cut out of a model, and its border is none of that model's: what lies beyond it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Border(Struct, frozen=True):
    """What lies beyond the border of a block, by the names of its inputs and outputs; nothing does beyond that of a model."""

    computed: frozenset[str] = frozenset()
    """Inputs that the model computes."""
    beside: frozenset[str] = frozenset()
    """Inputs that others read too, or that leave the model."""
    read: Mapping[str, bool] = {}
    """Outputs that do not leave the model, and whether they do so behind operators that work in any layout."""
