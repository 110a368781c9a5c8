"""Findings in a line each."""

from __future__ import annotations

from collections.abc import Iterable

from npu_guard.base.text import printable
from npu_guard.reports.blocks.scopes import folded
from npu_guard.results.findings import Finding
from npu_guard.results.summary import message


def finding_lines(findings: Iterable[Finding]) -> list[str]:
    """`NPU201  kernel 19x1 is longer than 17 (Conv in encoder.stages.*.mix, 9 times)`; those that say the same in one line."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for f in findings:
        groups.setdefault((f.rule, message(f), f.location.op_type), []).append(f)
    return [f"{rule}  {printable(told)} ({_place(found)})" for (rule, told, _), found in groups.items()]


def _place(found: list[Finding]) -> str:
    """`Conv in encoder.mix, 9 times`; what is in no module is known by its node."""
    op, paths = printable(found[0].location.op_type), [f.location.scope for f in found]
    node = printable(found[0].location.node or found[0].location.output, 80)
    return (f"{op} in {printable(folded(paths))}" if any(paths) else f"{op} {node}".rstrip()) + times(found)


def altered_lines(pairs: Iterable[tuple[Finding, Finding]]) -> list[str]:
    """`NPU201  kernel 21x1 is longer than 17, and it was: kernel 19x1 is longer than 17 (Conv in encoder.mix)`."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for old, new in pairs:
        groups.setdefault((message(old), new.rule, message(new), new.location.op_type), []).append(new)
    return [
        f"{rule}  {printable(told)}, and it was: {printable(was)} ({_place(found)})"
        for (was, rule, told, _), found in groups.items()
    ]


def times(found: list[Finding]) -> str:
    """`, 9 times`, nothing for one."""
    return f", {len(found):,} times" if len(found) > 1 else ""
