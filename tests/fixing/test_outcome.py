"""Costs that rise by a multiple, as the text of `fix` tells them."""

from __future__ import annotations

from msgspec.structs import replace

from npu_guard.fixing.outcome import Jump, jumps
from npu_guard.reports.fix.text import _alike, _jump, _label
from npu_guard.results.findings import Applied, ModelReport, Totals, Verdict, Work
from npu_guard.results.verification import Verification

EQUAL = Verification("equal", "onnxruntime", (0,), "6 random", "", ())
FIRST = Applied("tensors-to-maps", "exact", "node_permute", ("NPU102",), (), (), EQUAL, at="a", after=Work(params=10))
SECOND = replace(FIRST, node="node_view", at="b", after=Work(params=90_000, activation_bytes=400_000))
BEFORE = ModelReport("m", "p", Verdict.FAIL, totals=Totals(params=40_000, activation_bytes=60_000, peak_bytes=50_000, macs=9))


def told(after: Totals, *applied: Applied) -> list[str]:
    named = {a.at: _label(several) for several in _alike(applied, verbose=False) for a in several}
    found = jumps(BEFORE, replace(BEFORE, totals=after), applied)
    return [_jump(jump, named).strip() for jump in found]


def test_the_cost_that_rose_most_is_first_and_a_step_is_named_as_in_the_list() -> None:
    lines = told(Totals(params=130_000, activation_bytes=480_000, peak_bytes=800_000, macs=9), FIRST, SECOND)
    by = "most of it by tensors-to-maps node_permute and 1 more, at node_view"
    assert lines == [
        "peak bytes are 16.0 times as many",
        f"activation bytes are 8.0 times as many, {by}",
        f"params are 3.2 times as many, {by}",
    ]
    alone = told(Totals(params=130_000, activation_bytes=60_000, peak_bytes=50_000, macs=9), SECOND)
    assert alone == ["params are 3.2 times as many, most of it by tensors-to-maps node_view"]


def test_a_cost_that_hardly_rose_is_not_told() -> None:
    assert not told(Totals(params=70_000, activation_bytes=110_000, peak_bytes=99_000, macs=18), FIRST)
    assert _jump(Jump("params", 0, 20_000, None), {}) == "  params are new"
