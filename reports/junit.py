"""JUnit XML: one suite a model, one case a rule, so that the list of tests stays the same from run to run.

`failure`: a finding that makes the model fail. `error`: no answer, because the rule could not tell or crashed, or the
model could not be read. `skipped`: the device sets no such limit, or every finding is suppressed or, being undecided,
allowed. Findings that do not make the model fail are output of a case that passed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree as ET

from npu_guard.base.text import printable
from npu_guard.checking import registry
from npu_guard.project.paths import in_project, where
from npu_guard.results.findings import Finding, ModelReport, Outcome, Report, RuleCrash
from npu_guard.results.groups import Group, ranked_findings
from npu_guard.results.summary import counts_as_failure, message, plural, word

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MOST_LINES = 200


def render(report: Report, *, color: bool = False) -> str:
    """The document; names are as unique as the models' paths."""
    top = ET.Element("testsuites", name="npu-guard")
    for model in report.models:
        _suite(top, report, model)
    for kind in ("tests", "failures", "errors"):  # the schema that Jenkins holds files to knows no more here
        top.set(kind, str(sum(int(suite.get(kind, "0")) for suite in top)))
    ET.indent(top)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(top, encoding="unicode") + "\n"


def _suite(top: ET.Element, report: Report, model: ModelReport) -> None:
    file = in_project(model.path)
    suite = ET.SubElement(top, "testsuite", name=_legal(f"{file} on {model.profile}"), file=_legal(file))
    case = _case(suite, model, "readable")
    if model.error is not None:
        _say(case, "error", model.error[0], model.error[1])
    names = {rule.code: rule.name for rule in registry.rules()}
    spoke: dict[str, list[Group]] = {}
    for group in ranked_findings([model]):
        spoke.setdefault(group.first.rule, []).append(group)
    for code in sorted({*model.asked, *model.not_applicable, *spoke, *(c.rule for c in model.crashes)}):
        name = spoke[code][0].first.name if code in spoke else names.get(code, "")
        case = _case(suite, model, f"{code} {name}".rstrip())
        crashes = [c for c in model.crashes if c.rule == code]
        if code in model.not_applicable:
            _say(case, "skipped", "not applicable", f"{model.profile} sets no such limit")
        elif crashes:
            _crashed(case, crashes)
        else:
            _judge(case, report, spoke.get(code, []))
    suite.set("tests", str(len(suite)))
    for kind, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(kind, str(len(suite.findall(f"testcase/{tag}"))))


def _case(suite: ET.Element, model: ModelReport, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=_legal(in_project(model.path)), name=_legal(name))


def _crashed(case: ET.Element, crashes: Sequence[RuleCrash]) -> None:
    lines = [f"at {printable(c.node)}: {printable(c.error, 1000)}" for c in crashes]
    _say(case, "error", "crash", "internal error of npu-guard, please report it", lines)


def _judge(case: ET.Element, report: Report, groups: Sequence[Group]) -> None:
    """The worst that a rule said decides; all that it said is listed."""
    found = [g.first for g in groups]
    failed = [f for f in found if counts_as_failure(f, report.fail_on) and f.outcome is Outcome.FAIL]
    undecided = [f for f in found if counts_as_failure(f, report.fail_on) and f.outcome is Outcome.UNDECIDED]
    suppressed = [f for f in found if f.suppressed is not None]
    lines = [_line(g.model, g.first) for g in groups]
    if failed:
        _say(case, "failure", "finding", _headline(failed), lines)
    elif undecided and not report.allow_undecided:
        _say(case, "error", "undecided", _headline(undecided), lines)
    elif undecided:
        _say(case, "skipped", "undecided", f"allowed: {_headline(undecided)}", lines)
    elif found and len(suppressed) == len(found):
        reasons = ", ".join(dict.fromkeys(printable(f.suppressed or "") for f in suppressed))
        _say(case, "skipped", "suppressed", f"suppressed: {reasons}", lines)
    elif lines:
        ET.SubElement(case, "system-out").text = _text(lines)


def _headline(found: Sequence[Finding]) -> str:
    more = f", and {plural(len(found) - 1, 'more place')}" if len(found) > 1 else ""
    return f"{printable(message(found[0]), 1000)}{more}"


def _line(model: ModelReport, f: Finding) -> str:
    file, line = where(model, f)
    location = f"{printable(f.location.op_type)} {printable(f.location.node)} at {printable(file)}:{line}"
    reason = "" if f.suppressed is None else f" (suppressed: {printable(f.suppressed)})"
    return f"{word(f)}: {printable(message(f), 1000)}: {location}{reason}"


def _say(case: ET.Element, tag: str, kind: str, headline: str, lines: Iterable[str] = ()) -> None:
    outcome = ET.SubElement(case, tag, type=_legal(kind), message=_legal(headline))
    outcome.text = _text([headline] if not lines else list(lines))


def _text(lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - _MOST_LINES:,} more"] if len(lines) > _MOST_LINES else []
    return "\n".join(_legal(line, 8000) for line in [*lines[:_MOST_LINES], *more])


def _legal(text: str, limit: int = 2000) -> str:
    """Safe to show, and without what XML 1.0 has no way to write."""
    return _ILLEGAL.sub("", printable(text, limit))
