"""A cut never goes through a quantized unit: tensors are handed over in integers, whoever reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from npu_guard.checking import registry
from npu_guard.partitioning.partition import Partition, partition_model
from npu_guard.pipeline.check import judged
from npu_guard.project.config import Config

PROFILE = """
name = "two-sides"
title = "Two sides"
source = "test"

[[operators]]
status = "refused"
reason = "not there"
names = ["Sigmoid"]

[partition]
min_macs = 0
"""
SHARED = """g (float[1,8,8,8] x) => (float[1,8,8,8] y)
<float s = {0.05}, float t = {0.01}, float h = {0.004}, uint8 z = {128}, uint8 o = {0},
 int8[8,8,3,3] w, int8[8,8,3,3] v, int8 n = {0}>
{
  xi = QuantizeLinear(x, s, z)  xd = DequantizeLinear(xi, s, z)  wd = DequantizeLinear(w, t, n)
  a = Conv<pads = [1,1,1,1]>(xd, wd)  ai = QuantizeLinear(a, s, z)  ad = DequantizeLinear(ai, s, z)
  b = Sigmoid(ad)  bi = QuantizeLinear(b, h, o)  bd = DequantizeLinear(bi, h, o)
  m = Mul(ad, bd)  mi = QuantizeLinear(m, s, z)  md = DequantizeLinear(mi, s, z)
  vd = DequantizeLinear(v, t, n)  c = Conv<pads = [1,1,1,1]>(md, vd)  ci = QuantizeLinear(c, s, z)  y = DequantizeLinear(ci, s, z)
}"""


def _partition(tmp_path: Path, text: str) -> Partition:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{text}')
    have = {t.name for t in model.graph.initializer}
    random = np.random.default_rng(0)
    for entry in model.graph.value_info:
        if entry.name in ("w", "v") and entry.name not in have:
            values = random.integers(-20, 20, [d.dim_value for d in entry.type.tensor_type.shape.dim]).astype(np.int8)
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, entry.name))
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "net.onnx")
    (tmp_path / "two.toml").write_text(PROFILE)
    profile = registry.profile(str(tmp_path / "two.toml"))
    _, analysis, checked = judged(str(tmp_path / "net.onnx"), profile, Config(profile=str(tmp_path / "two.toml")))
    return partition_model(analysis, checked, profile)


def test_tensors_cross_in_integers(tmp_path: Path) -> None:
    partition = _partition(tmp_path, SHARED)
    assert [p.side for p in partition.pieces] == ["npu", "host", "npu"]
    assert {c.value.name for c in partition.crossings} == {"ai", "bi"}  # `ad` is read on both sides, and made on both
    assert {n.op_type for n in partition.pieces[1].nodes} <= {"Sigmoid", "QuantizeLinear", "DequantizeLinear"}


def test_pieces_compute_what_the_model_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    from npu_guard import cli

    _partition(tmp_path, SHARED)
    with pytest.raises(SystemExit) as end:
        cli.main(["partition", str(tmp_path / "net.onnx"), "--profile", str(tmp_path / "two.toml"), "-o", str(tmp_path / "cut")])
    assert not end.value.code, capsys.readouterr()
    pieces = sorted((tmp_path / "cut").glob("*.onnx"))
    assert len(pieces) == 3
    types = {i.name: i.type.tensor_type.elem_type for path in pieces for i in onnx.load(path).graph.input}
    assert {name: onnx.TensorProto.DataType.Name(kind) for name, kind in types.items()} == {
        "x": "FLOAT",
        "ai": "UINT8",
        "bi": "UINT8",
    }
