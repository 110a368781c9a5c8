"""The flow of `fix` and `verify` on one page: load -> analyze -> check -> substitute -> verify -> check again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.analysis.interface import state_shapes
from npu_guard.base.errors import NotVerified
from npu_guard.base.limits import DEFAULT, Limits
from npu_guard.base.text import text
from npu_guard.checking import registry
from npu_guard.checking.engine import Checked, check
from npu_guard.device import Profile
from npu_guard.file import load
from npu_guard.file.document import Document
from npu_guard.fixing import rollback
from npu_guard.fixing.driver import BLOCK_FEEDS, Fixed, FixReport, Progress, Settings, fix_document, held_out, no_progress
from npu_guard.fixing.picker import Automatic, Picker
from npu_guard.fixing.plan import Plan, Planned, expect_plan_for
from npu_guard.fixing.proving import LONG, WHOLE, proof_of_whole, with_proof
from npu_guard.fixing.search import Search
from npu_guard.pipeline.check import remedied, report_of
from npu_guard.project.config import Config, project_root
from npu_guard.results.findings import RefusedMatch, Verification
from npu_guard.rewriting.substitution import EXACT, Substitution
from npu_guard.verification.bisect import Bisection, Side, first_divergence
from npu_guard.verification.compare import accumulated_terms, compare_documents, not_run, run_document
from npu_guard.verification.feeds import KINDS, Feed, Spec, calibration_feeds, feed_labels, input_specs, seeded_feeds
from npu_guard.verification.run_limits import RunLimits, hopeless_run, run_limits
from npu_guard.verification.runtime import CannotRun, Runtime

BATCH = 2
"""Where the batch is open, results are compared for this one too."""
NOISE = "on your data it may be far worse; give --calibration"
"""What is said of an approximation without data."""


def fix_model(
    path: str, profile: Profile, config: Config, substitutions: Sequence[Substitution], *,
    calibration: Path | None = None, seeds: Sequence[int] = (0, 1, 2), check_numbers: bool = True,
    progress: Progress = no_progress, prefer: Sequence[str] = (), plan: Plan | None = None,
    warnings: bool = False,
) -> FixReport:  # fmt: skip
    """Replace what does not fit, or what a plan says, and prove it. The file is not touched; the result holds the new document.

    `warnings`: mend those alone whatever it costs, as where the project fails on them.

    Raises ModelError where the model cannot be read, NotVerified where it cannot be fed, UsageError for another model's plan.
    """
    asked = warnings or config.fail_on == "warning"
    rules, root = registry.rules(), project_root(Path.cwd())

    def checker(analysis: Analysis) -> Checked:
        return check(analysis, profile, rules, config, root)

    progress("Analysing the model", 0, 1)
    skeleton = load.load(path, config.limits)
    digest = load.sha256(path)
    if plan is not None:
        expect_plan_for(plan, path, digest, profile.name)
    document = Document.of(skeleton)
    analysis = analyze(skeleton, config.input_shapes)
    if config.input_shapes:
        state_shapes(document.proto, config.input_shapes, analysis)
    analysis.write_branches(document.proto)
    before = checker(analysis)

    def report(done: Fixed, whole: Verification) -> FixReport:
        after = report_of(path, profile, config, done.analysis, remedied(done.checked, done.analysis, profile, checker), "")
        return FixReport(
            before=report_of(path, profile, config, analysis, remedied(before, analysis, profile, checker), digest),
            after=replace(after, crashes=(*after.crashes, *done.crashes)),
            applied=tuple(done.applied),
            refused=tuple(done.refused),
            verification=whole,
            document=done.document,
        )

    search = Search(analysis, before.findings, profile)
    if plan is None and calibration is None and not search.all(substitutions) and not search.almost:
        # Then nothing runs, and which inputs there are does not matter.
        nothing = Fixed(document, analysis, before, crashes=search.crashes)
        return report(nothing, not_run("nothing was replaced"))
    allowed = run_limits(config.limits, (document, analysis))
    try:
        wanted = input_specs(analysis.model.graph.inputs)
        _expect_room(allowed, seeds)
    except NotVerified as error:
        raise NotVerified(f"{path}: not verified ({error}); nothing was written") from None
    given = calibration_feeds(calibration, wanted) if calibration is not None else []
    drawn = [feed for seed in seeds for feed in seeded_feeds(wanted, seed)]
    kinds = f"{len(seeds)} seeds of {', '.join(KINDS)}" + (f", {len(given)} of calibration" if given else "")
    with Runtime(allowed) as runtime:
        batches = _batches(runtime, document, wanted, config.input_shapes, seeds) if check_numbers else []
        kinds += f", a batch of {BATCH}" if batches else ""
        settings = Settings(
            substitutions, [*given[: BLOCK_FEEDS], *drawn[: BLOCK_FEEDS], *batches], given or drawn, seeds,
            kinds, config.input_shapes, check_numbers,
            asked, progress, prefer, root,
        )  # fmt: skip
        guilty: dict[rollback.Key, RefusedMatch] = {}
        for attempt in range(rollback.ATTEMPTS + 1):
            picker: Picker = Automatic(substitutions, prefer, guilty, warnings=asked)
            if plan is not None:
                picker = Planned(plan.step, {s.name: s for s in substitutions})
            done = fix_document(document, analysis, checker, profile, settings, runtime, picker, before, search)
            if not done.applied or not check_numbers:
                whole = not_run("not asked for" if done.applied else "nothing was replaced")
                break
            progress("Verifying the whole model", 0, 1)
            exact = all(a.exactness == EXACT for a in done.applied)
            used, labels, told = [*given, *drawn, *batches], feed_labels(len(given), seeds, len(batches)), kinds
            if not exact:  # of other inputs than it was fitted to, how close an approximation comes says nothing
                used = list(held_out(given or drawn))
                told = f"{len(used)} of calibration, held out of the fit" if given else f"{len(used)} of drawn noise: {NOISE}"
            terms = accumulated_terms(analysis) + accumulated_terms(done.analysis)
            # What the original gives for some of the inputs came out when the blocks were verified.
            known = {i: done.reference[id(feed)] for i, feed in enumerate(used) if id(feed) in done.reference}
            runtime.limits = run_limits(config.limits, (document, analysis), (done.document, done.analysis))
            whole = compare_documents(
                runtime, document, done.document, used, terms, exact=exact, seeds=seeds, kinds=told, known=known, labels=labels
            )
            whole = replace(whole, proof=proof_of_whole(done.applied))
            again = attempt < rollback.ATTEMPTS and settings.budget.matches >= len(done.applied)
            if whole.verdict != "differs" or plan is not None or not again:
                break
            sides = Side(document, analysis), Side(done.document, done.analysis)
            found = rollback.culprits(runtime, *sides, done.applied, used, whole)
            if not found.keys() - guilty.keys():
                break
            guilty |= found
    return report(done, whole)


def _expect_room(allowed: RunLimits, seeds: Sequence[int]) -> None:
    """Raise NotVerified where so many inputs, and what comes out of them, take more memory than the model may have."""
    if why := allowed.refusal(len(seeds) * len(KINDS)):
        raise NotVerified(why)


def _batches(
    runtime: Runtime, document: Document, wanted: Sequence[Spec], given: Mapping[str, Sequence[int]], seeds: Sequence[int]
) -> list[Feed]:
    """An input of another batch, where the model leaves the batch open and can run it: what is written has to as well."""
    dims = {text(i.name): i.type.tensor_type.shape.dim for i in document.proto.graph.input}
    opened = {s.name for s in wanted if s.name not in given and s.shape and not dims[s.name][0].HasField("dim_value")}
    if not opened or not seeds:
        return []
    larger = [dataclasses.replace(s, shape=(BATCH, *s.shape[1:])) if s.name in opened else s for s in wanted]
    drawn = seeded_feeds(larger, seeds[0])[:1]
    try:
        run_document(runtime, document, drawn)
    except CannotRun:
        return []
    return drawn


def verify_models(
    before: str, after: str, input_shapes: Mapping[str, Sequence[int]], calibration: Path | None = None,
    seeds: Sequence[int] = (0, 1, 2),
) -> Verification:  # fmt: skip
    """Whether two model files compute the same."""
    return compare_models(before, after, input_shapes, calibration, seeds)[0]


def compare_models(
    before: str, after: str, input_shapes: Mapping[str, Sequence[int]], calibration: Path | None = None,
    seeds: Sequence[int] = (0, 1, 2), *, bisect: bool = False, limits: Limits = DEFAULT, require: str | None = None,
) -> tuple[Verification, Bisection | None]:  # fmt: skip
    """Whether two model files compute the same and, if asked for and they do not, where they part.

    Where a label is `require`d, a proof may take longer.
    """
    documents, analyses = [], []
    for path in (before, after):  # one after the other, as what a large model takes for a while is free again then
        skeleton = load.load(path, limits)
        documents.append(Document.of(skeleton))
        if len(documents) == 2 and (why := hopeless_run(limits, *documents)):
            return not_run(why, seeds), None
        analyses.append(analyze(skeleton, input_shapes))
    first, second = analyses
    allowed = run_limits(limits, *zip(documents, analyses, strict=True))
    try:
        wanted, others = (input_specs(a.model.graph.inputs) for a in (first, second))
        _expect_room(allowed, seeds)
    except NotVerified as error:
        return not_run(str(error), seeds), None
    if [(w.name, w.shape) for w in wanted] != [(w.name, w.shape) for w in others]:
        return not_run("the models have different inputs", seeds), None
    given = calibration_feeds(calibration, wanted) if calibration is not None else []
    drawn = [feed for seed in seeds for feed in seeded_feeds(wanted, seed)]
    kinds = f"{len(seeds)} seeds of {', '.join(KINDS)}" + (f", {len(given)} of calibration" if given else "")
    terms = accumulated_terms(first) + accumulated_terms(second)
    with Runtime(allowed) as runtime:
        several = [_batches(runtime, d, wanted, input_shapes, seeds) for d in documents]
        larger = several[0] if all(several) else []
        used, labels = [*given, *drawn, *larger], feed_labels(len(given), seeds, len(larger))
        kinds += f", a batch of {BATCH}" if larger else ""
        result = compare_documents(
            runtime, documents[0], documents[1], used, terms, exact=True, seeds=seeds, kinds=kinds, labels=labels
        )
        result = with_proof(
            result, documents[0], documents[1], first, {w.name: w.shape for w in wanted}, WHOLE if require is None else LONG
        )
        if not bisect or result.verdict != "differs":
            return result, None
        sides = (Side(documents[0], first), Side(documents[1], second))
        return result, first_divergence(runtime, *sides, used)
