"""How far it is known that two models are one function."""

from __future__ import annotations

from msgspec import Struct

PROVED, ROUNDING, SAMPLED, REFUTED = "proved", "proved up to rounding", "sampled", "refuted"
LABELS = (PROVED, ROUNDING, SAMPLED, REFUTED)
"""From the best to the worst."""


class Proof(Struct, frozen=True):
    """Whether two models, or two spellings of a block, are one function of real numbers, and what that rests on.

    `proved`: with the constants as stored. `proved up to rounding`: with constants next to the stored ones, which are listed.
    `sampled`: neither is known. `refuted`: they differ by more than rounding.
    """

    label: str
    way: str = ""
    constants: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    bound: float = 1.0
    """Probability at most that a difference was overlooked."""
    reason: str = ""
    """Why it is not proved."""

    def reaches(self, label: str) -> bool:
        """Whether it is as good as a label."""
        return LABELS.index(self.label) <= LABELS.index(label)
