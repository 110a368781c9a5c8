"""The flow of `quantize` on one page: load -> calibrate and quantize as the device states -> check -> compare with the original.

With `sensitivity`, each operator is quantized alone and the results are compared, which names those that lose most.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from msgspec.structs import replace

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.analysis.opening import open_to_write
from npu_guard.analysis.quantized.reading import read
from npu_guard.base.errors import ModelError, NotVerified, UsageError
from npu_guard.base.text import short, text
from npu_guard.checking import registry
from npu_guard.checking.context import Context, context_of
from npu_guard.checking.engine import Checked, check
from npu_guard.checking.islands import islands
from npu_guard.device import Profile, suggest
from npu_guard.file import load
from npu_guard.graph.graph import Node
from npu_guard.graph.handlers import OfKind
from npu_guard.graph.origin import source_of
from npu_guard.partitioning.partition import partition_model
from npu_guard.pipeline.check import report_of
from npu_guard.project.config import Config, project_root
from npu_guard.results.findings import ModelReport, Severity, SourceLine
from npu_guard.rewriting.fused import groups, join
from npu_guard.verification.feeds import calibration_feeds, input_specs
from npu_guard.verification.int8 import ratio_over
from npu_guard.verification.ratio import LIMIT_DB
from npu_guard.verification.run_limits import run_limits
from npu_guard.verification.runtime import CannotRun, Runtime
from npu_guard.verification.scheme import Scheme, runs_wide, scheme_of

SAMPLES = 64
"""Inputs on which results are compared, the first of the calibration data."""
_MOVING = OfKind("view", "data mover", "identity", "query")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Shares:
    """How much of a network is in integers, and how it is cut."""

    integer_macs: int
    macs: int
    islands: int
    """Operators in floating point between quantized ones."""
    pieces: int
    """Pieces that the network is cut into between the NPU and the host."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """One operator, quantized alone."""

    node: str
    op_type: str
    decibels: float
    """Signal-to-noise ratio of the output that loses most."""
    macs: int
    source: SourceLine | None


@dataclass(frozen=True, slots=True)
class Quantization:
    """What `quantize` comes to. `content` is the model; `outputs` are signal-to-noise ratios in dB against the original."""

    path: str
    content: bytes
    scheme: Scheme
    samples: int
    compared: int
    outputs: Mapping[str, float]
    report: ModelReport
    shares: Shares
    sensitivity: tuple[Sensitivity, ...]
    """The operators that lose most first; empty where it was not asked for."""
    can_be_wide: bool
    """Whether the device holds activations in 16 bits."""
    joined: int = 0
    """Groups of operators that are one operator now, which the compiler took as one."""
    held_by_neighbours: tuple[str, ...] = ()
    """Operators of `keep` that compute in integers all the same: neighbours quantize what they read and give."""
    calibration: str = ""
    """Where the data is."""


@dataclass(frozen=True, slots=True)
class QuantizeResult:
    """What `quantize` found, as the formats in `reports/quantize/` show it."""

    quantization: Quantization
    minimum: float
    """What each output has to reach, in dB."""
    written: Path | None
    """None where nothing was written."""

    @property
    def lossy(self) -> tuple[str, ...]:
        """Outputs that reach less."""
        return tuple(sorted(name for name, decibels in self.quantization.outputs.items() if decibels < self.minimum))


def quantize_model(
    path: str, profile: Profile, config: Config, calibration: Path, *, keep: Sequence[str] = (), wide: bool = False,
    sensitivity: bool = False, progress: Progress = lambda what, done, total: None,
) -> Quantization:  # fmt: skip
    """Quantize a model as the device states; operators in `keep` stay in floating point or, with `wide`, have 16 bits.

    Raises ModelError where the model cannot be read, UsageError for names, data or a device that do not fit, NotVerified where
    it could not be quantized or run.
    """
    document, analysis = open_to_write(path, config.input_shapes, config.limits, config.held)
    if read(analysis):
        raise UsageError(f"{path}: is quantized already; give quantize the network in floating point")
    labels = _name_nodes(document.proto)
    scheme = _kept(scheme_of(profile), profile, keep, labels, wide)
    feeds = calibration_feeds(calibration, input_specs(analysis.model.graph.inputs, analysis.constants))
    if not feeds:
        raise UsageError(f"calibration {calibration.name}: has no samples")
    names = [text(o.name) for o in document.proto.graph.output]
    allowed = run_limits(config.limits, (document, analysis), int8=True)
    if why := allowed.refusal(len(feeds)):
        raise NotVerified(why)
    some = feeds[:SAMPLES]
    try:
        content, folder = document.runnable()
        with Runtime(allowed) as runtime:
            progress("Calibrating", 0, 1)
            wanted = runtime.run(content, folder.resolve(), some, names)
            if joined := join(document, context_of(analysis, profile), keep):
                content, folder = document.runnable()
                analysis = analyze(document.skeleton(), config.input_shapes)
            made = runtime.quantize(content, folder.resolve(), feeds, scheme)
            checked, report, after = _judged(made, path, profile, config)
            if apart := _taken_apart(analysis, profile, checked, keep):
                scheme = replace(scheme, in_float=(*scheme.in_float, *apart))
                made = runtime.quantize(content, folder.resolve(), feeds, scheme)
                checked, report, after = _judged(made, path, profile, config)
            outputs = _ratios(names, wanted, runtime.run(made, folder.resolve(), some, names))
            rows: list[Sensitivity] = []
            operators = _operators(analysis, after) if sensitivity else []
            for index, node in enumerate(operators):
                progress(f"Quantizing {short(node.label)} alone", index, len(operators))
                given = runtime.run(content, folder.resolve(), some, names, scheme=scheme, alone=[node.label])
                least = min(_ratios(names, wanted, given).values(), default=0.0)
                if least >= LIMIT_DB:
                    continue  # onnxruntime does not quantize it, or nothing is lost
                cost = analysis.costs.get(node)
                source = source_of(node, project_root(Path.cwd()), {})
                rows.append(Sensitivity(node.label, node.op, least, cost.macs if cost else 0, source))
    except CannotRun as error:
        raise NotVerified(f"{path}: could not be quantized or run ({error})") from None
    shares = _shares(after, Context(after, profile), len(partition_model(after, checked, profile).pieces))
    rows.sort(key=lambda row: row.decibels)
    return Quantization(
        path, made, scheme, len(feeds), len(some), outputs, report, shares, tuple(rows), runs_wide(profile, scheme), joined,
        () if wide else _held(after, keep), str(calibration),
    )  # fmt: skip


def _name_nodes(proto: onnx.ModelProto) -> set[str]:
    """Give each node a name of its own, its first output's where it has none, as onnxruntime chooses nodes by name."""
    seen: set[str] = set()
    for node in proto.graph.node:
        if not node.name or node.name in seen:
            node.name = next((name for name in node.output if name), f"node_{len(seen)}")
        seen.add(text(node.name))
    return seen


def _kept(scheme: Scheme, profile: Profile, keep: Sequence[str], labels: Collection[str], wide: bool) -> Scheme:
    """The scheme without the operators that the user keeps. Raises UsageError."""
    for name in keep:
        if name not in labels:
            raise UsageError(f"--keep: no operator {name!r}{suggest(name, sorted(labels))}")
    if not wide:
        return replace(scheme, in_float=tuple(keep))
    if not runs_wide(profile, scheme):
        raise UsageError(f"--keep-as int16: {profile.name} has no activations of 16 bits; 'float' leaves operators as they are")
    return replace(scheme, in_wide=tuple(keep))


def _ratios(names: Sequence[str], wanted: Sequence[Mapping[str, Any]], given: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Signal-to-noise ratio of each output in floating point, over all inputs together."""
    floats = [n for n in names if all(sample[n].dtype.kind == "f" for sample in wanted)]
    return {n: ratio_over([sample[n] for sample in wanted], [sample[n] for sample in given]) for n in floats}


def _judged(content: bytes, path: str, profile: Profile, config: Config) -> tuple[Checked, ModelReport, Analysis]:
    try:
        skeleton = load.read_skeleton(content, path, config.limits)
        analysis = analyze(skeleton, config.input_shapes)
    except ModelError as error:
        raise NotVerified(f"{path}: what onnxruntime wrote cannot be read ({error})") from None
    checked = check(analysis, profile, registry.rules(), config, project_root(Path.cwd()))
    return checked, report_of(path, profile, config, analysis, checked, "", layers=False), analysis


def _operators(analysis: Analysis, after: Analysis) -> list[Node]:
    """Operators of the original that are quantized, but for those that only move data."""
    held = {node.label.removesuffix("_quant") for node, unit in read(after).units.items() if unit.is_quantized}
    return [n for n in analysis.nodes() if n.label in held and n.op_type not in _MOVING and n.graph.parent is None]


def _held(after: Analysis, keep: Sequence[str]) -> tuple[str, ...]:
    """Those of `keep` that compute in integers: a pair that is there for a neighbour stands on each side."""
    units = {node.label.removesuffix("_quant"): unit for node, unit in read(after).units.items()}
    return tuple(name for name in dict.fromkeys(keep) if name in units and units[name].computes_in_integers)


def _taken_apart(analysis: Analysis, profile: Profile, checked: Checked, keep: Sequence[str]) -> list[str]:
    """Operators that the compiler took as one, of which some have findings now: without pairs between them they are one again."""
    wrong = (f for f in checked.findings if f.severity is not Severity.NOTE and f.suppressed is None)
    told = {f.location.node.removesuffix("_quant") for f in wrong}
    found = groups(context_of(analysis, profile)).values()
    return [n.label for nodes in found if any(n.label in told for n in nodes) for n in nodes if n.label not in keep]


def _shares(analysis: Analysis, ctx: Context, pieces: int) -> Shares:
    return Shares(ctx.quantized.integer_macs(), sum(cost.macs for cost in analysis.costs.values()), len(islands(ctx)), pieces)
