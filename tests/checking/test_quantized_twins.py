"""A network that onnxruntime has quantized has the findings of its float twin, but for those about quantization."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from npu_guard.zoo.samples import export_system

pytest.importorskip("onnxruntime.quantization")
sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

from quantized_findings import DEVICES, WAYS, Way, differences, findings, quantized


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way)))
@pytest.mark.parametrize("name", ["axial-conv-19", "eca-conv1d", "self-attention"])
def test_findings_are_those_of_the_float_twin(name: str, way: Way, tmp_path: Path) -> None:
    file, made = tmp_path / "net.onnx", tmp_path / "int8.onnx"
    export_system(name, file, "tiny", "legacy")
    quantized(file, way, made)
    known = 0
    for device in DEVICES:
        plain = findings(file, device)
        known += sum(plain.values())
        assert differences(file, made, plain, device) == [], device
    assert known
