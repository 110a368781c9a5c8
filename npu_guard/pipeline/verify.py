"""The flow of `verify` on one page: load both -> do they take and give the same? -> run both on the same inputs -> compare."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.analysis.interface import hold_inputs, state_shapes
from npu_guard.analysis.quantized.reading import read
from npu_guard.base.errors import NotVerified
from npu_guard.base.limits import DEFAULT, Limits
from npu_guard.file import load
from npu_guard.file.constant_inputs import Held
from npu_guard.file.document import Document
from npu_guard.file.skeleton import Skeleton
from npu_guard.fixing.proving import LONG, WHOLE, with_proof
from npu_guard.results.proof import SAMPLED
from npu_guard.results.verification import Verification
from npu_guard.verification.accumulation import accumulated_together
from npu_guard.verification.bisect import Bisection, Side, first_divergence
from npu_guard.verification.compare import compare_documents, differs, not_run, run_document
from npu_guard.verification.description import MIXED
from npu_guard.verification.feeds import (
    TURNS,
    Feed,
    Spec,
    calibration_feeds,
    feed_count,
    feed_labels,
    feeds_in_words,
    input_specs,
)
from npu_guard.verification.interface import Interface, match_interfaces, random_nodes
from npu_guard.verification.levels import levels_of
from npu_guard.verification.rows import rows_apart
from npu_guard.verification.run_limits import RunLimits, hopeless_run, run_limits
from npu_guard.verification.runnable import feeds_beside
from npu_guard.verification.runtime import CannotRun, Runtime
from npu_guard.verification.sizes import expect_room, open_axes, other_sizes
from npu_guard.verification.steps import feeds_in_range, ranges_of, with_steps

DRAWN = 8
"""Inputs that are drawn for such two."""


def verify_models(
    before: str, after: str, input_shapes: Mapping[str, Sequence[int]], calibration: Path | None = None,
    seeds: Sequence[int] = (0, 1, 2),
) -> Verification:  # fmt: skip
    """Whether two model files compute the same. Raises ModelError and UsageError as `compare_models` does."""
    return compare_models(before, after, input_shapes, calibration, seeds)[0]


def compare_models(
    before: str, after: str, input_shapes: Mapping[str, Sequence[int]], calibration: Path | None = None,
    seeds: Sequence[int] = (0, 1, 2), *, bisect: bool = False, limits: Limits = DEFAULT, pairs: Mapping[str, str] | None = None,
    require: str | None = None, held: Held | None = None, borrowed: Runtime | None = None,
) -> tuple[Verification, Bisection | None]:  # fmt: skip
    """Whether two model files compute the same and, if asked for and they do not, where they part.

    `pairs` are names of inputs and outputs of the first model and those of the second that they go with. Raises ModelError
    where a model cannot be read, UsageError for pairs, shapes or calibration that do not go with the models.
    """
    try:
        both = _opened(before, after, input_shapes, limits, pairs or {}, held)
        allowed = run_limits(limits, *zip(both.documents, both.analyses, strict=True))
        wanted = _wanted(both, allowed, seeds)
    except _Settled as known:
        return replace(known.verdict, seeds=tuple(seeds)), None
    given = calibration_feeds(calibration, wanted) if calibration is not None else []
    with contextlib.nullcontext(borrowed) if borrowed is not None else Runtime(allowed) as runtime:
        try:
            comparison = _Comparison(runtime, both, wanted, given, *_larger(runtime, both, wanted, input_shapes, seeds))
        except _Settled as known:
            return replace(known.verdict, seeds=tuple(seeds)), None
        result, used = _witnessed(comparison, allowed, seeds, WHOLE if require is None else LONG)
        if not bisect or result.verdict != "differs":
            return result, None
        return result, comparison.divergence(used)


class _Settled(Exception):
    """The verdict is known before anything is compared."""

    def __init__(self, verdict: Verification) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


@dataclass(frozen=True, slots=True)
class _Both:
    """Two models that take and give the same, as far as their files say."""

    documents: tuple[Document, Document]
    """With the sizes that the user gives."""
    loose: tuple[Document, Document]
    """With these axes open as in the files."""
    analyses: tuple[Analysis, Analysis]
    ports: Interface


@dataclass(frozen=True, slots=True)
class _Opened:
    """One file: as it is, and what is known of it with the sizes that the user gives."""

    skeleton: Skeleton
    loose: Document

    @staticmethod
    def of(path: str, limits: Limits, held: Held | None, *, all_held: bool) -> _Opened:
        """`all_held`: each input whose value is given has to be there."""
        skeleton = load.load(path, limits)
        if held is not None:
            inputs = {entry.name for entry in skeleton.proto.graph.input}
            values = {n: v for n, v in held.values.items() if n in inputs or all_held}
            hold_inputs(skeleton, Held(held.freeze_weights, values))
        return _Opened(skeleton, Document.of(skeleton))

    def sized(self, shapes: Mapping[str, Sequence[int]]) -> tuple[Document, Analysis]:
        """With these shapes, also over what the file fixes."""
        document, analysis = self.loose.copy() if shapes else self.loose, analyze(self.skeleton, shapes)
        if shapes:
            state_shapes(document.proto, shapes, analysis)
        return document, analysis


def _opened(
    before: str, after: str, shapes: Mapping[str, Sequence[int]], limits: Limits, pairs: Mapping[str, str], held: Held | None
) -> _Both:
    """Both files, one after the other, as what a large model takes for a while is free again then. Raises _Settled."""
    first = _Opened.of(before, limits, held, all_held=True)
    document, analysis = first.sized(shapes)
    second = _Opened.of(after, limits, held, all_held=False)
    if why := hopeless_run(limits, document, second.loose):
        raise _Settled(not_run(why))
    ports = match_interfaces(first.loose, second.loose, pairs, shapes)
    if ports.unmatched:
        raise _Settled(not_run(ports.unmatched))
    other, other_analysis = second.sized({ports.inputs.get(name, name): shape for name, shape in shapes.items()})
    if ports.differences:
        raise _Settled(differs("; ".join(ports.differences)))
    return _Both((document, other), (first.loose, second.loose), (analysis, other_analysis), ports)


def _wanted(both: _Both, allowed: RunLimits, seeds: Sequence[int]) -> list[Spec]:
    """What the models are fed with, and the numbers at which either of them turns. Raises _Settled."""
    first, second = both.analyses
    try:
        wanted = input_specs(first.model.graph.inputs, first.constants)
        others = {spec.name: spec.shape for spec in input_specs(second.model.graph.inputs)}
        expect_room(allowed, seeds)
    except NotVerified as error:
        raise _Settled(not_run(str(error))) from None
    for spec in wanted:
        if others[both.ports.inputs[spec.name]] != spec.shape:
            shapes = f"{list(spec.shape)} before and {list(others[both.ports.inputs[spec.name]])} after"
            raise _Settled(differs(f"input {spec.name!r} has shape {shapes}"))
    levels = tuple(sorted({*levels_of(first), *levels_of(second)}))
    rows = rows_apart(*both.documents, both.analyses, both.ports.inputs)
    return [dataclasses.replace(spec, levels=levels, rows=rows.get(spec.name, ())) for spec in wanted]


def _larger(
    runtime: Runtime, both: _Both, wanted: Sequence[Spec], shapes: Mapping[str, Sequence[int]], seeds: Sequence[int]
) -> tuple[list[Feed], list[str]]:
    """Inputs of other sizes that both models run with, and what they are called. Raises _Settled where only the first does."""
    opened, too = map(open_axes, both.loose)
    opened = {name: opened[name] & too[other] for name, other in both.ports.inputs.items()}
    larger, words = other_sizes(runtime, both.loose[0], wanted, opened, shapes, seeds, sizes=True)
    for feed, word in zip(larger, words, strict=True):
        try:
            run_document(runtime, both.loose[1], [{both.ports.inputs[name]: array for name, array in feed.items()}])
        except CannotRun as error:
            raise _Settled(differs(f"only the first model runs with {word} ({error})")) from None
    return larger, words


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Two models and what they are run with."""

    runtime: Runtime
    both: _Both
    wanted: Sequence[Spec]
    given: Sequence[Feed]
    """The user's inputs."""
    larger: Sequence[Feed]
    words: Sequence[str]
    """What these are called."""

    @property
    def documents(self) -> tuple[Document, Document]:
        """The models that are run: for other sizes, with open axes."""
        return self.both.loose if self.larger else self.both.documents

    @property
    def names(self) -> dict[str, str]:
        """Inputs and outputs of the first model and those of the second."""
        return self.both.ports.inputs | self.both.ports.outputs

    def compared(self, seeds: Sequence[int]) -> tuple[Verification, list[Feed]]:
        """On inputs of these seeds and all others; and the inputs that tell."""
        first, second = self.both.analyses
        drawn, seeds = feeds_beside(self.runtime, self.documents[0], first, self.wanted, seeds, self.given)
        used = [*self.given, *drawn, *self.larger]
        labels = [*feed_labels(len(self.given), seeds, 0), *self.words]
        result = self._judged(used, ", ".join([feeds_in_words(seeds, len(self.given)), *self.words]), labels, seeds)
        notes = list(self.both.ports.notes)
        mixed = bool(read(first)) != bool(read(second))
        if mixed and result.verdict == "differs":  # of course: beyond its range, a quantized model gives something else
            used, kinds = self._in_range()
            nearer = self._judged(used, kinds, (), seeds)
            result, notes = (nearer, [*notes, MIXED]) if nearer.verdict == "differs" else (result, notes)
        result = with_steps(result, first if mixed and read(first) else second)
        return _remarked(result, [*random_nodes(first), *random_nodes(second)], notes), used

    def _judged(self, used: Sequence[Feed], kinds: str, labels: Sequence[str], seeds: Sequence[int]) -> Verification:
        terms = accumulated_together(*self.both.analyses, self.both.ports.outputs)
        return compare_documents(
            self.runtime, *self.documents, used, terms, exact=True, seeds=seeds, kinds=kinds, labels=labels,
            analysis=self.both.analyses[0], pairs=self.names, wanted=self.wanted,
        )  # fmt: skip

    def _in_range(self) -> tuple[list[Feed], str]:
        """Inputs that a quantized model can hold, for one of two that is."""
        if self.given:
            return list(self.given), f"{len(self.given)} of calibration"
        own, others = map(ranges_of, self.both.analyses)
        ranges = own or {a: others[b] for a, b in self.both.ports.inputs.items() if b in others}
        return feeds_in_range(self.wanted, ranges, DRAWN), f"{DRAWN} drawn in the range of the quantized model's inputs"

    def proved(self, result: Verification, granted: int) -> Verification:
        """With a proof, where names are the same."""
        if any(a != b for a, b in self.names.items()):
            return result
        shapes = {spec.name: spec.shape for spec in self.wanted}
        return with_proof(result, *self.documents, self.both.analyses[0], shapes, granted)

    def divergence(self, used: Sequence[Feed]) -> Bisection:
        """Where the models part."""
        sides = [_as_analysed(*side) for side in zip(self.documents, self.both.analyses, strict=True)]
        if any(analysis.has_written for analysis in self.both.analyses):  # the branch may be another one for another size
            used = [feed for feed in used if not any(feed is other for other in self.larger)]
        return first_divergence(self.runtime, sides[0], sides[1], used)


def _witnessed(
    comparison: _Comparison, allowed: RunLimits, seeds: Sequence[int], granted: int
) -> tuple[Verification, list[Feed]]:
    """The comparison with its proof; where models agree without, on as many inputs more as cost next to nothing."""
    result, used = comparison.compared(seeds)
    result = comparison.proved(result, granted)
    proof = result.proof
    if result.verdict != "equal" or (proof is not None and proof.label != SAMPLED):
        return result, used
    if more := _more_seeds(allowed, comparison.both.analyses[0], seeds):
        further, drawn = comparison.compared([*seeds, *more])
        if further.verdict != "not_run":  # so many may take more memory than the model has
            return (replace(further, proof=proof) if further.verdict == "equal" else further), drawn
    return result, used


def _as_analysed(document: Document, analysis: Analysis) -> Side:
    """A model of which values are asked for by the names that the analysis has for them, also in branches that are taken."""
    if not analysis.has_written:
        return Side(document, analysis)
    written = document.copy()
    analysis.write_branches(written.proto)
    return Side(written, analysis)


_SEEDS, _WORK = 36, 400_000_000
"""Further seeds for two models that agree without a proof, and the MACs and numbers that may be computed for them."""


def _more_seeds(allowed: RunLimits, analysis: Analysis, seeds: Sequence[int]) -> list[int]:
    """Seeds beyond those that were asked for, as many as cost next to nothing.

    A change that shows in one of a thousand numbers, such as a clip far out or a flip of an ArgMax, is missed by ten inputs. The
    number follows from the model alone, so that every machine draws the same.
    """
    each = sum(cost.macs + cost.output_bytes for cost in analysis.costs.values()) + 1
    count = min(_SEEDS, _WORK // (each * len(TURNS)))
    start = max(seeds, default=-1) + 1
    more = list(range(start, start + count))
    return more if not allowed.refusal(feed_count([*seeds, *more])) else []


def _remarked(result: Verification, random: Sequence[str], notes: Sequence[str]) -> Verification:
    """The result with what the reader has to know of it."""
    if random:
        drawn = f"the models draw random numbers ({', '.join(dict.fromkeys(random))})"
        if result.verdict == "differs":
            return not_run(f"{drawn}, so what they give differs from run to run and was not compared", result.seeds)
        notes = [*notes, f"{drawn}, compared on the same draws"]
    return replace(result, reason="; ".join([*([result.reason] if result.reason else []), *notes])) if notes else result
