"""The flow of `fix` and `verify` on one page: load -> analyze -> check -> substitute -> verify -> check again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.analysis.opening import open_to_write
from npu_guard.base.errors import NotVerified
from npu_guard.checking import registry
from npu_guard.checking.engine import Checked, check
from npu_guard.device import Profile
from npu_guard.file import load
from npu_guard.file.document import Document
from npu_guard.fixing import catalog, rollback
from npu_guard.fixing.ceiling import Ceiling, cost_of
from npu_guard.fixing.driver import BLOCK_FEEDS, Fixed, FixReport, Progress, Settings, fix_document, held_out, no_progress
from npu_guard.fixing.integers import in_integers, proof_in_integers, repairs
from npu_guard.fixing.judge import CheckModel, Known
from npu_guard.fixing.outcome import concerning
from npu_guard.fixing.picker import Automatic, Picker
from npu_guard.fixing.plan import Plan, Planned, expect_plan_for
from npu_guard.fixing.proving import proof_of_whole
from npu_guard.fixing.search import Search
from npu_guard.fixing.tally import Tally, tally
from npu_guard.fixing.twin import beyond_scheme, scheme_findings, twin_of, with_same_remedies, without_scheme
from npu_guard.pipeline.check import remedied, report_of
from npu_guard.pipeline.verify import expect_room, open_axes, other_sizes
from npu_guard.project.config import Config, project_root
from npu_guard.results.findings import ModelReport, RefusedMatch
from npu_guard.results.proof import PROVED
from npu_guard.results.verification import Verification
from npu_guard.rewriting.substitution import EXACT, Substitution
from npu_guard.verification.accumulation import accumulated_together
from npu_guard.verification.bisect import Side
from npu_guard.verification.compare import compare_documents, not_run
from npu_guard.verification.feeds import calibration_feeds, feed_labels, feeds_in_words, fitting_feeds, input_specs
from npu_guard.verification.run_limits import run_limits
from npu_guard.verification.runnable import feeds_beside
from npu_guard.verification.runtime import Runtime

NOISE = "on your data it may be far worse; give --calibration"
"""What is said of an approximation without data."""


def fix_model(
    path: str, profile: Profile, config: Config, substitutions: Sequence[Substitution], *,
    calibration: Path | None = None, seeds: Sequence[int] = (0, 1, 2), check_numbers: bool = True,
    progress: Progress = no_progress, prefer: Sequence[str] = (), plan: Plan | None = None,
    warnings: bool = False, layers: bool = False, origin: str = "",
) -> FixReport:  # fmt: skip
    """Replace what does not fit, or what a plan says, and prove it. The file is not touched; the result holds the new document.

    `warnings`: mend those alone whatever it costs, as where the project fails on them; `layers` adds a row for each operator to
    both reports; `origin` is the file that `path` was made of, whose hash a plan has.

    Raises ModelError where the model cannot be read, NotVerified where it cannot be fed, UsageError for another model's plan.
    """
    asked = warnings or config.fail_on == "warning"
    rules, root = registry.rules(), project_root(Path.cwd())

    def checker(analysis: Analysis) -> Checked:
        return check(analysis, profile, rules, config, root)

    progress("Analysing the model", 0, 1)
    digest = load.sha256(origin or path)
    if plan is not None:
        expect_plan_for(plan, path, digest, profile.name)
    document, analysis = open_to_write(path, config.input_shapes, config.limits, config.held)

    def fixed(document: Document, analysis: Analysis, checker: CheckModel) -> FixReport:
        return _fix(
            path, digest, document, analysis, checker, profile, config, substitutions, calibration, seeds, check_numbers,
            progress, prefer, plan, asked, layers,
        )  # fmt: skip

    twin = twin_of(document, analysis, config.input_shapes)
    if twin is None:
        return fixed(document, analysis, checker)
    numbers = fixed(twin.real.document, twin.numbers, without_scheme(checker))

    def told(analysis: Analysis, others: ModelReport, digest: str) -> ModelReport:
        checked = checker(analysis)
        checked = replace(checked, findings=with_same_remedies(checked.findings, others.findings))
        return report_of(path, profile, config, analysis, checked, digest, layers=layers)

    before = told(analysis, numbers.before, digest)
    untouched = dataclasses.replace(
        numbers, before=before, after=replace(before, crashes=numbers.after.crashes, sha256=""), document=document, applied=(),
        verification=not_run("nothing was replaced"),
    )  # fmt: skip
    if numbers.applied:
        proof = numbers.verification.proof
        proved = proof is not None and proof.label == PROVED  # then inputs far beyond the range of the integers say nothing
        differs = numbers.verification.verdict == "differs" and not proved
        if differs or (check_numbers and numbers.verification.verdict == "not_run"):
            return dataclasses.replace(numbers, before=before)
    elif plan is not None or not scheme_findings(before.findings):
        return untouched
    found: list[FixReport] = []
    ceiling, dear = Ceiling.over(analysis, config.max_cost), ""
    for rounding in (False, True) if any(s.exactness != EXACT for s in substitutions) else (False,):
        progress("Writing integers", 0, 1)
        for made, compared in in_integers(
            twin, numbers.document if numbers.applied else twin.real.document, profile, calibration, config.limits,
            config.input_shapes, approximate=rounding,
        ):  # fmt: skip
            if compared.verdict == "not_run":
                continue
            written = analyze(made.skeleton(), config.input_shapes)
            if ceiling is not None and (why := ceiling.reason(cost_of(written))):
                dear = f"in integers, {why}"
                continue
            after = told(written, numbers.after, "")
            steps = repairs(before.findings, after.findings, compared, rounding=rounding)
            found.append(
                dataclasses.replace(
                    numbers, before=before, after=replace(after, crashes=(*after.crashes, *numbers.after.crashes)),
                    document=made, applied=(*numbers.applied, *steps),
                    verification=replace(compared, seeds=tuple(seeds), proof=proof_in_integers(numbers.verification.proof)),
                )
            )  # fmt: skip
    if not found:  # forms that leave the integers alone may do
        done = fixed(document, analysis, checker) if numbers.applied else untouched
        more = tuple(RefusedMatch(a.substitution, a.node, dear, (a.at,)) for a in numbers.applied if dear)
        return dataclasses.replace(done, refused=(*done.refused, *concerning(more, done.after)))
    verified = [report for report in found if report.verification.verdict != "differs"]
    best = min(verified or found, key=lambda report: _left(report, before))
    if best.applied and _wrong(best.after, before) < _wrong(before, before):
        return best
    worse = next(iter(scheme_findings(best.after.findings)), None)
    if not numbers.applied or worse is None:
        return untouched
    reason = f"in integers the device would refuse what is new: {worse.rule} at {worse.location.op_type} ({worse.message})"
    refused = tuple(RefusedMatch(a.substitution, a.node, reason, (a.at,)) for a in numbers.applied)
    return dataclasses.replace(untouched, refused=(*untouched.refused, *refused))


def _wrong(report: ModelReport, before: ModelReport) -> tuple[Tally, Tally]:
    """Findings beyond those that follow from the scheme that a network comes with, then all."""
    return tally(beyond_scheme(report.findings, before.findings)), tally(report.findings)


def _left(report: FixReport, before: ModelReport) -> tuple[tuple[Tally, Tally], bool, float]:
    """How much a way of writing integers leaves: findings, then by how many steps results move."""
    moved = max((output.steps or 0.0 for output in report.verification.outputs), default=0.0)
    return _wrong(report.after, before), report.verification.verdict != "equal", moved


def _fix(
    path: str, digest: str, document: Document, analysis: Analysis, checker: CheckModel, profile: Profile, config: Config,
    substitutions: Sequence[Substitution], calibration: Path | None, seeds: Sequence[int], check_numbers: bool,
    progress: Progress, prefer: Sequence[str], plan: Plan | None, asked: bool, layers: bool,
) -> FixReport:  # fmt: skip
    """The same for a model that is opened, of which forms take all numbers as they are written."""
    root = project_root(Path.cwd())
    before = checker(analysis)
    outlooks, exact_forms = (
        Known.of(len(before.findings)),
        [{s.name for s in several if s.exactness == EXACT} for several in (substitutions, catalog.substitutions())],
    )
    told_before = outlooks if exact_forms[0] == exact_forms[1] else None  # else other forms might have followed

    def report(done: Fixed, whole: Verification) -> FixReport:
        left = remedied(done.checked, done.analysis, profile, checker, told_before, factor=config.max_cost, original=analysis)
        first = remedied(before, analysis, profile, checker, told_before, factor=config.max_cost)
        after = report_of(path, profile, config, done.analysis, left, "", layers=layers)
        told = replace(after, crashes=(*after.crashes, *done.crashes))
        return FixReport(
            before=report_of(path, profile, config, analysis, first, digest, layers=layers),
            after=told,
            applied=tuple(done.applied),
            refused=concerning(done.refused, told),
            verification=whole,
            document=done.document,
            input_shapes=config.input_shapes,
        )

    search = Search(analysis, before.findings, profile)
    if plan is None and calibration is None and not search.all(substitutions) and not search.almost:
        # Then nothing runs, and which inputs there are does not matter.
        nothing = Fixed(document, analysis, before, crashes=search.crashes)
        return report(nothing, not_run("nothing was replaced"))
    allowed = run_limits(config.limits, (document, analysis))
    try:
        wanted = input_specs(analysis.model.graph.inputs, analysis.constants)
        expect_room(allowed, seeds)
    except NotVerified as error:
        raise NotVerified(f"{path}: not verified ({error}); nothing was written") from None
    given = calibration_feeds(calibration, wanted) if calibration is not None else []
    with Runtime(allowed) as runtime:
        drawn, seeds = feeds_beside(runtime, document, analysis, wanted, seeds, given)
        samples = fitting_feeds(wanted, seeds)
        batches, words = other_sizes(
            runtime, document, wanted, open_axes(document), config.input_shapes, seeds if check_numbers else ()
        )
        kinds = ", ".join([feeds_in_words(seeds, len(given)), *words])
        settings = Settings(
            substitutions, [*given[: BLOCK_FEEDS], *drawn[: BLOCK_FEEDS], *batches], given or samples, seeds,
            kinds, config.input_shapes, check_numbers,
            asked, progress, prefer, root, known=outlooks, ceiling=Ceiling.over(analysis, config.max_cost),
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
            used, labels, told = [*given, *drawn, *batches], [*feed_labels(len(given), seeds, 0), *words], kinds
            if not exact:  # of other inputs than it was fitted to, how close an approximation comes says nothing
                used = list(held_out(given or samples))
                told = f"{len(used)} of calibration, held out of the fit" if given else f"{len(used)} of drawn noise: {NOISE}"
            terms = accumulated_together(analysis, done.analysis)
            # What the original gives for some of the inputs came out when the blocks were verified.
            known = {i: done.reference[id(feed)] for i, feed in enumerate(used) if id(feed) in done.reference}
            runtime.limits = run_limits(config.limits, (document, analysis), (done.document, done.analysis))
            whole = compare_documents(
                runtime, document, done.document, used, terms, exact=exact, seeds=seeds, kinds=told, known=known,
                labels=labels if exact else (), analysis=analysis, wanted=wanted,
            )  # fmt: skip
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
