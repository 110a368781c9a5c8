"""Forms that follow each other in one place, in words: one that is needed for many parts is named once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable


def in_turn(names: Iterable[str]) -> list[tuple[str, str]]:
    """Each form with how often it follows itself, `("channels-to-aligned", ", 9 times")`."""
    found = ((name, len(list(same))) for name, same in itertools.groupby(names))
    return [(name, f", {times:,} times" if times > 1 else "") for name, times in found]
