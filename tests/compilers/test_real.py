"""The real compilers, where NPU_GUARD_COMPILERS names their interpreters: `vela=/path/python,qnn=/path/python`."""

from __future__ import annotations

import os
from pathlib import Path

import onnx.parser
import pytest

from npu_guard.compilers.adapter import ask, choose

PYTHONS = dict(entry.split("=", 1) for entry in os.environ.get("NPU_GUARD_COMPILERS", "").split(",") if entry)
TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,8,16,16] x) => (float[1,8,16,16] y) { a = Relu(x) b = Sin(a) y = Erf(b) }"""


@pytest.mark.parametrize(
    ("name", "profile", "words"),
    [
        ("qnn", "qualcomm-htp", "npu npu host"),
        ("rknn", "rockchip-rk3588", "npu host host"),
        ("vela", "ethos-u55", "npu host not_run"),
    ],
)
def test_a_network_of_three(name: str, profile: str, words: str, tmp_path: Path) -> None:
    if name not in PYTHONS:
        pytest.skip(f"NPU_GUARD_COMPILERS names no interpreter for {name}")
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx.parser.parse_model(TEXT).SerializeToString())
    chosen, settings = choose(name, profile, {}, PYTHONS[name])
    answer = ask(chosen, settings, str(path), profile)
    assert (answer.status, [n.word for n in answer.nodes]) == ("refused", words.split())
