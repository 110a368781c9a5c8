"""JSON, version 1: the contract with other people's tools. Converted on purpose, never a dump of internals."""

from __future__ import annotations

import msgspec

from npu_guard.base.json import json_text
from npu_guard.results import findings, simplified
from npu_guard.results.documented import documented_percent
from npu_guard.results.findings import Finding, ModelReport, Number, Report, SourceLine
from npu_guard.results.summary import count

VERSION = 1
HASHES = True
REMEDIES = True


class Tool(msgspec.Struct):
    """Who made the report."""

    name: str
    version: str


class Error(msgspec.Struct):
    """Why a model could not be read or was refused."""

    kind: str
    message: str


class Summary(msgspec.Struct):
    """Counts over one model. Suppressed findings count only as `suppressed`; `undecided` ones not in their severity."""

    nodes: int
    error: int
    warning: int
    note: int
    undecided: int
    suppressed: int
    fixable: int
    """Findings that some substitution removes, `fixable_errors` those errors that an exact one does."""
    params: int
    macs: int
    npu_macs_percent: float
    documented_macs_percent: float
    """The share of these MACs on operators of which the device's documents say that they run."""
    fixable_errors: int = 0
    uncounted: int = 0
    """Operators whose MACs are not known, as shapes are open; the shares are of what is known."""
    integer_macs_percent: float | None = None
    """The share of the MACs on operators that read and give integers; null where nothing is quantized."""


class Tensor(msgspec.Struct, omit_defaults=True):
    """The tensor that shows a problem. Unknown extents are null, symbolic ones strings."""

    name: str
    shape: list[int | str | None] | None
    dtype: str | None
    encoding: str = ""
    """How it is held in a quantized network, such as `as uint8, scale 0.05, zero point 128`."""


class Evidence(msgspec.Struct):
    """The limit compared."""

    limit: str
    measured: int | float | str | list[int]
    allowed: int | float | str | list[int]


class Source(msgspec.Struct):
    """The line of Python that made the operator, relative to the project's root."""

    file: str
    line: int
    function: str
    module: str


class Remedy(msgspec.Struct):
    """The substitution that `fix` would try."""

    substitution: str
    exactness: str
    chain: list[str] = []
    """Those that would follow in its place, as the device refuses what the first one writes."""


class FindingV1(msgspec.Struct):
    """One finding."""

    rule: str
    name: str
    severity: str
    outcome: str
    node: str
    op_type: str
    scope: list[str]
    message: str
    tensor: Tensor | None
    evidence: Evidence | None
    source: Source | None
    remedy: Remedy | None
    fingerprint: str
    suppressed: bool
    consequence: str = ""
    """`compile-error`, `host`, `decomposed` or `slow`, where the device's documents say what becomes of the node."""


class Moved(msgspec.Struct):
    """A finding that only one of two models has."""

    rule: str
    node: str
    fingerprint: str


class Simplified(msgspec.Struct):
    """A simplifier that ran before the model was judged, and what it alone did to the findings."""

    by: str
    nodes_before: int
    nodes_after: int
    removes: list[Moved]
    adds: list[Moved]
    verification: str
    """`equal`, `differs` or `not_run`; empty where nobody asked."""
    reason: str


class Model(msgspec.Struct):
    """One model against one profile."""

    path: str
    sha256: str
    profile: str
    verdict: str
    error: Error | None
    summary: Summary
    findings: list[FindingV1]
    ends: str = ""
    """`head`, `tail` or `head and tail`, where the errors that no exact substitution removes are only there: for the host."""
    simplified: Simplified | msgspec.UnsetType = msgspec.UNSET
    """Left out where none ran."""


class ReportV1(msgspec.Struct):
    """The whole document."""

    schema_version: int
    tool: Tool
    models: list[Model]


def render(report: Report, *, color: bool = False) -> str:
    """The report as indented JSON with a final newline."""
    document = ReportV1(VERSION, Tool("npu-guard", report.version), [_model(m) for m in report.models])
    return json_text(document)


def schema() -> str:
    """JSON Schema (2020-12) of the document, as it is shipped."""
    generated = msgspec.json.schema(ReportV1)
    generated = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "npu-guard report, version 1", **generated}
    return msgspec.json.format(msgspec.json.encode(generated, order="sorted"), indent=2).decode() + "\n"


def _model(report: ModelReport) -> Model:
    counts, totals = count(report.findings), report.totals
    return Model(
        path=report.path,
        sha256=report.sha256,
        profile=report.profile,
        verdict=report.verdict.value,
        error=None if report.error is None else Error(report.error[0], report.error[1]),
        summary=Summary(
            nodes=totals.nodes,
            error=counts.error,
            warning=counts.warning,
            note=counts.note,
            undecided=counts.undecided,
            suppressed=counts.suppressed,
            fixable=counts.fixable,
            params=totals.params,
            macs=totals.macs,
            npu_macs_percent=totals.npu_macs_percent,
            documented_macs_percent=documented_percent(report),
            fixable_errors=counts.mended,
            uncounted=totals.uncounted,
            integer_macs_percent=totals.integer_macs_percent,
        ),
        findings=[_finding(f) for f in report.findings],
        ends=report.prospect.ends,
        simplified=msgspec.UNSET if report.simplified is None else _simplified(report.simplified),
    )


def _simplified(done: simplified.Simplified) -> Simplified:
    removes, adds = ([Moved(m.rule, m.node, m.fingerprint) for m in moved] for moved in (done.removes, done.adds))
    return Simplified(done.by, done.nodes_before, done.nodes_after, removes, adds, done.verification, done.reason)


def _finding(f: Finding) -> FindingV1:
    return FindingV1(
        rule=f.rule,
        name=f.name,
        severity=f.severity.value,
        outcome=f.outcome.value,
        node=f.location.node,
        op_type=f.location.op_type,
        scope=list(f.location.scope),
        message=f.message,
        tensor=None if f.tensor is None else _tensor(f.tensor),
        evidence=None
        if f.evidence is None
        else Evidence(f.evidence.limit, _number(f.evidence.measured), _number(f.evidence.allowed)),
        source=None if f.source is None else _source(f.source),
        remedy=None
        if f.remedy is None or f.remedy.substitution is None
        else Remedy(f.remedy.substitution, f.remedy.exactness or "", list(f.remedy.chain)),
        fingerprint=f.fingerprint,
        suppressed=f.suppressed is not None,
        consequence=f.consequence,
    )


def _tensor(tensor: findings.Tensor) -> Tensor:
    shape = None if tensor.shape is None else list(tensor.shape)
    return Tensor(tensor.name, shape, tensor.dtype, tensor.encoding)


def _source(line: SourceLine) -> Source:
    return Source(line.file, line.line, line.function, line.module)


def _number(value: Number) -> int | float | str | list[int]:
    return list(value) if isinstance(value, tuple) else value
