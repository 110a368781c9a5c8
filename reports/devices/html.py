"""One model on two devices, as one page: what each refuses, and both graphs with what they judge differently."""

from __future__ import annotations

from npu_guard.reports.blocks.devices import of_devices
from npu_guard.reports.blocks.page import page
from npu_guard.results.findings import Report

HASHES = LAYERS = REMEDIES = True


def render(report: Report, *, color: bool = False) -> str:
    """The page of a report that has the model twice, with the comparison before everything else."""
    one, two = report.models
    return page(report, of_devices(one, two))
