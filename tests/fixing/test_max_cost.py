"""The limit on cost that a user sets: what is refused, what is still mended, and that the whole model keeps to it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import npu_guard
from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.base.errors import UsageError
from npu_guard.checking import registry
from npu_guard.file import load
from npu_guard.fixing import catalog
from npu_guard.fixing.ceiling import OPEN, Ceiling, Cost, cost_of
from npu_guard.fixing.driver import FixReport
from npu_guard.fixing.judge import Judge
from npu_guard.fixing.outcome import remaining
from npu_guard.gate.stamp import stamp
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.rewriting.substitution import EXACT

if TYPE_CHECKING:
    from conftest import Cli, Write

EXACT_FORMS = [s for s in catalog.substitutions() if s.exactness == EXACT]
WEIGHTS = """<float[8,16,1,1] wq, float[8,16,1,1] wk, float[16,16,1,1] wv,
    int64[3] low = {1,8,24}, int64[3] flat = {1,16,24}, int64[4] back = {1,16,4,6}>"""
ECA = """g (float[1,16,8,8] x) => (float[1,16,8,8] y)
<float[16,16,3,3] w, float[1,1,1,5] e, int64[4] row = {1,1,1,16}, int64[4] map = {1,16,1,1}> {
    h = Conv<pads = [1,1,1,1]>(x, w)  p = GlobalAveragePool(h)  r = Reshape(p, row)  c = Conv<pads = [0,2,0,2]>(r, e)
    s = Sigmoid(c)  m = Reshape(s, map)  y = Mul(h, m) }"""
QUANTIZED = """g (float[1,8,24,24] x) => (float[1,8,24,24] y)
<float[8,8,19,3] w, float s = {0.05}, float t = {0.01}, int8 zero = {0}> {
    xq = QuantizeLinear(x, s, zero)  xd = DequantizeLinear(xq, s, zero)
    wq = QuantizeLinear(w, t, zero)  wd = DequantizeLinear(wq, t, zero)
    a = Conv<pads = [9,1,9,1]>(xd, wd)  r = Relu(a)  aq = QuantizeLinear(r, s, zero)  y = DequantizeLinear(aq, s, zero) }"""


def attention(x: str, y: str) -> str:
    """Self-attention over the 24 positions of a map of 16 channels, with 8 for the scores."""
    return f"""
    {y}_q = Conv({x}, wq)  {y}_r = Reshape({y}_q, low)  {y}_t = Transpose<perm = [0,2,1]>({y}_r)
    {y}_k = Conv({x}, wk)  {y}_l = Reshape({y}_k, low)  {y}_v = Conv({x}, wv)  {y}_w = Reshape({y}_v, flat)
    {y}_s = MatMul({y}_t, {y}_l)  {y}_a = Softmax<axis = -1>({y}_s)  {y}_b = Transpose<perm = [0,2,1]>({y}_a)
    {y}_m = MatMul({y}_w, {y}_b)  {y}_o = Reshape({y}_m, back)  {y} = Add({y}_o, {x})"""


def blocks(count: int) -> str:
    """So many of them in a row."""
    names = ["x", *(f"h{i}" for i in range(1, count)), "y"]
    nodes = "".join(itertools.starmap(attention, itertools.pairwise(names)))
    return f"g (float[1,16,4,6] x) => (float[1,16,4,6] y) {WEIGHTS} {{ {nodes} }}"


def fix(path: Path, limit: float, **options: Any) -> FixReport:
    return fix_model(str(path), registry.profile("aimotive-aiware"), Config(max_cost=limit), EXACT_FORMS, seeds=(0,), **options)


def errors(report: FixReport) -> tuple[int, int]:
    first, second = ([f for f in m.findings if f.severity.value == "error"] for m in (report.before, report.after))
    return len(first), len(second)


def times(report: FixReport) -> float:
    """By how much the costs of the report have risen, the larger of both."""
    old, new = report.before.totals, report.after.totals
    return max(new.macs / old.macs, new.activation_bytes / old.activation_bytes)


def test_attention_keeps_its_findings_with_the_reason_or_is_mended(write: Write) -> None:
    path = write(blocks(1))
    kept = fix(path, 1.5)
    assert not kept.applied
    assert errors(kept) == (8, 8)
    form = "tensors-to-maps: the model would write 6.8 times the activation bytes, more than the 1.5 of --max-cost"
    assert {left.reason for left in remaining(kept.after, kept.refused)} == {form}
    mended = fix(path, 100)
    assert errors(mended) == (8, 0)
    assert times(mended) == pytest.approx(172_032 / 18_432)  # 9.33, which the reason rounds


def test_at_its_own_cost_a_form_is_taken_and_below_it_the_next_one(write: Write) -> None:
    path = write(blocks(1))
    cost = times(fix(path, 100))
    assert fix(path, cost).applied[0].substitution == "self-attention-to-position-maps"
    below = fix(path, cost - 1e-4)
    assert errors(below) == (8, 0)
    assert {a.substitution for a in below.applied} == {"tensors-to-maps"}
    least = times(below)
    assert least < cost
    assert errors(fix(path, least)) == (8, 0)
    assert errors(fix(path, least - 1e-4)) == (8, 8)


@pytest.mark.parametrize("limit", [2.0, 4.0, 5.0, 8.0])
def test_blocks_share_what_may_be_spent(write: Write, limit: float) -> None:
    report = fix(write(blocks(2)), limit)
    left = {2.0: 16, 4.0: 8, 5.0: 8, 8.0: 0}  # a block alone is 3.9 times the model in its cheaper form, both are 6.8
    assert times(report) <= limit
    assert errors(report) == (16, left[limit])
    assert report.verification.verdict == ("equal" if report.applied else "not_run")
    assert all("--max-cost" in place.reason for place in remaining(report.after, report.refused))
    assert not any("rolled back" in r.reason for r in report.refused)


def test_what_is_cheap_is_mended_under_a_low_limit(write: Write) -> None:
    report = fix(write(ECA), 1.1)
    assert errors(report) == (2, 0)
    assert [a.substitution for a in report.applied] == ["eca-to-se"]
    assert 1 < times(report) < 1.1
    same = fix(write(ECA), 1.0)
    assert errors(same) == (2, 2)
    assert any(r.reason.startswith("the model would make 1.001 times the MACs, more than the 1 of") for r in same.refused)


def test_a_cheaper_form_takes_the_place_of_one_that_is_refused(write: Write) -> None:
    path = write("""g (float[1,32,4,6] x) => (float[1,32,4,6] y)
        <float[1,1,1,5] e, int64[4] row = {1,1,1,32}, int64[4] map = {1,32,1,1}> {
        p = GlobalAveragePool(x)  r = Reshape(p, row)  c = Conv<pads = [0,2,0,2]>(r, e)
        s = Sigmoid(c)  m = Reshape(s, map)  y = Mul(x, m) }""")
    free, held = (fix(path, limit) for limit in (float("inf"), 1.5))
    assert errors(free) == errors(held) == (2, 0)
    assert times(free) > 1.5 >= times(held)
    assert [a.substitution for a in free.applied] == ["eca-to-se"]
    assert "eca-to-se" not in [a.substitution for a in held.applied]


def test_forms_that_follow_count_before_anything_is_written(write: Write) -> None:
    path = write("""g (float[1,8,19,2] x) => (float[1,8] y) <float[304,8] w> { v = Flatten(x)  y = Gemm(v, w) }""")
    free = fix(path, 100)
    (step,) = free.applied
    assert step.chain == ("large-kernel-to-phases",)
    assert fix(path, times(free)).applied
    below = fix(path, times(free) - 1e-3)
    assert below.applied == ()
    (reason,) = {r.reason for r in below.refused if r.substitution == "flattened-head-to-conv"}
    assert reason.startswith("the model would make 1.11 times the MACs, more than the 1.10")


def test_where_an_estimate_is_too_low_the_whole_model_tells(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Judge, "over", lambda judge, rise: "")
    report = fix(write(blocks(2)), 5.0)
    assert errors(report)[1] == 8
    assert 1 < times(report) <= 5
    told = "rolled back: the model would write 5.2 times the activation bytes, more than the 5 of --max-cost"
    assert told in {r.reason for r in report.refused if r.substitution == "self-attention-to-position-maps"}


def test_integers_keep_to_it_as_they_are_written(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(QUANTIZED)
    assert errors(fix(path, 100)) == (1, 0)
    assert errors(fix(path, 1.2)) == (1, 1)
    over = Ceiling.over

    def of_integers(analysis: Analysis, factor: float) -> Ceiling | None:
        written = any(n.op_type == "QuantizeLinear" for v in analysis.model.graph.inputs for n in v.consumers)
        return over(analysis, factor if written else float("inf"))

    monkeypatch.setattr(Ceiling, "over", staticmethod(of_integers))  # real numbers may cost what they like
    held = fix(path, 1.2)
    assert errors(held) == (1, 1)
    assert times(held) <= 1.2
    assert any(r.reason.startswith("in integers, the model would write 1.4 times the activation bytes") for r in held.refused)


def test_a_plan_keeps_to_it_too(cli: Cli, write: Write) -> None:
    write(blocks(2))
    cli("fix", "net.onnx", "--plan", "plan.toml")
    for limit, applied in (("6", 1), ("10", 2)):
        done = cli("fix", "net.onnx", "-o", "out.onnx", "--apply", "plan.toml", "--max-cost", limit, "--format", "json")
        (model,) = json.loads(done.out)["models"]
        assert len(model["applied"]) == applied
        reasons = [r["reason"] for r in model["refused"]]
        assert len(reasons) == 2 - applied
        assert all(r.startswith("the model would write") and r.endswith("more than the 6 of --max-cost") for r in reasons)


def test_check_names_no_remedy_that_costs_too_much(write: Write, cli: Cli, tmp_path: Path) -> None:
    write(blocks(1))

    def mended_exactly(limit: float) -> int:
        (tmp_path / "npu-guard.toml").write_text(f"max-cost = {limit}\n")
        (model,) = json.loads(cli("check", "net.onnx", "--format", "json").out)["models"]
        return sum(f["severity"] == "error" and f["remedy"].get("exactness") == EXACT for f in model["findings"])

    assert [mended_exactly(limit) for limit in (1.5, 6.7, 6.9, 10)] == [0, 0, 8, 8]
    assert stamp(Config(max_cost=9)) != stamp(Config(max_cost=10))


def test_flag_variable_and_setting(write: Write, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(blocks(1))

    def code(*options: str) -> int:
        return int(cli("fix", "net.onnx", "--dry-run", *options).code)

    assert code() == 0
    (tmp_path / "npu-guard.toml").write_text("max-cost = 1.5\n")
    assert code() == 1
    monkeypatch.setenv("NPU_GUARD_MAX_COST", "10")
    assert code() == 0
    assert code("--max-cost", "2") == 1
    monkeypatch.setenv("NPU_GUARD_MAX_COST", "2")
    assert code("--max-cost", "inf") == 0


@pytest.mark.parametrize("value", ["0.99", "-3", "nan"])
def test_no_limit_below_the_original(cli: Cli, write: Write, tmp_path: Path, value: str) -> None:
    path = write(ECA)
    done = cli("fix", "net.onnx", "-o", "out.onnx", "--max-cost", value)
    said = f"{value}; it must be a number from 1 on, such as 1.5, or inf for no limit"
    assert (done.code, done.out, done.err) == (2, "", f"npu-guard: --max-cost is {said}\n")
    (tmp_path / "npu-guard.toml").write_text(f"max-cost = {value}\n")
    assert cli("fix", "net.onnx", "-o", "out.onnx").err == f"npu-guard: npu-guard.toml: max-cost is {said}\n"
    with pytest.raises(UsageError, match="max_cost is"):
        npu_guard.fix(path, max_cost=float(value))


def test_python(write: Write) -> None:
    path = write(blocks(1))
    assert not npu_guard.fix(path, max_cost=2).applied
    assert npu_guard.fix(path, max_cost=10).applied


@pytest.mark.parametrize(
    ("factor", "original", "cost", "reason"),
    [
        (2.0, Cost(100, 100), Cost(200, 200), ""),
        (2.0, Cost(100, 100), Cost(201, 200), "the model would make 2.01 times the MACs, more than the 2 of --max-cost"),
        (4.0, Cost(9, 10), Cost(45, 250), "the model would write 25.0 times the activation bytes, more than the 4 of --max-cost"),
        (4.0, Cost(0, 10), Cost(1024, 10), "the model would make 1,024 MACs where it has none, more than --max-cost 4 allows"),
        (4.0, Cost(0, 10, 1), Cost(0, 5, 1), ""),
        (4.0, Cost(0, 10, 1), Cost(0, 5, 2), OPEN),
    ],
)  # fmt: skip
def test_the_reason_has_both_figures(factor: float, original: Cost, cost: Cost, reason: str) -> None:
    assert Ceiling(factor, original).reason(cost) == reason


def test_what_is_open_has_no_cost_that_is_known(write: Write) -> None:
    path = write("""g (float[1,8,24,24] x, float[24] n) => (float[1,8,H,24] y) <float[8,8,3,3] w> {
        t = Cast<to = 9>(n)  s = Compress<axis = 2>(x, t)  a = Conv<pads = [1,1,1,1]>(s, w)  y = Relu(a) }""")
    analysis = analyze(load.load(str(path)))
    assert cost_of(analysis).open == 4  # MACs of the convolution, and bytes of all but the Cast
    cast, *rest = analysis.model.graph.nodes
    assert cost_of(analysis, [cast]) == Cost(0, 24, 0)
    rise = cost_of(analysis, [cast]).rise_to(cost_of(analysis, rest))
    assert rise.open == 4
    assert cost_of(analysis, rest).rise_to(Cost(5)).open == 4
