"""`fix` on a model of which forms take all numbers as they are written: search, replace, verify, roll back, look again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from npu_guard.analysis.analyze import Analysis
from npu_guard.base.errors import NotVerified
from npu_guard.checking.engine import Checked
from npu_guard.file.document import Document
from npu_guard.fixing import catalog, rollback
from npu_guard.fixing.ceiling import Ceiling, cost_of, is_dear
from npu_guard.fixing.driver import BLOCK_FEEDS, Fixed, FixReport, Settings, fix_document, held_out
from npu_guard.fixing.judge import CheckModel
from npu_guard.fixing.known import Known
from npu_guard.fixing.outcome import concerning
from npu_guard.fixing.picker import Automatic, Picker
from npu_guard.fixing.plan import Planned
from npu_guard.fixing.proving import proof_of_whole
from npu_guard.fixing.search import Search
from npu_guard.pipeline.check import remedied
from npu_guard.pipeline.job import Job, Without
from npu_guard.results.findings import RefusedMatch
from npu_guard.results.proof import SAMPLED
from npu_guard.results.verification import Verification
from npu_guard.rewriting.substitution import EXACT
from npu_guard.verification.accumulation import accumulated_together
from npu_guard.verification.bisect import Side
from npu_guard.verification.compare import compare_documents, not_run
from npu_guard.verification.feeds import (
    Feed,
    Spec,
    calibration_feeds,
    enough_for_proved,
    feed_labels,
    feeds_in_words,
    fitting_feeds,
    input_specs,
    once_each,
)
from npu_guard.verification.run_limits import run_limits
from npu_guard.verification.runnable import feeds_beside
from npu_guard.verification.runtime import Runtime
from npu_guard.verification.sizes import expect_room, open_axes, other_sizes

NOISE = "on your data it may be far worse; give --calibration"
"""What is said of an approximation without data."""


@dataclass(frozen=True, slots=True)
class _Model:
    """The model as it was opened, and what the device says of it."""

    document: Document
    analysis: Analysis
    check: CheckModel
    checked: Checked
    known: Known
    """What is learnt of forms by whoever fixes it."""


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What a model is run with."""

    wanted: Sequence[Spec]
    given: Sequence[Feed]
    """The user's."""
    drawn: Sequence[Feed]
    seeds: Sequence[int]
    """Of those that are drawn."""
    larger: Sequence[Feed]
    """Of another batch."""
    words: Sequence[str]
    """What those are called."""
    samples: Sequence[Feed]
    """On which approximate forms are fitted."""

    def used(self, *, proved: bool = False, dear: bool = False) -> tuple[list[Feed], list[str], str]:
        """With which the whole model is run: the inputs, what each is called, and all of them in words."""
        labels = feed_labels(0, self.seeds, 0)
        chosen = enough_for_proved(self.seeds) if proved else once_each(self.seeds) if dear else range(len(self.drawn))
        kinds = ", ".join([feeds_in_words(self.seeds, len(self.given), chosen), *self.words])
        names = [*feed_labels(len(self.given), (), 0), *(labels[i] for i in chosen), *self.words]
        return [*self.given, *(self.drawn[i] for i in chosen), *self.larger], names, kinds

    def unseen(self) -> tuple[list[Feed], str]:
        """Those on which nothing was fitted, for approximations: of other inputs, how close one comes says nothing."""
        used = list(held_out(self.given or self.samples))
        return used, f"{len(used)} of calibration, held out of the fit" if self.given else f"{len(used)} of drawn noise: {NOISE}"


def fix_floats(job: Job, document: Document, analysis: Analysis, check: CheckModel, without: Without) -> FixReport:
    """Replace what `check` finds, but for some blocks. Raises NotVerified where the model cannot be fed."""
    checked = check(analysis)
    model = _Model(document, analysis, check, checked, Known.of(len(checked.findings)))
    search = Search(analysis, checked.findings, job.profile)
    if job.plan is None and job.calibration is None and not search.all(job.substitutions) and not search.almost:
        # Then nothing runs, and which inputs there are does not matter.
        return _report(job, model, Fixed(document, analysis, checked, crashes=search.crashes), not_run("nothing was replaced"))
    allowed = run_limits(job.config.limits, (document, analysis))
    try:
        wanted = input_specs(analysis.model.graph.inputs, analysis.constants)
        expect_room(allowed, job.seeds)
    except NotVerified as error:
        raise NotVerified(f"{job.path}: not verified ({error}); nothing was written") from None
    given = calibration_feeds(job.calibration, wanted) if job.calibration is not None else []
    with Runtime(allowed) as runtime:
        return _report(job, model, *_verified(job, model, runtime, _inputs(job, model, runtime, wanted, given), search, without))


def _inputs(job: Job, model: _Model, runtime: Runtime, wanted: Sequence[Spec], given: Sequence[Feed]) -> _Inputs:
    drawn, seeds = feeds_beside(runtime, model.document, model.analysis, wanted, job.seeds, given)
    larger, words = other_sizes(
        runtime, model.document, wanted, open_axes(model.document), job.config.input_shapes, seeds if job.check_numbers else ()
    )
    return _Inputs(wanted, given, drawn, seeds, larger, words, fitting_feeds(wanted, seeds))


def _verified(
    job: Job, model: _Model, runtime: Runtime, inputs: _Inputs, search: Search, without: Without
) -> tuple[Fixed, Verification]:
    """What was replaced, again without the blocks that are to blame where the whole model comes out different."""
    _, _, kinds = inputs.used()
    settings = Settings(
        job.substitutions, [*inputs.given[:BLOCK_FEEDS], *inputs.drawn[:BLOCK_FEEDS], *inputs.larger],
        inputs.given or inputs.samples, inputs.seeds, kinds, job.config.input_shapes, job.check_numbers, job.warnings,
        job.progress, job.prefer, job.root, known=model.known, ceiling=Ceiling.over(model.analysis, job.config.max_cost),
    )  # fmt: skip
    guilty: dict[rollback.Key, RefusedMatch] = {}

    def fixed(guilty: Without) -> tuple[Fixed, Verification, Sequence[Feed]]:
        picker: Picker = Automatic(job.substitutions, job.prefer, {**without, **guilty}, warnings=job.warnings)
        if job.plan is not None:
            picker = Planned(job.plan.step, {s.name: s for s in job.substitutions})
        done = fix_document(
            model.document, model.analysis, model.check, job.profile, settings, runtime, picker, model.checked, search
        )
        if not done.applied or not job.check_numbers:
            return done, not_run("not asked for" if done.applied else "nothing was replaced"), ()
        job.progress("Verifying the whole model", 0, 1)
        return done, *_whole(job, model, done, runtime, inputs)

    def is_affordable(done: Fixed) -> bool:
        return settings.budget.matches >= len(done.applied)

    done, whole, used = fixed(guilty)
    for _ in range(rollback.ATTEMPTS if job.plan is None else 0):
        if whole.verdict != "differs" or not is_affordable(done):
            break
        sides = Side(model.document, model.analysis), Side(done.document, done.analysis)
        found = rollback.culprits(runtime, *sides, done.applied, used, whole) or rollback.everything(done.applied, whole)
        if not found.keys() - guilty.keys():
            break
        guilty |= found
        done, whole, used = fixed(guilty)
    best = done, whole

    def holds(left_out: Sequence[rollback.Key]) -> bool:
        nonlocal best
        if not is_affordable(best[0]):
            return False
        tried, verdict, _ = fixed({at: guilty[at] for at in left_out})
        if verdict.verdict in ("equal", "close"):
            best = tried, verdict
            return True
        return False

    if whole.verdict != "differs":
        rollback.narrowed(list(guilty), holds)
    return best


def _whole(job: Job, model: _Model, done: Fixed, runtime: Runtime, inputs: _Inputs) -> tuple[Verification, Sequence[Feed]]:
    """The whole model before and after, and the inputs that tell."""
    proof = proof_of_whole(done.applied)
    exact = all(a.exactness == EXACT for a in done.applied)
    dear = is_dear(cost_of(model.analysis), cost_of(done.analysis))
    used, labels, kinds = inputs.used(proved=proof.label != SAMPLED, dear=dear)
    if not exact:
        (used, kinds), labels = inputs.unseen(), []
    # What the original gives for some of the inputs came out when the blocks were verified.
    known = {i: done.reference[id(feed)] for i, feed in enumerate(used) if id(feed) in done.reference}
    runtime.limits = run_limits(job.config.limits, (model.document, model.analysis), (done.document, done.analysis))
    whole = compare_documents(
        runtime, model.document, done.document, used, accumulated_together(model.analysis, done.analysis), exact=exact,
        seeds=inputs.seeds, kinds=kinds, known=known, labels=labels, analysis=model.analysis, wanted=inputs.wanted,
    )  # fmt: skip
    return replace(whole, proof=proof), used


def _report(job: Job, model: _Model, done: Fixed, whole: Verification) -> FixReport:
    # Where only some forms may be used, others might have followed, so that nothing is known of findings without any.
    several = job.substitutions, catalog.substitutions()
    first, second = ({s.name for s in forms if s.exactness == EXACT} for forms in several)
    known = model.known if first == second else None
    limit = job.config.max_cost
    left, _ = remedied(done.checked, done.analysis, job.profile, model.check, known, factor=limit, original=model.analysis)
    before, _ = remedied(model.checked, model.analysis, job.profile, model.check, known, factor=limit)
    after = job.report(done.analysis, left, "")
    after = replace(after, crashes=(*after.crashes, *done.crashes))
    return FixReport(
        before=job.report(model.analysis, before, job.digest), after=after, applied=tuple(done.applied),
        refused=concerning(done.refused, after), verification=whole, document=done.document,
        input_shapes=job.config.input_shapes,
    )  # fmt: skip
