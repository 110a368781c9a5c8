"""What `check` says that `fix` does, `fix` does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from npu_guard.checking import registry
from npu_guard.fixing import catalog
from npu_guard.pipeline.check import check_models
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.results.findings import Finding, Severity
from npu_guard.results.summary import mending
from npu_guard.rewriting.substitution import EXACT


def kinds(findings: tuple[Finding, ...]) -> Counter[tuple[str, tuple[str, ...], str]]:
    """Findings by rule, module and what they say; nodes have other names afterwards."""
    return Counter((f.rule, f.location.scope, f.message) for f in findings)


@pytest.mark.parametrize("device", ["aimotive-aiware", "ethos-u55-legacy"])
def test_what_fix_mends_goes_and_what_it_would_with_warnings_stays(device: str, root: Path) -> None:
    path = str(root / "samples/sample_net.onnx")
    profile, config = registry.profile(device), Config(device)
    found = check_models([path], config, remedies=True).models[0].findings
    exact = [s for s in catalog.substitutions() if s.exactness == EXACT]
    left = kinds(fix_model(path, profile, config, exact).after.findings)
    said = {words: kinds(tuple(f for f in found if mending([f]) == words)) for words in ("fixable", "fixable with --warnings")}
    assert not said["fixable"] & left
    assert said["fixable with --warnings"] <= left
    if said["fixable with --warnings"]:
        asked = kinds(fix_model(path, profile, config, exact, warnings=True).after.findings)
        assert not said["fixable with --warnings"] & asked
    assert sum(map(len, said.values())), device


TALL = """g (float[1,8,40,9] x) => (float[1,8,40,9] y) <float[8,8,19,1] r>
    { BODY  y = Conv<pads = [9,0,9,0]>(x, w) }"""
WIDE = """g (float[1,4096,20,1] x) => (float[1,256,20,1] y) <int64[4] s = {256, 4096, 19, 1}>
    { BODY  y = Conv<pads = [9,0,9,0]>(x, w) }"""
STEP = """g (float[1,2048,11,10] x) => (float[1,1024,2,2] y) <int64[4] s = {1024, 2048, 3, 3}>
    { BODY  y = Conv<strides = [8,8]>(x, w) }"""
FILLED = "s = Constant<value_ints = [8,8,19,1]>()  f = ConstantOfShape<value = float[1] {0.01}>(s)  w = Add(f, r)"


@pytest.mark.parametrize(
    ("graph", "body", "device", "mended"),
    [
        (TALL, "w = Identity(r)", "aimotive-aiware", 1),
        (TALL, FILLED, "aimotive-aiware", 1),  # 9,728 numbers, more than are counted as small
        (TALL, "w = LpNormalization<axis = 1>(r)", "aimotive-aiware", 1),  # by ONNX's own evaluator
        (WIDE, "w = ConstantOfShape(s)", "aimotive-aiware", 0),  # 19.9 million numbers
        (STEP, "w = ConstantOfShape(s)", "kneron:KL720", 1),  # the weight stays as it is, at another stride
    ],
)
def test_a_weight_that_is_not_evaluated_is_no_promise(
    write: Callable[..., Path], graph: str, body: str, device: str, mended: int
) -> None:
    path = str(write(graph.replace("BODY", body), opset=17))
    found = check_models([path], Config(device), remedies=True).models[0].findings
    exact = [s for s in catalog.substitutions() if s.exactness == EXACT]
    report = fix_model(path, registry.profile(device), Config(device), exact)
    assert [mending([f]) for f in found if f.severity is Severity.ERROR] == (["fixable"] if mended else [""])
    assert len(report.applied) == mended


def test_of_forms_that_cost_the_same_the_shorter_chain_is_named(write: Callable[..., Path]) -> None:
    """A padded Conv can be a Pad in front of one, which is padding again, which is folded: the folding alone does it."""
    path = str(write(TALL.replace("BODY", "w = Identity(r)")))
    (finding,) = check_models([path], Config("aimotive-aiware"), remedies=True).models[0].findings
    assert finding.remedy is not None
    assert finding.remedy.chain == ()


def test_small_blocks_are_judged_first(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """One wide block takes as many sketches as it has channels, and the errors behind it are promised all the same."""
    monkeypatch.setattr("npu_guard.fixing.remedies.SKETCHES", 96)
    path = write(
        """
        g (float[1,48,8,8] x) => (float[1,48,16,16] y)
        <float[1,1,3] k, float[4] s = {1,1,2,2}, int64[1] one = {1}, int64[2] map = {2,3}>
        { m = ReduceMean<axes = [2,3], keepdims = 0>(x) u = Unsqueeze(m, one) c = Conv<pads = [1,1]>(u, k)
          q = Squeeze(c, one) g = Sigmoid(q) e = Unsqueeze(g, map) z = Mul(x, e) y = Resize<mode = "cubic">(z, , s) }""",
        opset=13,
    )
    found = check_models([str(path)], Config("nvidia-dla"), remedies=True).models[0].findings
    assert [mending([f]) for f in found if f.rule == "NPU501" and f.severity is Severity.ERROR] == ["fixable"]
