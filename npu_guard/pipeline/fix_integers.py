"""`fix` on a quantized network: its twin in real numbers is mended, then each way of writing that in integers is weighed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence

from msgspec.structs import replace

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.fixing import rollback
from npu_guard.fixing.ceiling import Ceiling, cost_of
from npu_guard.fixing.driver import FixReport
from npu_guard.fixing.integers import in_integers, proof_in_integers, repairs
from npu_guard.fixing.outcome import concerning
from npu_guard.fixing.severities import Tally, tally
from npu_guard.fixing.twin import Twin, beyond_scheme, scheme_findings, with_same_remedies, without_scheme
from npu_guard.pipeline.job import FixFloats, Job, Without
from npu_guard.results.findings import Applied, ModelReport, RefusedMatch
from npu_guard.results.proof import PROVED
from npu_guard.rewriting.substitution import EXACT
from npu_guard.verification.compare import not_run


def fix_integers(job: Job, twin: Twin, fixed: FixFloats) -> FixReport:
    """The network that is best in integers; untouched where none has fewer errors, in real numbers where none can be written.

    Forms after which the device would refuse more in integers are left out, so that they keep no others away.
    """
    left_out: dict[rollback.Key, RefusedMatch] = {}
    for _ in range(rollback.ATTEMPTS):
        report, harmful = _fixed_once(job, twin, fixed, left_out)
        if not harmful.keys() - left_out.keys():
            break
        left_out |= harmful
    return report


def _fixed_once(job: Job, twin: Twin, fixed: FixFloats, left_out: Without) -> tuple[FixReport, Without]:
    """The network that is best, and where it is untouched for the harm that some forms do in integers, these."""
    numbers = fixed(twin.real.document, twin.numbers, without_scheme(job.checked, twin.numbers), left_out)
    before = _told(job, twin.analysis, numbers.before, job.digest)
    untouched = dataclasses.replace(
        numbers, before=before, after=replace(before, crashes=numbers.after.crashes, sha256=""), document=twin.document,
        applied=(), verification=not_run("nothing was replaced"),
    )  # fmt: skip
    if numbers.applied:
        proof = numbers.verification.proof
        proved = proof is not None and proof.label == PROVED  # then inputs far beyond the range of the integers say nothing
        differs = numbers.verification.verdict == "differs" and not proved
        if differs or (job.check_numbers and numbers.verification.verdict == "not_run"):
            return dataclasses.replace(numbers, before=before), {}
    elif job.plan is not None or not scheme_findings(before.findings):
        return untouched, {}
    dear: list[str] = []
    found = list(_written(job, twin, numbers, before, dear))
    if not found:  # forms that leave the integers alone may do
        done = fixed(twin.document, twin.analysis, job.checked, left_out) if numbers.applied else untouched
        more = tuple(RefusedMatch(a.substitution, a.node, dear[-1], _places(a, before)) for a in numbers.applied if dear)
        return dataclasses.replace(done, refused=(*done.refused, *concerning(more, done.after))), {}
    return _best(found, numbers, before, untouched, planned=job.plan is not None)


def _written(job: Job, twin: Twin, numbers: FixReport, before: ModelReport, dear: list[str]) -> Iterator[FixReport]:
    """What came of each way of writing integers that runs; why others cost too much is added to `dear`."""
    ceiling = Ceiling.over(twin.analysis, job.config.max_cost)
    for rounding in (False, True) if any(s.exactness != EXACT for s in job.substitutions) else (False,):
        job.progress("Writing integers", 0, 1)
        for made, compared in in_integers(
            twin, numbers.document if numbers.applied else twin.real.document, job.profile, job.calibration, job.config.limits,
            job.config.input_shapes, approximate=rounding,
        ):  # fmt: skip
            if compared.verdict == "not_run":
                continue
            analysis = analyze(made.skeleton(), job.config.input_shapes)
            if ceiling is not None and (why := ceiling.reason(cost_of(analysis))):
                dear.append(f"in integers, {why}")
                continue
            after = _told(job, analysis, numbers.after, "")
            steps = repairs(before.findings, after.findings, compared, rounding=rounding)
            yield dataclasses.replace(
                numbers, before=before, after=replace(after, crashes=(*after.crashes, *numbers.after.crashes)),
                document=made, applied=(*numbers.applied, *steps),
                verification=replace(compared, seeds=tuple(job.seeds), proof=proof_in_integers(numbers.verification.proof)),
            )  # fmt: skip


def _best(
    found: list[FixReport], numbers: FixReport, before: ModelReport, untouched: FixReport, *, planned: bool
) -> tuple[FixReport, Without]:
    """Of what was verified, what leaves least; nothing where that is no less than before, and then the forms that do harm."""
    verified = [report for report in found if report.verification.verdict != "differs"]
    best = min(verified or found, key=lambda report: _left(report, before))
    if best.applied and not _more(best.after, before) and _wrong(best.after, before) < _wrong(before, before):
        return best, {}
    known = {f.location.output for f in before.findings}
    worse = next((f for f in scheme_findings(best.after.findings) if f.location.output not in known), None)
    if not numbers.applied or worse is None:
        return untouched, {}
    reason = f"in integers the device would refuse what is new: {worse.rule} at {worse.location.op_type} ({worse.message})"
    if _more(best.after, before):
        reason += f"; {tally(best.after.findings).errors} errors in place of {tally(before.findings).errors}"
    refused = {(a.substitution, a.at): RefusedMatch(a.substitution, a.node, reason, _places(a, before)) for a in numbers.applied}
    harmful = {} if planned else {(a.substitution, a.at) for a in _harmful(numbers.applied, before, best.after)}
    kept = dataclasses.replace(untouched, refused=(*untouched.refused, *refused.values()))
    return kept, {at: why for at, why in refused.items() if at in harmful and len(harmful) < len(refused)}


def _harmful(applied: Sequence[Applied], before: ModelReport, after: ModelReport) -> list[Applied]:
    """Steps that leave no fewer errors than there were, each with those that work on what it made."""
    groups: list[list[Applied]] = []
    for step in applied:
        made = set(step.nodes_before)
        joined = [g for g in groups if any(made.intersection(s.nodes_after) for s in g)]
        groups = [g for g in groups if g not in joined] + [[*(s for g in joined for s in g), step]]

    def errors(report: ModelReport, names: Collection[str]) -> int:
        return tally(f for f in report.findings if f.location.node in names).errors

    def gain(group: Sequence[Applied]) -> int:
        old, new = ({n for s in group for n in s.nodes_before}, {n for s in group for n in s.nodes_after})
        return errors(before, old) - errors(after, new)

    return [step for group in groups if gain(group) <= 0 for step in group]


def _places(step: Applied, before: ModelReport) -> tuple[str, ...]:
    """Where a step would have mended something, which need not be where it begins."""
    return tuple(dict.fromkeys((step.at, *(f.location.output for f in before.findings if f.location.node in step.nodes_before))))


def _told(job: Job, analysis: Analysis, others: ModelReport, digest: str) -> ModelReport:
    """What the device says of integers, with the remedies that were found in real numbers."""
    checked = job.checked(analysis)
    return job.report(analysis, replace(checked, findings=with_same_remedies(checked.findings, others.findings)), digest)


def _wrong(report: ModelReport, before: ModelReport) -> tuple[Tally, Tally]:
    """Findings beyond those that follow from the scheme that a network comes with, then all."""
    return tally(beyond_scheme(report.findings, before.findings)), tally(report.findings)


def _more(report: ModelReport, before: ModelReport) -> bool:
    """Whether there are more errors than before, of whatever kind: what a scheme keeps off the device, more nodes make worse."""
    return tally(report.findings).errors > tally(before.findings).errors


def _left(report: FixReport, before: ModelReport) -> tuple[bool, tuple[Tally, Tally], bool, float]:
    """How much a way of writing integers leaves: findings, then by how many steps results move, where that is more than one."""
    equal = report.verification.verdict == "equal"
    moved = max((output.steps or 0.0 for output in report.verification.outputs), default=0.0)
    return _more(report.after, before), _wrong(report.after, before), not equal, 0.0 if equal else moved
