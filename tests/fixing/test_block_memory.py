"""What the new nodes of a block may take of memory: what they need themselves, by the reckoning that the model is held to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from npu_guard.base.limits import Limits
from npu_guard.checking.examples import profile_for
from npu_guard.checking.rule import Case
from npu_guard.fixing import block_check, catalog
from npu_guard.fixing.driver import FixReport
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.verification import run_limits
from npu_guard.verification.runtime import LacksMemory

if TYPE_CHECKING:
    from conftest import Write

# 7 x 5 positions: 35 score maps, and products of activations that are larger than any map of the model.
ATTENTION = """g (float[1,16,7,5] x) => (float[1,16,7,5] y)
    <int64[3] flat = {1, 16, 35}, int64[4] back = {1, 16, 7, 5}, float[16,16,3,3] w> {
    c = Conv<pads = [1,1,1,1]>(x, w)  k = Reshape(c, flat)  q = Transpose<perm = [0,2,1]>(k)  s = MatMul(q, k)
    p = Softmax<axis = -1>(s)  pt = Transpose<perm = [0,2,1]>(p)  m = MatMul(k, pt)  y = Reshape(m, back) }"""


def fixed(path: Path, monkeypatch: pytest.MonkeyPatch, given: int | None = None) -> tuple[FixReport, list[int]]:
    """A fix where ONNX Runtime takes for new nodes what the reckoning has for them, and the bytes that it was granted."""
    asked: list[int] = []
    real = block_check.run_document

    def run(runtime: Any, document: Any, *rest: Any) -> Any:
        asked.append(runtime.limits.memory)
        if runtime.limits.memory < needs:
            raise LacksMemory("ONNX Runtime needs more")
        return real(runtime, document, *rest)

    monkeypatch.setattr(block_check, "run_document", run)
    monkeypatch.setattr(run_limits, "_CLAIMED", 1 << 20)
    needs = 0
    limits = {"layout.rearrange": False, "matmul.spatial": False}
    profile = profile_for(Case("", limits=limits))
    forms = [s for s in catalog.substitutions() if s.name == "self-attention-to-position-maps"]
    assert fix_model(str(path), profile, Config(), forms).applied
    needs, asked[:] = asked[0] + 1, []
    return fix_model(str(path), profile, Config(limits=Limits(run_bytes=given)), forms), asked


def test_a_block_gets_what_it_needs_itself(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    report, granted = fixed(write(ATTENTION), monkeypatch)
    assert report.applied
    assert report.verification.verdict == "equal"
    assert granted[0] < granted[1], "the first try is with what the model needs"


def test_what_the_user_grants_is_all_there_is(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    report, granted = fixed(write(ATTENTION), monkeypatch, 1 << 27)
    assert not report.applied
    assert set(granted) == {1 << 27}
    assert [r.reason for r in report.refused] == ["rolled back: ONNX Runtime needs more"]
