"""What is known of one block is used at another: outlooks at other depths, and forms that have never helped."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.checking import registry
from npu_guard.checking.engine import Checked, check
from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case
from npu_guard.file.document import Document
from npu_guard.file.load import load
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.fixing.choice import Link, Outlook
from npu_guard.fixing.judge import Judge
from npu_guard.fixing.known import LEARNT, TRIED, UNKNOWN, USUAL, Known
from npu_guard.fixing.search import Search
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.results.findings import Evidence, Finding, Location, Outcome, Severity
from npu_guard.rewriting.substitution import EXACT

FRONT_END = """g (float[1,1,1,401] a, float[1,1,1,303] b, float[1,1,1,253] c) => (p, q, r)
    <float[16,1,1,10] w, float[16,1,1,10] v, float[16,1,1,10] u> {
        p = Conv<strides = [1,2]>(a, w)  q = Conv<strides = [1,2]>(b, v)  r = Conv<strides = [1,2]>(c, u) }"""


def finding(rule: str = "NPU201", limit: str = "conv.kernel_max") -> Finding:
    where = Location(node="c", op_type="Conv", output="y")
    evidence = Evidence(limit, 256, 32)
    return Finding(rule, "kernel-size", Severity.ERROR, Outcome.FAIL, where, "too long", evidence=evidence)


def test_what_nothing_followed_is_the_same_where_less_may_follow() -> None:
    known, left = Known(), Outlook((finding(),), 1.0)
    known.keep("block", 2, left)
    assert known.outlook("block", 2) is left
    assert known.outlook("block", 0) is left
    assert known.outlook("block", 3) is UNKNOWN, "with one more to follow there may be a way"
    assert known.outlook("other", 2) is UNKNOWN


def test_what_leaves_nothing_is_the_same_at_any_depth() -> None:
    known, clean = Known(), Outlook((), 1.0)
    known.keep("block", 0, clean)
    assert known.outlook("block", 3) is clean


def test_a_chain_is_one_of_its_depth_alone() -> None:
    known: Any = Known()
    chained = Outlook((), 1.0, chain=(Link(None, 0, None),))  # type: ignore[arg-type]
    known.keep("block", 2, chained)
    assert known.outlook("block", 2) is chained
    assert known.outlook("block", 1) is UNKNOWN
    assert known.outlook("block", 3) is UNKNOWN


def test_what_only_the_real_model_tells_is_of_its_depth() -> None:
    known = Known()
    known.keep("block", 1, None)
    assert known.outlook("block", 1) is None
    assert known.outlook("block", 0) is UNKNOWN


def test_a_form_that_has_never_helped_is_no_longer_judged() -> None:
    known, before = Known(sketches=LEARNT), [finding()]
    for _ in range(TRIED):
        assert not known.is_hopeless("form", 0, before)
        known.note("form", 0, before, Outlook((finding(),), 1.0))
    assert known.is_hopeless("form", 0, before)
    assert not known.is_hopeless("form", 1, before), "others may follow there"
    assert not known.is_hopeless("other", 0, before)
    assert not known.is_hopeless("form", 0, [finding(limit="conv.stride_max")]), "of another limit nothing is known"
    known.sketches = LEARNT - 1
    assert not known.is_hopeless("form", 0, before), "a small network is judged as a whole"


def test_a_form_that_was_taken_is_judged_first() -> None:
    known, before = Known(sketches=LEARNT), [finding()]
    match: Any = SimpleNamespace(substitution=SimpleNamespace(name="form"), variant=2)
    for _ in range(USUAL):
        assert not known.is_usual(match, 0, before)
        known.take(match, 0, before)
    assert known.is_usual(match, 0, before)
    assert not known.is_usual(match, 1, before)
    assert not known.is_usual(SimpleNamespace(substitution=match.substitution, variant=3), 0, before)  # type: ignore[arg-type]
    known.sketches = LEARNT - 1
    assert not known.is_usual(match, 0, before)


def test_a_form_that_has_helped_once_is_judged_on() -> None:
    known, before = Known(sketches=LEARNT), [finding()]
    known.note("form", 0, before, Outlook((), 1.0))
    for _ in range(2 * TRIED):
        known.note("form", 0, before, Outlook((finding(),), 1.0))
    assert not known.is_hopeless("form", 0, before)


def test_a_front_end_is_judged_with_fewer_sketches_and_mended_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions that differ in their length alone."""
    skeleton = load(_saved(FRONT_END, tmp_path))
    analysis, profile = analyze(skeleton), registry.profile("ti-tidl:AM68A")

    def look(analysis: Analysis) -> Checked:
        return check(analysis, profile, registry.rules(), Config())

    def gained(learnt: int) -> tuple[int, int]:
        monkeypatch.setattr("npu_guard.fixing.known.LEARNT", learnt)
        search, known, exact = Search(analysis, look(analysis).findings, profile), Known(most=10**5), catalog.substitutions()
        exact = tuple(s for s in exact if s.exactness == EXACT)
        judge = Judge(Document.of(skeleton), search, look, exact, known)
        best: dict[str, int] = {}
        for candidate in judge.candidates(search.all(exact)):
            at = candidate.match.root.label
            best[at] = max(best.get(at, 0), candidate.gain.errors)
        return sum(best.values()), known.sketches

    (alone, many), (learnt, few) = gained(10**9), gained(0)
    assert learnt == alone > 0
    assert few < many / 3, (few, many)


def _saved(text: str, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(case_model(Case(text)).SerializeToString())
    return path


def test_what_a_second_fix_would_judge_the_first_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run judges a bounded number of blocks; where it has replaced some by then, it judges as many once more."""
    monkeypatch.setattr("npu_guard.fixing.known.SKETCHES", 1)
    monkeypatch.setattr("npu_guard.fixing.known.EACH", 0)
    text = """g (float[1,8,24,24] x) => (float[1,8,24,24] y) <float[8,8,19,1] w, float[8,8,21,1] v, float[8,8,1,23] u> {
        a = Conv<pads = [9,0,9,0]>(x, w)  b = Conv<pads = [10,0,10,0]>(a, v)  y = Conv<pads = [0,11,0,11]>(b, u) }"""
    profile = registry.profile("aimotive-aiware")
    exact = [s for s in catalog.substitutions() if s.exactness == EXACT]
    source, target = _saved(text, tmp_path), tmp_path / "fixed.onnx"
    report = fix_model(str(source), profile, Config(), exact, seeds=(0,))
    assert len(report.before.findings) == 3
    assert not report.after.findings
    save_document(report.document, target)
    assert not fix_model(str(target), profile, Config(), exact, seeds=(0,)).applied


def test_an_outlook_that_was_cut_short_is_not_kept() -> None:
    known = Known(sketches=5, most=5)
    known.keep("block", 2, Outlook((finding(),), 1.0))
    assert known.outlook("block", 2) is UNKNOWN
    known.keep("block", 2, Outlook((), 1.0))
    assert known.outlook("block", 2) is not UNKNOWN
    known.renew(1)
    assert not known.is_spent
