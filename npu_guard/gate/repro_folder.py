"""A folder of repros with an index: what `check --save-repro` writes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from npu_guard.analysis.analyze import Analysis
from npu_guard.base.errors import UsageError
from npu_guard.base.files import write_atomic
from npu_guard.base.markdown import code_span, plain_text
from npu_guard.base.regex import regex
from npu_guard.gate.repro import ExtractError, extract
from npu_guard.project.paths import in_project
from npu_guard.results.findings import Finding, ModelReport

INDEX = "README.md"
_FIRST = "# Findings of npu-guard as models of their own"
_FILE = regex(r"\d{1,9}-NPU\d{3}-[\w.-]{1,80}\.onnx")
MAX_TOTAL = 1 << 30
"""Bytes of one folder; findings beyond it are in the index without a file."""

Recheck = Callable[[str], Sequence[Finding]]
"""What `check` says of a file."""


class Folder:
    """Takes repros model by model; `close` writes the index."""

    def __init__(self, path: Path, recheck: Recheck) -> None:
        self.path = path
        self.recheck = recheck
        self.rows: list[str] = []
        self.number = 0
        self.bytes = 0
        _prepare(path)

    def add(self, model: ModelReport, analysis: Analysis) -> None:
        """Every finding of a model that counts."""
        for finding in model.findings:
            if finding.suppressed is None:
                self.number += 1
                file, note = self._save(finding, analysis)
                self.rows.append(_row(self.number, file, finding, model, note))

    def close(self) -> int:
        """Write the index; returns the number of files."""
        table = "| # | file | rule | operator | module | finding | note |\n|---|---|---|---|---|---|---|\n" + "".join(self.rows)
        page = f"{_FIRST}\n\n{_ABOUT}\n\n{table if self.rows else 'There are no findings.'}"
        write_atomic(self.path / INDEX, [f"{page.rstrip()}\n".encode("utf-8", "backslashreplace")])
        return sum("](" in row for row in self.rows)

    def _save(self, finding: Finding, analysis: Analysis) -> tuple[str, str]:
        """Name of the file (empty where there is none) and a note."""
        name = f"{self.number}-{finding.rule}-{_slug(finding.location.node)}.onnx"
        content = b""
        try:
            for model in extract(analysis, finding):
                content = model.SerializeToString(deterministic=True)
                if self.bytes + len(content) > MAX_TOTAL:
                    return "", f"no file: the folder has reached {MAX_TOTAL >> 30} GiB"
                write_atomic(self.path / name, [content])
                if _what(finding) in {_what(found) for found in self.recheck(str(self.path / name))}:
                    self.bytes += len(content)
                    return name, ""
        except ExtractError as reason:
            if not content:
                return "", f"no file: {reason}"
        self.bytes += len(content)
        return name, "does not show outside of its model: it depends on what is around it"


_ABOUT = (
    "Each file holds one node, or a run of operators that npu-guard judges as one (with what reads the result, where that"
    " matters), with the shapes and attributes that it has in the model. Weights and inputs are not the model's: weights are"
    " random numbers of the same shape, from a fixed seed."
)


def _what(finding: Finding) -> object:
    return finding.rule, finding.outcome, finding.location.op_type, finding.evidence


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60].strip("-") or "node"


def _row(number: int, file: str, finding: Finding, model: ModelReport, note: str) -> str:
    location = finding.location
    module = ".".join(location.scope) or in_project(model.path)
    link = f"[{file}]({file})" if file else ""
    node = f"{plain_text(location.op_type, 80)} {code_span(location.node)}"
    cells = (node, plain_text(module), plain_text(finding.message), plain_text(note))
    return f"| {number} | {link} | {finding.rule} {finding.name} | " + " | ".join(cells) + " |\n"


def _prepare(path: Path) -> None:
    """An empty folder, or one of ours without its old repros. Raises UsageError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        there = sorted(path.iterdir())
    except OSError as error:
        raise UsageError(f"{path}: no folder can be made there ({error.strerror or error})") from None
    if not there:
        return
    with contextlib.suppress(OSError, UnicodeDecodeError):
        old = (path / INDEX).read_text(encoding="utf-8")
        if old.startswith(f"{_FIRST}\n"):
            _remove(path, re.findall(r"\]\(([^)\s]+)\)", old))
            return
    raise UsageError(f"{path}: has files that npu-guard did not write; name a new or an empty folder")


def _remove(path: Path, names: Iterable[str]) -> None:
    for name in names:
        if _FILE.fullmatch(name):
            (path / name).unlink(missing_ok=True)
