"""The share of the multiply-accumulates that runs, in words."""

from __future__ import annotations

from npu_guard.results.summary import percent


def share_words(share: float, errors: int) -> str:
    """The share of the MACs that runs, where it stands on its own; beside errors, all of them are not all operators."""
    return "all MACs, but not all operators" if share == 100 and errors else percent(share)
