"""What the calls return: reports with what a program, a person and a notebook ask of them."""

from __future__ import annotations

import collections
import html
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_guard.results.findings import Applied, Finding, ModelReport, Outcome, RefusedMatch, Severity, Totals
from npu_guard.results.verification import Verification

if TYPE_CHECKING:
    import onnx
    import pandas

    from npu_guard.results import findings

_ROWS = 50
"""Findings in the table of a notebook; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Report:
    """What `check` says of one model on one device."""

    run: findings.Report
    """The run as reporters take it: this model and the settings that decide the exit code."""

    @property
    def model(self) -> ModelReport:
        """The model's part of the run."""
        return self.run.models[0]

    @property
    def verdict(self) -> str:
        """`pass`, `fail`, `undecided` or `unreadable`."""
        return self.model.verdict.value

    @property
    def exit_code(self) -> int:
        """The exit code that `npu-guard check` would end with: 0 where the model passes."""
        from npu_guard.results.summary import exit_code

        return exit_code(self.run)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings that count, those that suppressions accept left out, in the order of the text: the most important first.

        That is the severity, with what is undecided behind what is sure, then the MACs that the operator holds back, then graph
        order. `model.findings` are in the order of the graph, as JSON has them.
        """
        from npu_guard.results.groups import ranked

        return tuple(ranked(f for f in self.model.findings if f.suppressed is None))

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that say that an operator does not run on the device."""
        return tuple(f for f in self.findings if f.severity is Severity.ERROR and f.outcome is Outcome.FAIL)

    @property
    def totals(self) -> Totals:
        """Nodes, parameters, MACs and bytes of the model."""
        return self.model.totals

    def render(self, form: str = "text", *, verbose: bool = False) -> str:
        """The report in a format of `npu-guard check --format`; in the text, `verbose` shows all.

        Raises UsageError where there is no such format.
        """
        from npu_guard.base.errors import UsageError
        from npu_guard.checking import registry

        if form not in (known := tuple(registry.members("reports"))):
            raise UsageError(f"no format {form!r}; there are {', '.join(known)}")
        return self._text(verbose=verbose) + "\n" if form == "text" else registry.renderer(form)(self.run, color=False)

    def _text(self, **options: Any) -> str:
        from npu_guard.checking import registry

        render: Callable[..., str] = registry.renderer("text")
        return render(self.run, **{"more": "render(verbose=True)"} | options).rstrip()

    def to_frame(self) -> pandas.DataFrame:
        """A row for each finding, as a pandas data frame. Raises UsageError where pandas is not installed."""
        try:
            import pandas
        except ModuleNotFoundError:
            from npu_guard.base.errors import UsageError

            raise UsageError("to_frame() needs pandas: pip install pandas") from None
        return pandas.DataFrame([_row(f, self.totals.macs) for f in self.findings], columns=_COLUMNS)

    def brief(self, more: str = "render(verbose=True)") -> str:
        """The text with its most important findings alone, and without what to do about each rule: some twenty lines.

        `more` is what shows the rest, as the text says it.
        """
        return str(self) if self.model.error is not None else self._text(brief=True, more=more)

    def headline(self) -> str:
        """One line: `47 errors, first depthnet/blocks.py:19 (NPU102); 2 warnings`. It is `findings[0]`, the text's first."""
        if self.model.error is not None or not self.findings:
            return "no findings" if self.model.error is None else self.model.error[1]
        most, *others = self._counts()
        first = self.findings[0]
        rest = f"; {', '.join(others)}" if others else ""
        return f"{most}, first {location(first)} ({first.rule}){rest}"  # a terminal's line ends soon

    def count_first(self) -> str:
        """The same for lines that end soon, without folders: `47 errors, blocks.py:19 (NPU102); 2 warnings`."""
        if self.model.error is not None or not self.findings:
            return self.headline()
        most, *others = self._counts()
        first = self.findings[0]
        where = f"{Path(first.source.file).name}:{first.source.line}" if first.source is not None else location(first)
        return "; ".join([f"{most}, {where} ({first.rule})", *others])

    def _counts(self) -> list[str]:
        """`47 errors`, `2 warnings`, `1 undecided`, that of the first finding first, without those that are none."""
        from npu_guard.results.summary import plural, word

        counts = collections.Counter(map(word, self.findings))
        order = dict.fromkeys((word(self.findings[0]), "error", "warning", "note", "undecided"))
        return [f"{counts[k]:,} undecided" if k == "undecided" else plural(counts[k], k) for k in order if counts[k]]

    def __str__(self) -> str:
        if self.model.error is not None:  # the command says why on standard error
            from npu_guard.base.text import inert

            return f"UNREADABLE  {inert(self.model.error[1])}"
        return self.render("text").rstrip()

    def __repr__(self) -> str:
        return f"<Report {self.model.path} on {self.model.profile}: {self.verdict}, {self.headline()}>"

    def _repr_html_(self) -> str:
        """A table for notebooks: what is wrong and where, in the columns that fit beside each other."""
        from npu_guard.results.summary import message, word

        columns = "".join(f'<th style="text-align: left">{name}</th>' for name in _SHOWN)
        rows = "".join(
            "<tr>"
            + "".join(
                f'<td style="text-align: left">{html.escape("" if v is None else str(v))}</td>'
                for v in (f"{word(f)} {f.rule}", message(f), location(f), *map(_row(f).get, _SHOWN[3:]))
            )
            + "</tr>"
            for f in self.findings[:_ROWS]
        )
        more = f"<p>and {len(self.findings) - _ROWS} more</p>" if len(self.findings) > _ROWS else ""
        title = html.escape(f"{self.model.path} on {self.model.profile}: {self.verdict}, {self.headline()}")
        return f"<p><b>{title}</b></p><table><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table>{more}"


class Scratch:
    """A temporary folder that is removed with the value that holds it, or at the latest when Python ends."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="npu-guard-")
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Fix:
    """What `fix` did: the model after it, what was replaced, and how the result compares with the original."""

    before: ModelReport
    after: ModelReport
    applied: tuple[Applied, ...]
    refused: tuple[RefusedMatch, ...]
    verification: Verification
    path: Path
    """The fixed model: the file that was asked for, else a temporary one that lives as long as this value."""
    _folder: Scratch | None = field(default=None, repr=False)

    @property
    def verified(self) -> bool:
        """Whether the fixed model computes what the original does (`equal`), or comes as close as was allowed (`close`)."""
        return not self.applied or self.verification.verdict in ("equal", "close")

    def load(self) -> onnx.ModelProto:
        """The fixed model, weights included."""
        import onnx

        return onnx.load(os.fspath(self.path))

    def __repr__(self) -> str:
        errors = [sum(f.severity is Severity.ERROR for f in r.findings) for r in (self.before, self.after)]
        return f"<Fix {self.before.path}: {len(self.applied)} replaced, errors {errors[0]} -> {errors[1]}>"


@dataclass(frozen=True, slots=True)
class Quantized:
    """What `quantize` made: the report of the quantized model, and how near it comes to the original."""

    report: ModelReport
    outputs: Mapping[str, float]
    """Signal-to-noise ratio of each output against the original, in dB."""
    path: Path
    """The quantized model: the file that was asked for, else a temporary one that lives as long as this value."""
    _folder: Scratch | None = field(default=None, repr=False)

    def load(self) -> onnx.ModelProto:
        """The quantized model, weights included."""
        import onnx

        return onnx.load(os.fspath(self.path))

    def __repr__(self) -> str:
        least = min(self.outputs.values())
        return f"<Quantized {self.report.path} on {self.report.profile}: {self.report.verdict.value}, at least {least:.1f} dB>"


def location(finding: Finding) -> str:
    """The line of Python of a finding, else its module path, else its node."""
    if finding.source is not None:
        return f"{finding.source.file}:{finding.source.line}"
    return ".".join(finding.location.scope) or finding.location.node or finding.location.output


_COLUMNS = (
    "rule", "severity", "outcome", "location", "module", "node", "operator", "message", "measured", "allowed", "remedy",
    "shape", "macs", "macs_percent",
)  # fmt: skip
_SHOWN = ("finding", "message", "location", "module", "operator", "node", "remedy")
"""Of a table that a reader looks at: the message has the numbers, and severity and outcome are a word before the rule."""


def _row(finding: Finding, macs: int = 0) -> Mapping[str, Any]:
    evidence = finding.evidence
    remedy = finding.remedy.substitution if finding.remedy is not None else None
    shape = finding.tensor.shape if finding.tensor is not None else None
    return dict(
        zip(
            _COLUMNS,
            (
                finding.rule, finding.severity.value, finding.outcome.value, location(finding), ".".join(finding.location.scope),
                finding.location.node or finding.location.output, finding.location.op_type, finding.message,
                evidence and evidence.measured, evidence and evidence.allowed, remedy, shape, finding.macs,
                100 * finding.macs / macs if macs else None,
            ),
            strict=True,
        )
    )  # fmt: skip
