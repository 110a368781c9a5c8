"""The flow of `verify` on one page: load both -> do they take and give the same? -> run both on the same inputs -> compare."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.analysis.interface import hold_inputs, state_shapes
from npu_guard.analysis.quantized.reading import read
from npu_guard.base.errors import NotVerified
from npu_guard.base.limits import DEFAULT, Limits
from npu_guard.base.text import text
from npu_guard.file import load
from npu_guard.file.document import Document
from npu_guard.file.held import Held
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
    seeded_feeds,
)
from npu_guard.verification.interface import match_interfaces, random_nodes
from npu_guard.verification.levels import levels_of
from npu_guard.verification.rows import rows_apart
from npu_guard.verification.run_limits import RunLimits, hopeless_run, run_limits
from npu_guard.verification.runnable import feeds_beside
from npu_guard.verification.runtime import CannotRun, Runtime
from npu_guard.verification.steps import feeds_in_range, ranges_of, with_steps

DRAWN = 8
"""Inputs that are drawn for such two."""
BATCH = 2
"""Where the batch is open, results are compared for this one too."""


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
    documents: list[Document] = []
    analyses: list[Analysis] = []
    loose: list[Document] = []  # with the axes open that the user gives sizes for
    for path in (before, after):  # one after the other, as what a large model takes for a while is free again then
        skeleton = load.load(path, limits)
        if held is not None:
            inputs = {entry.name for entry in skeleton.proto.graph.input}
            values = {n: v for n, v in held.values.items() if n in inputs or not documents}  # the second may have lost one
            hold_inputs(skeleton, Held(held.freeze_weights, values))
        documents.append(Document.of(skeleton))
        if len(documents) == 2:
            if why := hopeless_run(limits, *documents):
                return not_run(why, seeds), None
            ports = match_interfaces(loose[0], documents[1], pairs or {}, input_shapes)
            if ports.unmatched:
                return not_run(ports.unmatched, seeds), None
            there = {ports.inputs.get(name, name): shape for name, shape in input_shapes.items()}
        given_shapes = input_shapes if len(documents) == 1 else there
        loose.append(documents[-1].copy() if given_shapes else documents[-1])
        analyses.append(analyze(skeleton, given_shapes))
        if given_shapes:  # also over what the file fixes
            state_shapes(documents[-1].proto, given_shapes, analyses[-1])
    first, second = analyses
    if ports.differences:
        return differs("; ".join(ports.differences), seeds), None
    allowed = run_limits(limits, *zip(documents, analyses, strict=True))
    try:
        wanted = input_specs(first.model.graph.inputs, first.constants)
        others = {spec.name: spec.shape for spec in input_specs(second.model.graph.inputs)}
        expect_room(allowed, seeds)
    except NotVerified as error:
        return not_run(str(error), seeds), None
    for spec in wanted:
        if others[ports.inputs[spec.name]] != spec.shape:
            shapes = f"{list(spec.shape)} before and {list(others[ports.inputs[spec.name]])} after"
            return differs(f"input {spec.name!r} has shape {shapes}", seeds), None
    levels = tuple(sorted({*levels_of(first), *levels_of(second)}))
    rows = rows_apart(documents[0], documents[1], (first, second), ports.inputs)
    wanted = [dataclasses.replace(spec, levels=levels, rows=rows.get(spec.name, ())) for spec in wanted]
    given = calibration_feeds(calibration, wanted) if calibration is not None else []
    terms = accumulated_together(first, second, ports.outputs)
    with contextlib.nullcontext(borrowed) if borrowed is not None else Runtime(allowed) as runtime:
        opened, too = open_axes(loose[0]), open_axes(loose[1])
        opened = {name: opened[name] & too[other] for name, other in ports.inputs.items()}
        larger, words = other_sizes(runtime, loose[0], wanted, opened, input_shapes, seeds, sizes=True)
        for feed, word in zip(larger, words, strict=True):
            try:
                run_document(runtime, loose[1], [{ports.inputs[name]: array for name, array in feed.items()}])
            except CannotRun as error:
                return differs(f"only the first model runs with {word} ({error})", seeds), None
        if larger:
            documents = loose
        names = ports.inputs | ports.outputs
        mixed = bool(read(first)) != bool(read(second))
        ranges = ranges_of(first) or {a: ranges_of(second)[b] for a, b in ports.inputs.items() if b in ranges_of(second)}

        def judged(used: Sequence[Feed], kinds: str, labels: Sequence[str], seeds: Sequence[int]) -> Verification:
            return compare_documents(
                runtime, documents[0], documents[1], used, terms, exact=True, seeds=seeds, kinds=kinds, labels=labels,
                analysis=first, pairs=names, wanted=wanted,
            )  # fmt: skip

        def compared(seeds: Sequence[int]) -> tuple[Verification, list[Feed]]:
            drawn, seeds = feeds_beside(runtime, documents[0], first, wanted, seeds, given)
            used = [*given, *drawn, *larger]
            labels = [*feed_labels(len(given), seeds, 0), *words]
            kinds = ", ".join([feeds_in_words(seeds, len(given)), *words])
            result = judged(used, kinds, labels, seeds)
            notes = list(ports.notes)
            if mixed and result.verdict == "differs":  # of course: beyond its range, a quantized model gives something else
                used = given or feeds_in_range(wanted, ranges, DRAWN)
                kinds = f"{len(used)} of calibration" if given else f"{DRAWN} drawn in the range of the quantized model's inputs"
                nearer = judged(used, kinds, (), seeds)
                result, notes = (nearer, [*notes, MIXED]) if nearer.verdict == "differs" else (result, notes)
            result = with_steps(result, first if mixed and read(first) else second)
            return _remarked(result, [*random_nodes(first), *random_nodes(second)], notes), list(used)

        result, used = compared(seeds)
        if all(a == b for a, b in names.items()):
            shapes_of = {spec.name: spec.shape for spec in wanted}
            budget = WHOLE if require is None else LONG
            result = with_proof(result, documents[0], documents[1], first, shapes_of, budget)
        proof = result.proof
        if (
            result.verdict == "equal"
            and (proof is None or proof.label == SAMPLED)
            and (more := _more_seeds(allowed, first, seeds))
        ):
            further, drawn = compared([*seeds, *more])
            if further.verdict != "not_run":  # so many may take more memory than the model has
                result, used = further, drawn
                result = replace(result, proof=proof) if result.verdict == "equal" else result
        if not bisect or result.verdict != "differs":
            return result, None
        sides = [_as_analysed(*side) for side in zip(documents, analyses, strict=True)]
        if any(analysis.has_written for analysis in analyses):  # the branch may be another one for another size
            used = [feed for feed in used if not any(feed is other for other in larger)]
        return result, first_divergence(runtime, sides[0], sides[1], used)


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


def expect_room(allowed: RunLimits, seeds: Sequence[int]) -> None:
    """Raise NotVerified where so many inputs, and what comes out of them, take more memory than the model may have."""
    if why := allowed.refusal(feed_count(seeds)):
        raise NotVerified(why)


def open_axes(document: Document) -> dict[str, set[int]]:
    """The axes of each input that the file leaves open."""
    return {
        text(i.name): {a for a, dim in enumerate(i.type.tensor_type.shape.dim) if not dim.HasField("dim_value")}
        for i in document.proto.graph.input
    }


def other_sizes(
    runtime: Runtime, document: Document, wanted: Sequence[Spec], opened: Mapping[str, set[int]],
    given: Mapping[str, Sequence[int]], seeds: Sequence[int], *, sizes: bool = False,
) -> tuple[list[Feed], list[str]]:  # fmt: skip
    """Inputs of another batch and, with `sizes`, of twice the size that the user has given, as far as the model runs with them.

    `opened` are the axes of each input that may vary. What goes with the model has to run with these as well.
    """
    if not seeds:
        return [], []
    shapes: dict[str, dict[str, tuple[int, ...]]] = {f"a batch of {BATCH}": {}, "twice the size": {}}
    for spec in wanted:
        axes = opened[spec.name]
        if spec.name not in given and 0 in axes and spec.shape:
            shapes[f"a batch of {BATCH}"][spec.name] = (BATCH, *spec.shape[1:])
        elif spec.name in given and sizes and axes - {0}:
            shapes["twice the size"][spec.name] = tuple(d * 2 if a in axes and a else d for a, d in enumerate(spec.shape))
    found: list[Feed] = []
    words = []
    for word, larger in shapes.items():
        if not larger:
            continue
        specs = [dataclasses.replace(s, shape=larger.get(s.name, s.shape)) for s in wanted]
        drawn = seeded_feeds(specs, seeds[0])[:1]
        try:
            run_document(runtime, document, drawn)
        except CannotRun:
            continue
        found += drawn
        words.append(word)
    return found, words
