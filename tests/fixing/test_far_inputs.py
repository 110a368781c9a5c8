"""`fix` of quantized networks on inputs that are unlike the usual ones: a variance of 0, and all at the ends of the range."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from npu_guard.checking import registry
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.rewriting.substitution import EXACT
from npu_guard.verification.drawing import Spec
from npu_guard.verification.steps import FAR, compare_in_steps, far_feeds

onnxruntime = pytest.importorskip("onnxruntime")
random = np.random.default_rng(7)
STEP = 0.03
FACTS = {"uint8": (1, 128, 120), "int8": (1, 0, 0), "int16": (256, 0, 0)}
"""By the type of activations: parts of a step, and zero points of input and result."""


def group_normalization(dtype: str) -> str:
    """A convolution, whose bias alone is left of a zero input, and a normalization in two groups."""
    parts, zero, last = FACTS[dtype]
    domain = "com.microsoft." if dtype == "int16" else ""
    q, d = f"{domain}QuantizeLinear", f"{domain}DequantizeLinear"
    weight = ", ".join(map(str, np.random.default_rng(1).integers(-90, 90, 4 * 3 * 9).tolist()))
    return f"""g (float[1,3,6,6] x) => (float[1,4,6,6] y) <float s = {{{STEP / parts}}}, {dtype} z = {{{zero}}},
        float sc = {{{0.05 / parts}}}, float so = {{{STEP / parts}}}, {dtype} zo = {{{last}}}, float sw = {{0.005}},
        int8 n = {{0}}, int8[4,3,3,3] w = {{{weight}}}, float[4] b = {{0.1, -0.05, 0.0, 0.2}}, int64[3] two = {{1,2,72}},
        int64[4] four = {{1,4,6,6}}, float[2] one = {{1.0, 1.0}}, float[2] none = {{0.0, 0.0}}> {{
        xq = {q}(x, s, z)  xd = {d}(xq, s, z)  wd = DequantizeLinear(w, sw, n)
        c = Conv<pads = [1,1,1,1]>(xd, wd, b)  cq = {q}(c, sc, z)  cd = {d}(cq, sc, z)
        r = Reshape(cd, two)  rq = {q}(r, sc, z)  rd = {d}(rq, sc, z)
        [norm] m = InstanceNormalization(rd, one, none)  mq = {q}(m, so, zo)  md = {d}(mq, so, zo)
        o = Reshape(md, four)  oq = {q}(o, so, zo)  y = {d}(oq, so, zo) }}"""


def run(path: str, x: np.ndarray[Any, Any]) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


SHAPE = (1, 3, 6, 6)
INPUTS = {
    "usual": random.standard_normal(SHAPE),
    "zero": np.zeros(SHAPE),
    "constant": np.full(SHAPE, 0.75),
    "small": np.full(SHAPE, STEP),
    "large": random.choice([-100.0, 100.0], SHAPE),
    "negative": -3 * np.abs(random.standard_normal(SHAPE)),
}


@pytest.mark.parametrize("dtype", FACTS)
def test_a_normalization_in_integers_holds_on_a_zero_input(dtype: str, save: Callable[..., Path], tmp_path: Path) -> None:
    text = group_normalization(dtype)
    path = str(save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 13, "com.microsoft" : 1]>\n{text}')))
    forms = [s for s in catalog.substitutions() if s.exactness == EXACT]
    report = fix_model(path, registry.profile("ethos-u85"), Config(profile="ethos-u85"), forms, seeds=(0,))
    assert {f.rule for f in report.before.findings} >= {"NPU101"}
    assert not report.after.findings
    assert "zero, constant" in report.verification.inputs
    save_document(report.document, tmp_path / "made.onnx")
    for name, x in INPUTS.items():
        own, made = (run(p, x.astype(np.float32)) for p in (path, str(tmp_path / "made.onnx")))
        moved = np.abs(own - made).max() / STEP
        assert moved <= 4.01, name


def test_an_input_among_many_is_judged_by_itself() -> None:
    numbers = [np.round(random.standard_normal(500) / 0.1) * 0.1 for _ in range(20)]
    real = [{"y": x + random.uniform(-0.05, 0.05, 500)} for x in numbers]
    before = [{"y": x} for x in numbers]

    def verdict(at: int, moved: float, apart: tuple[str, ...]) -> tuple[str, str]:
        after = [{"y": x + moved * (i == at)} for i, x in enumerate(numbers)]
        found = compare_in_steps(["y"], before, after, (real, real), {"y": (0.1, 0)}, 2.0, "", apart=apart)
        return found.verdict, found.outputs[0].note

    assert verdict(19, 0.3, ())[0] == "close", "among so many it drowns"
    told, note = verdict(19, 0.3, ("zero",))
    assert told == "differs"
    assert note.startswith("on the zero input it moves by 3 steps")
    assert verdict(19, 0.2, ("zero",))[0] == "close"
    assert verdict(19, 0.1, ("zero",))[0] == "equal"
    assert verdict(0, 3.0, ("zero",))[0] == "differs"


def test_classes_at_a_tie_may_all_be_others() -> None:
    usual, other = [np.arange(500)] * 8, np.ones(500, np.int64)
    before = [{"y": x} for x in (*usual, 0 * other)]
    tie = [{"y": x} for x in (*usual, other)]
    for real, expected in ((tie, "close"), (before, "differs")):
        assert compare_in_steps(["y"], before, tie, (real, real), {}, 1.0, "", apart=("zero",)).verdict == expected


def test_each_kind_is_in_the_range_of_the_integers() -> None:
    wanted = [Spec("x", np.dtype(np.float32), (1, 3, 8, 8)), Spec("q", np.dtype(np.uint8), (1, 3, 8, 8), free=True)]
    feeds = dict(zip(FAR, far_feeds(wanted, {"x": (-3.0, 0.0, 5.0), "q": (0.0, 100.0, 255.0)}), strict=True))
    assert all(feed["x"].min() >= -3 and feed["x"].max() <= 5 for feed in feeds.values())
    assert not feeds["zero"]["x"].any()
    assert (feeds["zero"]["q"] == 100).all(), "the zero point"
    assert set(np.unique(feeds["large"]["x"])) == {-3.0, 5.0}
    assert set(np.unique(feeds["large"]["q"])) == {0, 255}
    assert len(np.unique(feeds["constant"]["x"])) == 1
