"""One HTML page that needs nothing else: no network, no files beside it, and not even scripts for what matters most."""

from __future__ import annotations

from npu_guard.reports.blocks.page import page
from npu_guard.results.findings import Report

HASHES = True
LAYERS = True
REMEDIES = True


def render(report: Report, *, color: bool = False) -> str:
    """The page."""
    return page(report)
