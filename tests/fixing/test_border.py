"""What a form writes in the middle of a network is judged as what stands in the middle of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from npu_guard.checking import registry
from npu_guard.fixing import catalog
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.results.findings import Severity

DEVICE = "rockchip-rk3588"
GRAPH = """g (float[1,4,9,62] x) => (y) <int64[1] rows = {2}, float[16,4,3] w>
    { c = Sigmoid(x)  REST }"""


@pytest.mark.parametrize(("rest", "left"), [("m = MAX  y = Conv<pads = [1,1]>(m, w)", 0), ("y = MAX", 1)])
def test_a_row_is_squeezed_before_a_convolution_and_not_at_the_end(write: Callable[..., Path], rest: str, left: int) -> None:
    path = str(write(GRAPH.replace("REST", rest).replace("MAX", "ReduceMax<keepdims = 0>(c, rows)"), opset=18))
    result = fix_model(
        path, registry.profile(DEVICE), Config(DEVICE), [s for s in catalog.substitutions() if s.name == "reduction-to-pool"]
    )
    errors = [f for f in result.after.findings if f.severity is Severity.ERROR]
    assert [f.location.op_type for f in errors] == ["ReduceMax"] * left
    told = [r.reason for r in result.refused]
    assert [("NPU405 at Squeeze" in why, "62 is not a multiple of 8" in why) for why in told] == [(True, True)] * left
