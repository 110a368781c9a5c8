"""What `fix` did, for people: the verdict, what was replaced, what is left and why, what it costs, and what comes next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from npu_guard.base.text import printable
from npu_guard.fixing.driver import FixReport
from npu_guard.fixing.outcome import Jump, Remaining, by_module, by_rule, jumps, remaining
from npu_guard.fixing.plan import describe_step
from npu_guard.fixing.report import FixResult
from npu_guard.reports.blocks.verification import int8_text, verification_text, worst_difference
from npu_guard.results import next_steps, summary
from npu_guard.results.findings import Applied, ModelReport, Outcome, RefusedMatch, Severity
from npu_guard.results.forms import in_turn
from npu_guard.results.proof import ROUNDING

SHOWN = 12
"""Lines of each part; the rest is counted, and shown by --verbose."""


def render(result: FixResult, *, color: bool = False) -> str:
    """The verdict, what was replaced, what is left and why, cost, how far the results are apart, and the next command.

    It fits a screen; with `verbose`, every place has a line. A dry run tells of each block what a plan has.
    """
    report, most = result.report, 1 << 30 if result.verbose else SHOWN
    left = remaining(report.after, report.refused)
    lines = [f"{printable(report.before.path)}  {report.before.profile}", _verdict(report)]
    lines += [f"Note: {words}" for words in summary.simplified_words(done)] if (done := report.before.simplified) else []
    lines += [""]
    lines += _planned(report) if result.dry else _replaced(report, result.verbose, most)
    lines += _left(left, result.verbose, most)
    lines += _refused("Almost matched" if result.dry else "Not replaced", _other_refusals(report, left, result), most)
    if report.after.crashes:
        lines += ["", "Crashed (bugs in npu-guard, please report them)"]
        lines += [f"  {c.rule:<32} {printable(c.node, 60)}: {printable(c.error)}" for c in report.after.crashes]
    lines += ["", f"{'':<22}{'before':>14}  {'after':>14}"]
    lines += [f"  {name:<20}{a:>14}  {b:>14}" for name, a, b in _table(report.before, report.after)]
    named = {a.at: _label(several) for several in _alike(report.applied, result.verbose) for a in several}
    lines += [_jump(j, named) for j in jumps(report.before, report.after, report.applied)]
    if result.verbose:
        lines += _modules(report)
    if report.applied:
        lines += ["", f"Whole model: {verification_text(report.verification)}"]
    if result.metric is not None:
        lines += ["", f"Metric: {result.metric[0]:.6g} before, {result.metric[1]:.6g} after."]
    if result.written is not None:
        lines += ["", *_next(result, left)]
    if result.int8 is not None:
        lines += ["", int8_text(result.int8)]
    return "\n".join(lines) + "\n"


def _verdict(report: FixReport) -> str:
    before, after = (summary.count(model.findings) for model in (report.before, report.after))
    if not report.applied:
        return f"Unchanged: {_many(after.error, 'error')}."
    compared = f"{worst_difference(report.verification)} ({_many(len(report.applied), 'block')} replaced)"
    done = f"Fixed: {_many(before.error, 'error')}, now {after.error or 'none'}"
    if before.error == after.error:
        stay = f" ({_many(after.error, 'error')} left)" if after.error else ""
        done = f"Changed: {_many(before.warning, 'warning')}, now {after.warning or 'none'}{stay}"
    return f"{done}; {compared}."


def _many(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _replaced(report: FixReport, verbose: bool, most: int) -> list[str]:
    if not report.applied:
        return ["Nothing to replace."]
    lines = ["Replaced"]
    groups = _alike(report.applied, verbose)
    for several in groups[:most]:
        a, worst = several[0], max(several, key=_error_of)
        before = sum(s.before.nodes or len(s.nodes_before) for s in several)
        after = sum(s.after.nodes or len(s.nodes_after) for s in several)
        label = f"{worst.verification.proof.label}; " if worst.verification.proof is not None else ""
        lines.append(f"  {_label(several)}")
        rules = ", ".join(dict.fromkeys(code for s in several for code in s.rules))
        lines.append(f"      removes {rules}; {before} -> {after} nodes, {label}{worst_difference(worst.verification)}")
        if a.exactness != "exact":
            lines.append(f"      approximate: {printable(a.note, 200) + '; ' if a.note else ''}needs fine-tuning")
    return [*lines, *_more(len(groups) - most, "kinds of blocks")]


def _alike(applied: Sequence[Applied], verbose: bool) -> list[list[Applied]]:
    """Blocks by what took their place, each by itself with `verbose`."""
    groups: dict[tuple[str, ...], list[Applied]] = {}
    for a in applied:
        groups.setdefault((a.substitution, *a.chain, *((a.at,) if verbose else ())), []).append(a)
    return [*groups.values()]


def _label(several: Sequence[Applied]) -> str:
    """`tensors-to-maps  node_permute and 1 more`."""
    a, more = several[0], f" and {len(several) - 1} more" if len(several) > 1 else ""
    return f"{' + '.join(name + times for name, times in in_turn((a.substitution, *a.chain)))}  {printable(a.node, 60)}{more}"


def _error_of(applied: Applied) -> float:
    return max((o.max_abs for o in applied.verification.outputs), default=float("inf"))


def _left(left: Sequence[Remaining], verbose: bool, most: int) -> list[str]:
    if not left:
        return []
    lines = ["", "Left"]
    groups: dict[tuple[str, ...], list[Remaining]] = {}
    for r in left:
        at = (r.finding.location.output,) if verbose else ()
        groups.setdefault((r.finding.rule, r.finding.location.op_type, r.reason, *at), []).append(r)
    for (rule, op_type, reason, *_), several in sorted(groups.items(), key=lambda entry: -len(entry[1]))[:most]:
        times = f" x{len(several)}" if len(several) > 1 else ""
        place, message = several[0].finding.location, printable(several[0].finding.message, 120)
        lines.append(f"  {rule}{times}  {op_type} {printable(place.node or place.output, 60)}: {message}")
        lines.append(f"      {printable(reason, 240)}")
    return [*lines, *_more(len(groups) - most, "kinds of errors")]


def _other_refusals(report: FixReport, left: Sequence[Remaining], result: FixResult) -> list[RefusedMatch]:
    """Refusals that no line of what is left has told: of all nodes in a dry run, and of steps that somebody asked for."""
    if result.dry or result.verbose:
        return list(report.refused)
    told = {r.reason for r in left}
    return [r for r in report.refused if not r.at or ("rolled back" in r.reason and f"{r.substitution}: {r.reason}" not in told)]


def _refused(title: str, refused: Sequence[RefusedMatch], most: int) -> list[str]:
    if not refused:
        return []
    groups: dict[tuple[str, str], list[RefusedMatch]] = {}
    for r in refused:
        groups.setdefault((r.substitution, r.reason), []).append(r)
    lines = ["", title]
    for several in [*groups.values()][:most]:
        more = f" and {len(several) - 1} more" if len(several) > 1 else ""
        lines.append(f"  {several[0].substitution:<32} {printable(several[0].node, 60)}{more}: {printable(several[0].reason)}")
    return [*lines, *_more(len(groups) - most, "reasons")]


def _more(count: int, what: str) -> Iterable[str]:
    return (f"  ... and {count} more {what}; --verbose shows them",) if count > 0 else ()


def _planned(report: FixReport) -> list[str]:
    if not report.applied:
        return ["Nothing to replace."]
    lines = ["Plan"]
    for number, steps in groupby(report.applied, key=lambda a: a.number):
        lines.append(f"  pass {number}")
        for a in steps:
            lines.append(f"    {a.substitution}: {worst_difference(a.verification)}")
            lines += [f"      {printable(line, 600)}" for line in describe_step(a)]
    return lines


def _table(before: ModelReport, after: ModelReport) -> list[tuple[str, str, str]]:
    def count(model: ModelReport, severity: Severity) -> str:
        return str(sum(f.severity is severity and f.suppressed is None and f.outcome is Outcome.FAIL for f in model.findings))

    rows = [(f"{s.value}s", count(before, s), count(after, s)) for s in (Severity.ERROR, Severity.WARNING)]
    rows += [(f"  {code}", str(a), str(b)) for code, (a, b) in by_rule(before, after).items()]
    open_before, open_after = (summary.count(model.findings).undecided for model in (before, after))
    if open_before or open_after:
        rows.append(("undecided", str(open_before), str(open_after)))
    for name in ("nodes", "macs", "params", "activation_bytes", "peak_bytes"):
        rows.append((name.replace("_", " "), f"{getattr(before.totals, name):,}", f"{getattr(after.totals, name):,}"))
    return rows


def _jump(jump: Jump, named: Mapping[str, str]) -> str:
    """`params are 3.2 times as many, most of it by tensors-to-maps node_permute and 1 more, at node_view`."""
    step, by = jump.step, ""
    if step is not None:
        label = " ".join(named[step.at].split())
        node = printable(step.node, 60)
        by = f", most of it by {label}" + ("" if label.endswith(f" {node}") else f", at {node}")
    return f"  {jump.cost} are {f'{jump.after / jump.before:.1f} times as many' if jump.before else 'new'}{by}"


def _modules(report: FixReport) -> list[str]:
    rows = by_module(report.before, report.after)
    return ["", "Findings by module", *(f"  {printable(name or '(none)', 60):<62}{a:>6} -> {b}" for name, (a, b) in rows.items())]


def _next(result: FixResult, left: Sequence[Remaining]) -> list[str]:
    """The file that was written, and what to do with it; commands have a line of their own."""
    model, written = result.report.before, str(result.written)
    steps = []
    if left and (modes := next_steps.fix_with_modes(model, written)) is not None:
        steps.append(modes)
    if result.report.applied:
        proof = result.report.verification.proof
        proved = proof is not None and proof.reaches(ROUNDING)
        told = "run it beside the original on inputs; the proof above stands" if proved else "compare it with the original"
        steps.append((told, next_steps.verify_command(model, written)))
    if left:
        steps.append(("leave the rest to the host", next_steps.partition_command(model, written, mended=True)))
    first = f" Next, {steps[0][0]}:" if steps else ""
    lines = [f"Wrote {printable(written)}.{first}", *(f"  {command}" for _, command in steps[:1])]
    for told, command in steps[1:]:
        lines += [f"or {told}:", f"  {command}"]
    return lines
