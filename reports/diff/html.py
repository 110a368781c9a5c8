"""What a change makes of a model, as one page: findings that are new and fixed, costs, and both graphs with what changed."""

from __future__ import annotations

from msgspec.structs import replace

from npu_guard.gate.diff import Diff
from npu_guard.reports.blocks.comparison import of_diff
from npu_guard.reports.blocks.page import page
from npu_guard.results.summary import verdict

LAYERS = True


def render(diff: Diff, *, color: bool = False) -> str:
    """The page, with the comparison before everything else.

    Each model has the verdict that `check` gives it; the comparison's own is about what is new.
    """
    head = replace(diff.head, findings=diff.now, verdict=verdict(diff.now, diff.fail_on))
    return page(replace(diff.report, models=(diff.base, head), date=diff.date), of_diff(diff))
