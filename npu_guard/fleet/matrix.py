"""Many models against many devices, for whoever chooses a chip: one analysis each, a verdict for each pair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

import npu_guard
from npu_guard.base.errors import ModelError, UsageError
from npu_guard.base.text import json_ascii, printable
from npu_guard.checking import registry
from npu_guard.checking.engine import check
from npu_guard.pipeline.check import analysis_of, report_of
from npu_guard.project.config import Config, project_root
from npu_guard.results.findings import ModelReport, Report, Verdict
from npu_guard.results.summary import count

FORMATS = ("text", "json", "markdown", "html")


class Cell(Struct, frozen=True):
    """One model on one device."""

    profile: str
    verdict: str
    error: int
    warning: int
    undecided: int
    npu_macs_percent: float


class Row(Struct, frozen=True):
    """One model on all devices; no cells where it cannot be read, and then why."""

    path: str
    cells: tuple[Cell, ...]
    error: str | None = None


class Matrix(Struct, frozen=True):
    """All models on all devices, and what decides the exit code."""

    profiles: tuple[str, ...]
    rows: tuple[Row, ...]
    report: Report


def matrix_devices(profile: str | None, everything: bool) -> list[str]:
    """The devices of a matrix, none where `--profile` names a single one. Raises UsageError."""
    if not everything:
        return [name.strip() for name in profile.split(",") if name.strip()] if profile and "," in profile else []
    if profile:
        raise UsageError("--all-profiles and --profile exclude each other; several profiles are written as --profile A,B")
    return registry.profile_names()


def compare_devices(paths: Sequence[str], names: Sequence[str], config: Config) -> Matrix:
    """Check each model against each device. Raises UsageError for a profile; a model that cannot be read is a row."""
    profiles = [registry.profile(name) for name in dict.fromkeys(names)]
    rows, reports = [], []
    for path in paths:
        try:
            analysis = analysis_of(path, config)
            found = []
            for profile in profiles:
                checked = check(analysis, profile, registry.rules(), config, project_root(Path.cwd()))
                found.append(report_of(path, profile, config, analysis, checked, ""))
        except ModelError as error:
            rows.append(Row(path, (), str(error)))
            reports.append(ModelReport(path, "", Verdict.UNREADABLE, error=(error.kind, str(error))))
            continue
        rows.append(Row(path, tuple(map(_cell, found))))
        reports += found
    whole = Report(npu_guard.__version__, tuple(reports), config.fail_on, config.allow_undecided)
    return Matrix(tuple(p.name for p in profiles), tuple(rows), whole)


def _cell(report: ModelReport) -> Cell:
    counts = count(report.findings)
    share = report.totals.npu_macs_percent
    return Cell(report.profile, report.verdict.value, counts.error, counts.warning, counts.undecided, share)


def render_matrix(matrix: Matrix, form: str) -> str:
    """The matrix as text, JSON, Markdown or HTML. Raises UsageError."""
    if form not in FORMATS:
        raise UsageError(f"--format {form}: several profiles at once are shown as {', '.join(FORMATS)}")
    if form == "json":
        models = [{"path": r.path, "error": r.error, "devices": [msgspec.to_builtins(c) for c in r.cells]} for r in matrix.rows]
        document = {
            "schema_version": 1, "tool": {"name": "npu-guard", "version": matrix.report.version},
            "profiles": matrix.profiles, "models": models,
        }  # fmt: skip
        return json_ascii(msgspec.json.format(msgspec.json.encode(document), indent=2).decode()) + "\n"
    head = ["device", *(printable(row.path) for row in matrix.rows)]
    table = [head]
    for index, profile in enumerate(matrix.profiles):
        table.append(
            [printable(profile), *(describe_cell(row.cells[index]) if row.cells else "unreadable" for row in matrix.rows)]
        )
    if form == "text":
        widths = [max(len(line[column]) for line in table) for column in range(len(head))]
        lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
        return "\n".join(lines) + f"\n\n{LEGEND}\n"
    if form == "markdown":
        lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in table]
        return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:], "", LEGEND]) + "\n"
    return _html(matrix, table)


LEGEND = "Errors keep an operator off the device; the share is that of the multiplications which then still run on it."


def describe_cell(cell: Cell) -> str:
    """One model on one device, in a few words: `fail, 3 errors, 87 %`."""
    parts = [cell.verdict]
    for number, word in ((cell.error, "error"), (cell.warning, "warning")):
        if number:
            parts.append(f"{number} {word}{'s' if number > 1 else ''}")
    if cell.undecided:
        parts.append(f"{cell.undecided} undecided")
    return f"{', '.join(parts)}, {cell.npu_macs_percent:.4g} %"


_STYLE = (
    "body{font:15px system-ui,sans-serif;margin:2em}table{border-collapse:collapse}th,td{border:1px solid #999;padding:.3em .7em;"
    "text-align:left}.pass{background:#d9f2dc}.fail{background:#f8d7da}.undecided{background:#fff3cd}"
)


def _html(matrix: Matrix, table: list[list[str]]) -> str:
    import html  # its table of entities is large, and `check` without a matrix does without

    rows = ["".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in table[0])]
    for index, line in enumerate(table[1:]):
        verdicts = [row.cells[index].verdict if row.cells else "undecided" for row in matrix.rows]
        cells = (f'<td class="{v}">{html.escape(cell)}</td>' for v, cell in zip(verdicts, line[1:], strict=True))
        rows.append(f'<th scope="row">{html.escape(line[0])}</th>{"".join(cells)}')
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Models and devices</title>\n<style>{_STYLE}</style>'
        f"</head>\n"
        f"<body><h1>Models and devices</h1>\n<table>\n{body}\n</table>\n<p>{LEGEND}</p></body></html>\n"
    )
