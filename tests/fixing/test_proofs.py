"""What `fix` and `verify` do with proofs: labels everywhere, a refuted block rolled back, a missing proof no reason to."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from npu_guard.checking import registry
from npu_guard.fixing import block_check, catalog, ceiling
from npu_guard.fixing.driver import FixReport
from npu_guard.graph.graph import Value
from npu_guard.pipeline import fix_floats
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.proof import prove
from npu_guard.proof.arithmetic import Budget
from npu_guard.results.proof import PROVED, REFUTED, ROUNDING, SAMPLED
from npu_guard.rewriting.substitution import Builder, Match, Substitution

if TYPE_CHECKING:
    from conftest import Cli, Write

KNOWN = {s.name: s for s in catalog.substitutions()}
PHASES: Any = type(KNOWN["large-kernel-to-phases"])
LARGE = """g (float[1,8,24,24] x) => (float[1,8,24,24] y)
<float[8,8,19,3] w> { a = Conv<pads = [9,1,9,1]>(x, w)  y = Relu(a) }"""
OPEN = LARGE.replace("[1,8,24,24]", '["N",8,24,24]')


def fix(path: Path, *substitutions: Substitution, **options: Any) -> FixReport:
    return fix_model(str(path), registry.profile("aimotive-aiware"), Config(), substitutions, **options)


class Nudged(PHASES):
    """All that is right, times a number next to 1."""

    factor = 1.0

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        (value, name), *_ = super().rewrite(match, build).items()
        return {value: build.op("Mul", name, build.constant(np.asarray(self.factor, np.float32)))}


def nudged(factor: float) -> Nudged:
    made = Nudged()
    made.factor = factor
    return made


def test_labels_are_told_everywhere(cli: Cli, write: Write, tmp_path: Path) -> None:
    write(LARGE)
    text = cli("fix", "net.onnx", "-o", "out.onnx", "--plan", "plan.toml").out
    assert "nodes, proved; equal" in text
    assert "  proved: each replaced block is" in text
    assert "# proved: identity at a random point" in (tmp_path / "plan.toml").read_text()
    (model,) = json.loads(cli("fix", "net.onnx", "-o", "out.onnx", "--format", "json").out)["models"]
    assert [a["verification"]["proof"]["label"] for a in model["applied"]] == [PROVED]
    assert model["verification"]["proof"]["label"] == PROVED
    assert 0 < model["verification"]["proof"]["bound"] < 1e-6
    verified = json.loads(cli("verify", "net.onnx", "out.onnx", "--format", "json").out)
    assert verified["proof"]["label"] == PROVED
    assert verified["proof"]["way"] == "identity at a random point"


def test_proved_block_is_run_with_one_input_of_each_batch(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[tuple[int, ...]]] = []
    run = block_check.run_document

    def spy(runtime: Any, document: Any, feeds: Any, *rest: Any) -> Any:
        seen.append([np.shape(next(iter(feed.values()))) for feed in feeds])
        return run(runtime, document, feeds, *rest)

    monkeypatch.setattr(block_check, "run_document", spy)
    assert fix(write(OPEN), PHASES()).verification.verdict == "equal"
    assert seen == [[(1, 8, 24, 24), (2, 8, 24, 24)]]
    seen.clear()
    monkeypatch.setattr("npu_guard.proof.prove.MACS", 1000)
    assert fix(write(OPEN), PHASES()).verification.verdict == "equal"
    assert [len(feeds) for feeds in seen] == [4]


@pytest.mark.parametrize(("granted", "count"), [(prove.MACS, 5), (1000, 10)])
def test_whole_of_proved_blocks_is_run_with_one_input_of_a_kind(
    write: Write, monkeypatch: pytest.MonkeyPatch, granted: int, count: int
) -> None:
    """What is proved is run for rounding and overflow alone: once on each kind that shows these, the zero input among them."""
    monkeypatch.setattr("npu_guard.proof.prove.MACS", granted)
    told = fix(write(LARGE), PHASES()).verification.inputs
    assert told.startswith(f"{count} drawn inputs")
    assert all(kind in told for kind in ("normal", "edge", "negative", "large", "zero"))
    assert ("image" in told) == (count == 10)


def test_dear_blocks_are_run_once_and_the_whole_with_each_kind_once(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes many times what it did before is run less often, proved or not; no kind of input is left out for it."""
    monkeypatch.setattr("npu_guard.proof.prove.MACS", 1000)
    monkeypatch.setattr(ceiling, "DEAR", 0)
    monkeypatch.setattr(ceiling, "LARGE", 0)
    seen: list[int] = []
    run = block_check.run_document

    def spy(runtime: Any, document: Any, feeds: Any, *rest: Any) -> Any:
        seen.append(len(feeds))
        return run(runtime, document, feeds, *rest)

    monkeypatch.setattr(block_check, "run_document", spy)
    done = fix(write(LARGE), PHASES())
    assert (seen, done.verification.verdict) == ([1], "equal")
    kinds = "normal, image, edge, negative, large, zero, constant, sparse"
    assert done.verification.inputs == f"8 drawn inputs ({kinds})"


def test_dear_is_what_takes_many_times_the_bytes_or_the_macs() -> None:
    old, much = ceiling.Cost(macs=100, bytes=100), ceiling.LARGE
    tried = ((500, 500), (501, 1), (much, much), (much + 1, 1), (1, much + 1))
    assert [ceiling.is_dear(old, ceiling.Cost(*new)) for new in tried] == [False, False, False, True, True]
    assert not ceiling.is_dear(ceiling.Cost(much, much), ceiling.Cost(5 * much, 5 * much))


def test_whole_of_proved_blocks_with_another_batch_is_run_with_that_too(write: Write) -> None:
    assert fix(write(OPEN), PHASES()).verification.inputs.endswith("zero), a batch of 2")


def test_labels_of_fewer_inputs_name_the_right_ones(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports name the input on which an error is largest."""
    seen: list[tuple[str, float]] = []
    compare = fix_floats.compare_documents

    def spy(*state: Any, **how: Any) -> Any:
        seen.extend(zip(how["labels"], [float(np.abs(next(iter(f.values()))).max()) for f in state[3]], strict=True))
        return compare(*state, **how)

    monkeypatch.setattr(fix_floats, "compare_documents", spy)
    fix(write(LARGE), PHASES())
    sizes = dict(seen)
    assert sizes["zero of seed 2"] == 0
    assert sizes["large of seed 1"] == max(sizes.values())


def test_missing_proof_rolls_nothing_back(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npu_guard.proof.prove.MACS", 1000)
    done = fix(write(LARGE), PHASES())
    (step,) = done.applied
    assert step.verification.verdict == "equal"
    assert step.verification.proof is not None
    assert step.verification.proof.label == SAMPLED
    assert "more multiplications than are granted" in step.verification.proof.reason
    assert done.verification.proof is not None
    assert done.verification.proof.reason == "1 of 1 replaced blocks is not proved"


@pytest.mark.parametrize("granted", [1000, prove.MACS])
def test_reports_say_proved_of_what_is_alone(
    cli: Cli, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, granted: int
) -> None:
    """No page, plan or line has the word without "not" before it, where a label is `sampled`; with a proof, each has it."""
    monkeypatch.setattr("npu_guard.proof.prove.MACS", granted)
    write(LARGE)
    done = cli(
        "fix", "net.onnx", "-o", "out.onnx", "--plan", "plan.toml", "--report", "html:fix.html", "--report", "json:fix.json"
    )
    assert done.code == 0
    told = [
        done.out,
        done.err,
        *((tmp_path / name).read_text(encoding="utf-8") for name in ("plan.toml", "fix.json", "fix.html")),
    ]
    for text in told:
        words = re.sub(r"<(style|script)\b.*?</\1>", "", text, flags=re.DOTALL)
        claims = [m[0] for m in re.finditer(r"(\w+\W+)?\b(proved|proven|proves)\b", words) if not (m[1] or "").startswith("not")]
        assert bool(claims) == (granted > 1000 and text != done.err), claims


def test_refuted_block_is_rolled_back_where_running_it_would_not_tell(write: Write) -> None:
    """Four in a hundred thousand are beyond rounding of constants, and within what running may differ by."""
    done = fix(write(LARGE), nudged(1 + 4e-5))
    assert not done.applied
    assert "rolled back: 'a' differs by" in done.refused[0].reason


def test_number_next_to_one_is_listed(write: Write) -> None:
    (step,) = fix(write(LARGE), nudged(float(np.nextafter(np.float32(1), np.float32(2))))).applied
    assert step.verification.proof is not None
    assert step.verification.proof.label == ROUNDING
    assert step.verification.proof.constants == ("1.00000012 for 1 (1 ulp)",)


def test_require_is_met_or_nothing_is_written(cli: Cli, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(LARGE)
    assert cli("fix", "net.onnx", "-o", "out.onnx", "--require", "proved").code == 0
    assert cli("verify", "net.onnx", "out.onnx", "--require", "proved").code == 0
    (tmp_path / "out.onnx").unlink()
    next_to_one = nudged(float(np.nextafter(np.float32(1), np.float32(2))))
    monkeypatch.setattr(catalog, "substitutions", lambda: (next_to_one,))
    done = cli("fix", "net.onnx", "-o", "out.onnx", "--require", "proved")
    assert done.code == 5
    assert "large-kernel-to-phases at 'a' is not proved but proved up to rounding (constants are rounded)" in done.err
    assert not (tmp_path / "out.onnx").exists()
    assert cli("fix", "net.onnx", "-o", "out.onnx", "--require", "proved-up-to-rounding").code == 0
    assert cli("verify", "net.onnx", "out.onnx", "--require", "proved-up-to-rounding").code == 0
    done = cli("verify", "net.onnx", "out.onnx", "--require", "proved")
    assert (done.code, "the whole model is not proved but proved up to rounding" in done.err) == (5, True)


def test_verify_refutes_what_runs_alike(cli: Cli, write: Write, tmp_path: Path) -> None:
    model = onnx.load(write(LARGE.replace("y = Relu(a)", "y = Neg(a)")))
    weight = model.graph.initializer[0]
    values = numpy_helper.to_array(weight).copy()
    values *= np.float32(1 + 4e-5)
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, tmp_path / "other.onnx")
    found = json.loads(cli("verify", "net.onnx", "other.onnx", "--format", "json").out)
    assert found["verdict"] == "differs"
    if found["proof"] is not None:
        assert found["proof"]["label"] == REFUTED
        assert "where rounding explains" in found["reason"]


ATTENTION = """g (float[1,16,8] x) => (float[1,16,12] y)
<float[8,12] w> { a = MatMul(x, w)  t = Transpose<perm = [0,2,1]>(a)  s = MatMul(a, t)  p = Softmax(s)  y = MatMul(p, a) }"""
PRODUCTS = 16 * 8 * 12 + 2 * 16 * 16 * 12
"""MACs of the three matrix products."""


@pytest.mark.parametrize("granted", [PRODUCTS - 1, PRODUCTS, PRODUCTS * 100])
def test_proof_that_cannot_end_does_not_begin(write: Write, monkeypatch: pytest.MonkeyPatch, granted: int) -> None:
    begun: list[int] = []
    real = prove.prove

    def watched(before: Any, after: Any, budget: Budget, *rest: Any) -> Any:
        found = real(before, after, budget, *rest)
        begun.append(granted - budget.left)
        return found

    monkeypatch.setattr(prove, "prove", watched)
    monkeypatch.setattr(prove, "MACS", granted)
    (step,) = fix(write(ATTENTION), KNOWN["tensors-to-maps"]).applied
    assert step.verification.proof is not None
    assert bool(begun) == (granted >= PRODUCTS)
    assert all(spent > PRODUCTS for spent in begun)  # so what is known beforehand is never too much
    assert step.verification.proof.label == (PROVED if granted > PRODUCTS else SAMPLED)
    assert granted > PRODUCTS or "more multiplications than are granted" in step.verification.proof.reason
