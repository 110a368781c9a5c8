"""One finding in one line."""

from __future__ import annotations

from npu_guard.base.text import printable
from npu_guard.results.findings import Finding
from npu_guard.results.summary import message


def finding_line(finding: Finding) -> str:
    """`NPU201  kernel 19x1 is longer than 17 (Conv in encoder.stem)`."""
    module = ".".join(finding.location.scope) or "top level"
    return f"{finding.rule}  {printable(message(finding))} ({printable(finding.location.op_type)} in {printable(module)})"
