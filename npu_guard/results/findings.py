"""What the engine says, as frozen values without behaviour. Imports no onnx, so that reports stay light."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from msgspec import Struct, field

from npu_guard.results.command import Command
from npu_guard.results.device import Device
from npu_guard.results.pieces import Pieces
from npu_guard.results.prospect import Prospect
from npu_guard.results.simplified import Simplified
from npu_guard.results.verification import Verification

Dim = int | str | None
"""An extent: a number, a symbol such as `batch`, or None where nothing is known."""
Number = int | float | str | tuple[int, ...]

INPUT = "graph input"  # stands for an operator at such a place


class Severity(enum.Enum):
    """How much a finding matters, by rule, profile or project."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """0 for a note, 2 for an error."""
        return ("note", "warning", "error").index(self.value)


class Outcome(enum.Enum):
    """What a rule could establish about a place where it spoke."""

    FAIL = "fail"
    UNDECIDED = "undecided"


class Verdict(enum.Enum):
    """The whole model against one profile."""

    PASS = "pass"
    FAIL = "fail"
    UNDECIDED = "undecided"
    UNREADABLE = "unreadable"


class Tensor(Struct, frozen=True):
    """A tensor as a reader of the report sees it."""

    name: str
    shape: tuple[Dim, ...] | None
    dtype: str | None
    encoding: str = ""
    """How it is held in a quantized network, `as uint8, scale 0.05, zero point 128`."""


class Evidence(Struct, frozen=True):
    """The limit that was compared, what the model has, and what the device allows."""

    limit: str
    measured: Number
    allowed: Number


class SourceLine(Struct, frozen=True):
    """The line of Python that made the operator, relative to the project's root."""

    file: str
    line: int
    function: str
    module: str


class Remedy(Struct, frozen=True):
    """The substitution that `fix` would try, and what to write instead."""

    substitution: str | None
    exactness: str | None
    advice: str
    chain: tuple[str, ...] = ()  # substitutions that would follow in its place, as the device refuses what the first one writes
    option: str = ""
    """Option without which `fix` leaves the finding as it is: what costs more than warnings are worth, what only comes close."""
    operators: tuple[str, ...] = ()  # of the block that it replaces, each once


class Location(Struct, frozen=True):
    """Where in the model: the output tensor plus module path is the identity, names may be empty or repeated."""

    node: str
    op_type: str
    output: str
    scope: tuple[str, ...] = ()
    graph: tuple[str, ...] = ()
    """Path of enclosing subgraphs, such as ("If_3.then_branch",)."""
    family: str = ""
    """The operator that `op_type` is another spelling of, as Gemm is of MatMul; empty where it is its own."""


class Finding(Struct, frozen=True):
    """One rule's word on one place."""

    rule: str
    name: str
    severity: Severity
    outcome: Outcome
    location: Location
    message: str
    tensor: Tensor | None = None
    evidence: Evidence | None = None
    source: SourceLine | None = None
    remedy: Remedy | None = None
    fingerprint: str = ""
    suppressed: str | None = None
    """The reason from the configuration, where the finding was suppressed."""
    macs: int = 0
    """MACs of the node: what the finding holds back."""
    consequence: str = ""
    """`compile-error`, `host`, `decomposed` or `slow`, where the device's documents say what becomes of the node."""
    known: str = ""
    """`in the baseline` or `known at main`, where it is suppressed because the model had it before."""

    def __repr__(self) -> str:  # in a line, as lists of findings are printed
        line, node = "" if self.source is None else f" at {self.source.file}:{self.source.line}", self.location
        return f"<Finding {self.severity.value} {self.rule}{line}, {node.op_type} {node.node!r}: {self.message}>"


class RuleCrash(Struct, frozen=True):
    """A rule that raised: a bug of ours. The other rules still ran."""

    rule: str
    node: str
    error: str


class Work(Struct, frozen=True):
    """What the nodes of a block cost together, as far as they leave a trace on a device."""

    nodes: int = 0
    macs: int = 0
    activation_bytes: int = 0
    params: int = 0


class Applied(Struct, frozen=True):
    """A block that was replaced."""

    substitution: str
    exactness: str
    node: str
    """The root of the match."""
    rules: tuple[str, ...]
    """Codes of those whose findings in the block it removed."""
    nodes_before: tuple[str, ...]
    nodes_after: tuple[str, ...]
    verification: Verification
    note: str = ""
    """For approximate ones, how close they came on samples that were held out of the fit."""
    at: str = ""
    """First output of the root: with the substitution, the identity of the match."""
    number: int = 1
    """The pass in which it was replaced."""
    op_type: str = ""
    source: SourceLine | None = None
    before: Work = Work()
    after: Work = Work()
    others: tuple[str, ...] = ()
    """Substitutions that fit here as well, or at a part of it."""
    chain: tuple[str, ...] = ()
    """Substitutions that took the place of what this one had written, in order."""


class RefusedMatch(Struct, frozen=True):
    """A block that was not replaced, and why."""

    substitution: str
    node: str
    reason: str
    at: tuple[str, ...] = ()
    """First outputs of its nodes, where it is about nodes; the findings there are those that it could have removed."""


class NodeCost(Struct, frozen=True, gc=False):
    """Cost of one node. Bytes are of the element type in the model, batch included."""

    macs: int
    params: int
    output_bytes: int
    live_bytes: int
    """Activations alive while this node runs: its inputs, its outputs and whatever is needed later."""


class Totals(Struct, frozen=True):
    """Sums over the model; folded nodes count for nothing."""

    nodes: int = 0
    params: int = 0
    macs: int = 0
    activation_bytes: int = 0
    peak_bytes: int = 0
    npu_macs_percent: float = 0.0
    uncounted: int = 0
    """Operators whose MACs are not known, as shapes are open; shares are of what is known."""
    integer_macs_percent: float | None = None
    """The share of the MACs on operators that read and give integers; None where nothing is quantized."""


class Operand(Struct, frozen=True, gc=False):
    """A tensor that an operator reads or makes."""

    formal: str
    """What ONNX calls it, such as `W`; empty where the operator is not known."""
    name: str
    shape: tuple[Dim, ...] | None
    dtype: str | None
    constant: bool = False
    """A weight, or what a compiler works out beforehand."""
    encoding: str = ""
    """How it is held in a quantized network."""


class Attribute(Struct, frozen=True, gc=False):
    """An attribute in words."""

    name: str
    value: str
    default: bool = False
    """Whether the node leaves it out, and this is what ONNX takes."""


class LayerRow(Struct, frozen=True):
    """One operator, or one graph input (`place.op_type` is then "graph input"), as the full report shows it."""

    index: int
    location: Location
    scope: tuple[str, ...]
    """Module path, with the bodies of If, Loop and Scan on the way: where the picture of the graph shows it."""
    inputs: tuple[int, ...]
    """Indices of the rows whose data this one reads, seen through folded ones; constants are left out."""
    shape: tuple[Dim, ...] | None
    dtype: str | None
    macs: int | None
    """None where shapes are not known."""
    params: int
    output_bytes: int | None
    live_bytes: int
    alignment_waste: float | None
    """Part of the output that is padding when its channels are aligned; None where the device or the shape does not say."""
    verdict: str
    """`ok`, `warning`, `error`, `undecided`, or `folded` where nothing is left to run."""
    results: tuple[str, ...] = ()
    """Graph outputs that it makes."""
    piece: int | None = None
    """Index of the piece that it is in, where the model was cut into pieces for NPU and host."""
    attributes: tuple[Attribute, ...] = ()
    reads: tuple[Operand, ...] = ()
    makes: tuple[Operand, ...] = ()
    source: SourceLine | None = None


class ModelReport(Struct, frozen=True):
    """Everything that one `check` says about one model and one profile."""

    path: str
    profile: str
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    crashes: tuple[RuleCrash, ...] = ()
    not_applicable: tuple[str, ...] = ()
    """Codes of rules whose limits the profile does not set."""
    totals: Totals = Totals()
    notes: tuple[str, ...] = ()
    """What the analysis assumed, for example a batch of 1."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Values whose shape is not known, with the reason."""
    sha256: str = ""
    error: tuple[str, str] | None = None
    """(kind, message) where the model was unreadable or refused."""
    opset: int = 0
    layers: tuple[LayerRow, ...] = ()
    """Every operator, only where asked for; so are `device` and `pieces`."""
    device: Device | None = None
    pieces: Pieces | None = None
    """None as well where everything is one piece on the NPU."""
    asked: tuple[str, ...] = ()
    """Codes of the rules that ran."""
    simplified: Simplified | None = None
    """What a simplifier did before the model was judged; None where none ran."""
    command: Command = Command()
    """How the model was named; what is suggested goes on from there."""
    modes: tuple[tuple[str, str], ...] = ()
    """Inputs whose value alone decides which branch of an If runs, each with a value that the graph compares it with, or `N`."""
    open_inputs: tuple[tuple[str, tuple[Dim, ...] | None], ...] = ()
    """Inputs of which an extent is not known, with their shapes: nothing can be run, so nothing verified."""
    prospect: Prospect = Prospect()
    """What `fix` would do, as far as a check sees; asked for with remedies."""


class Report(Struct, frozen=True):
    """One run: all models, and the settings that decide the exit code."""

    version: str
    models: tuple[ModelReport, ...]
    fail_on: str = "error"
    allow_undecided: bool = False
    date: str = ""
    """ISO date of the run, where somebody asked for it: without, the same input gives the same bytes."""
    docs_url: str = ""
    """Where the manual is on the web; empty where it is nowhere."""

    def rule_url(self, code: str) -> str:
        """Address of a rule's page, empty where there is none."""
        if not self.docs_url or "{code}" in self.docs_url:
            return self.docs_url.replace("{code}", code)
        return f"{self.docs_url.rstrip('/')}/rules/{code}/"
