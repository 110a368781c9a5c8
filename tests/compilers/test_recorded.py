"""The profiles against what the vendors' compilers said, which is checked in; no compiler is needed.

A profile that is changed so that it no longer agrees fails here. `make study` asks the compilers again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

STUDY = Path(__file__).parents[2] / "bench" / "study"
sys.path.insert(0, str(STUDY))
import judge  # noqa: E402
import networks  # noqa: E402
import page  # noqa: E402
import page_networks  # noqa: E402
import recorded  # noqa: E402
import single  # noqa: E402
import sweep  # noqa: E402

sys.path.remove(str(STUDY))
SHARE = 97.0
"""Percent of the cases that a compiler answered on which profile and compiler say the same."""


@pytest.fixture(scope="module")
def lines() -> Mapping[str, Sequence[page.Line]]:
    return page.lines()


def test_the_fixed_sweep_is_recorded_for_every_profile() -> None:
    for profile in recorded.TARGETS:
        answers = recorded.read(profile)
        asked = {key: a.case for key, a in answers.items()}
        assert not [c.key for c in sweep.cases() if asked.get(c.key) != c], f"{profile}: run `make study`"


def test_agreement(lines: Mapping[str, Sequence[page.Line]]) -> None:
    shares = {profile: page.counts(found) for profile, found in lines.items()}
    assert shares.keys() == recorded.TARGETS.keys()
    assert not {profile: c for profile, c in shares.items() if c.share < SHARE or c.told < 400}


def test_whole_networks_pass_or_fail_as_the_compiler_says() -> None:
    """In floating point and quantized: 95 % of the verdicts, and 99 % of the operators that the compiler answered for."""
    for profile, found in networks.read().items():
        spelled = page_networks.by_spelling(found)
        quantized = [entry for spelling in page_networks.corpus.QUANTIZED for entry in spelled[spelling]]
        whole = [entry for entries in spelled.values() for entry in entries]
        assert len(spelled[""]) > 25, profile
        for entries in (whole, spelled[""], quantized):
            assert sum(map(page_networks.is_same, entries)) >= 0.95 * len(entries), profile
            agree, told = page_networks.nodes(entries)
            assert agree >= 0.99 * told, profile


def test_every_disagreement_has_a_reason(lines: Mapping[str, Sequence[page.Line]]) -> None:
    """Above all the missed ones: the profile says that it fits, and the compiler refuses."""
    kinds = ("missed", "false-alarm", "undecided")
    open_ends = [
        (profile, i.answered.case.key, i.outcome)
        for profile, found in lines.items()
        for i in found
        if i.outcome in kinds and not i.reason
    ]
    for profile, found in networks.read().items():
        rows = page_networks.differences(profile, found, recorded.reasons())
        open_ends += [(profile, key, what) for key, what, reason in rows if not reason]
    assert not open_ends


def test_every_reason_is_needed(lines: Mapping[str, Sequence[page.Line]]) -> None:
    used = {i.reason for found in lines.values() for i in found}
    for profile, found in networks.read().items():
        used |= {reason for _, _, reason in page_networks.differences(profile, found, recorded.reasons())}
    assert not [r.cases for r in recorded.reasons() if r.reason not in used and not r.cases[0].startswith("graph ")]


def test_a_wrong_profile_is_noticed() -> None:
    """The comparison can fail: with the limit on padded averages one lower, the case at the old limit is a false alarm."""
    from msgspec.structs import replace

    from npu_guard.checking import registry
    from npu_guard.compilers.compare import outcome

    profile = registry.profile("ethos-u55")
    key = "AveragePool attributes auto_pad=SAME_UPPER 8x8"
    answered = recorded.read("ethos-u55")[key]
    assert outcome(judge.opinions(judge.analysis_of(answered.case), [profile])["ethos-u55"].word, answered.word) == "agreement"
    lowered = tuple(
        replace(r, clause=replace(r.clause, bounds=(("max", 7),))) if r.id == "average-padded" else r
        for r in profile.requirements
    )
    wrong = replace(profile, requirements=lowered)
    assert outcome(judge.opinions(judge.analysis_of(answered.case), [wrong])["ethos-u55"].word, answered.word) == "false-alarm"


def test_cases_say_what_they_are_called() -> None:
    """A few by hand, as everything else hangs on these texts."""
    texts = {c.key: c.text for c in sweep.cases()}
    conv, total = texts["Conv kernel 33x3"], texts["ReduceSum axes 1"]
    assert conv.startswith("g (float[1,8,34,16] x) => (float[] y) <float[8,8,33,3] w> {")
    assert conv.endswith("{ y = Conv<kernel_shape = [33, 3], pads = [16, 1, 16, 1]>(x, w) }")
    assert total == "g (float[1,16,8,8] x) => (float[] y) <int64[1] a = {1}> { y = ReduceSum<keepdims = 1>(x, a) }"
    loose = single.loosened(total, "ReduceSum", "axes")
    assert loose == "g (float[1,16,8,8] x, int64[1] a) => (float[] y) { y = ReduceSum<keepdims = 1>(x, a) }"


def test_the_page_is_current(lines: Mapping[str, Sequence[page.Line]]) -> None:
    shown = (STUDY.parents[1] / "docs" / "agreement.md").read_text(encoding="utf-8")
    assert page.text(lines) == shown, "run `python bench/study/run.py --page`"
