"""What is known of one block is used at another: outlooks at other depths, and forms that have never helped."""

from __future__ import annotations

from typing import Any

from npu_guard.fixing.choice import Link, Outlook
from npu_guard.fixing.known import SKETCHES, TRIED, UNKNOWN, Known
from npu_guard.results.findings import Evidence, Finding, Location, Outcome, Severity


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
    known, before = Known(sketches=SKETCHES), [finding()]
    for _ in range(TRIED):
        assert not known.is_hopeless("form", 0, before)
        known.note("form", 0, before, Outlook((finding(),), 1.0))
    assert known.is_hopeless("form", 0, before)
    assert not known.is_hopeless("form", 1, before), "others may follow there"
    assert not known.is_hopeless("other", 0, before)
    assert not known.is_hopeless("form", 0, [finding(limit="conv.stride_max")]), "of another limit nothing is known"
    known.sketches = SKETCHES - 1
    assert not known.is_hopeless("form", 0, before), "a small network is judged as a whole"


def test_a_form_that_has_helped_once_is_judged_on() -> None:
    known, before = Known(sketches=SKETCHES), [finding()]
    known.note("form", 0, before, Outlook((), 1.0))
    for _ in range(2 * TRIED):
        known.note("form", 0, before, Outlook((finding(),), 1.0))
    assert not known.is_hopeless("form", 0, before)
