"""What `fix` did, as one page: both graphs with what was replaced, costs, errors, and how the results were compared."""

from __future__ import annotations

from msgspec.structs import replace

from npu_guard.base.installation import VERSION
from npu_guard.fixing.report import FixResult
from npu_guard.reports.blocks.comparison import of_fix
from npu_guard.reports.blocks.page import page
from npu_guard.results.findings import Report

LAYERS = True


def render(result: FixResult, *, color: bool = False) -> str:
    """The page, with the comparison before everything else."""
    after = result.report.after
    if result.written is not None:
        after = replace(after, path=str(result.written))
    return page(Report(VERSION, (result.report.before, after), date=result.date), of_fix(result))
