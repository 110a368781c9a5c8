"""What a run of `fix` comes to, as the formats in `reports/fix/` show it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from npu_guard.fixing.driver import FixReport
from npu_guard.verification.int8 import Int8


@dataclass(frozen=True, slots=True)
class FixResult:
    """What was done to a model. `written` is the file of the result, and `dry` says that only a plan was asked for."""

    report: FixReport
    int8: Int8 | None = None
    written: Path | None = None
    dry: bool = False
    verbose: bool = False
    """Whether every place is to have a line of its own."""
    date: str = ""
    """ISO date of the run, where somebody asked for it."""
    metric: tuple[float, float] | None = None
    """The user's own figure before and after, where a function for it was named."""
