"""`--simplify`: models as onnxsim leaves them, in a process whose death is a result."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import npu_guard
from npu_guard.base.errors import UsageError
from npu_guard.pipeline import simplifier

pytest.importorskip("onnxsim")

NET = """<ir_version: 8, opset_import: ["" : 17], producer_name: "mine">
g (float[1,8,8,8] x) => (float[1,8,8,8] y) <float[8,8,3,3] w, int64[8] p = {0,0,1,1,0,0,1,1}> {
    [pad] a = Pad(x, p)  [conv] c = Conv(a, w)  [act] y = Relu(c) }"""
DEVICE = """name = "strict"
title = "Strict"
source = "a test"
[toolchain]
name = "strictc"
simplifies = true
[[operators]]
status = "supported"
names = ["Conv", "Relu"]
[[operators]]
status = "refused"
names = ["Pad"]
[[limit]]
ops = ["Conv"]
metric = "pads"
max = 0
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """In the current folder: a model whose padding onnxsim puts into the convolution, with its weights beside it."""
    monkeypatch.chdir(tmp_path)
    model = onnx.parser.parse_model(NET)
    weight = np.random.default_rng(0).normal(size=(8, 8, 3, 3)).astype(np.float32)
    Path("weights").write_bytes(weight.tobytes())
    tensor = onnx.TensorProto(name="w", data_type=1, dims=weight.shape, data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", "weights"), ("offset", "0"), ("length", str(weight.nbytes))):
        tensor.external_data.add(key=key, value=value)
    model.graph.initializer.append(tensor)
    for node in model.graph.node:
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=f"['', 'stem', '{node.name}']")
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value='File "net.py", line 7, in forward')
    onnx.save(model, "net.onnx")
    Path("strict.toml").write_text(DEVICE, encoding="utf-8")
    return "net.onnx"


def test_check_says_what_the_simplifier_alone_changes(net: str, cli: Any) -> None:
    done = cli("check", net, "--simplify", "--verify", "--profile", "strict.toml", "--format", "json")
    (model,) = json.loads(done.out)["models"]
    told = model["simplified"]
    assert done.code == 1
    assert told["by"].startswith("onnxsim ")
    assert (told["nodes_before"], told["nodes_after"], told["verification"]) == (3, 2, "equal")
    assert [(m["rule"], m["node"]) for m in told["removes"]] == [("NPU101", "pad")]
    assert [(m["rule"], m["node"]) for m in told["adds"]] == [("NPU205", "conv")]
    (found,) = model["findings"]
    assert (found["rule"], found["node"], found["scope"]) == ("NPU205", "conv", ["stem"])
    assert found["source"]["line"] == 7
    assert model["sha256"] == hashlib.sha256(Path(net).read_bytes()).hexdigest()


def test_without_it_the_device_is_named_that_simplifies(net: str, cli: Any) -> None:
    assert (
        "strictc runs onnx-simplifier first; --simplify judges what that leaves"
        in cli("check", net, "--profile", "strict.toml").out
    )


def test_nodes_without_names_stay_without(net: str, cli: Any) -> None:
    model = onnx.load(net)
    for node in model.graph.node:
        node.name = ""
    model.graph.output[0].type.tensor_type.ClearField("shape")  # onnxsim alone refuses that
    onnx.save(model, net)
    done = cli("check", net, "--simplify", "--profile", "strict.toml", "--format", "json")
    assert [f["node"] for f in json.loads(done.out)["models"][0]["findings"]] == ["c"]


def test_fix_writes_what_was_simplified_and_verified(net: str, cli: Any) -> None:
    Path("npu-guard.toml").write_text("simplify = true\n", encoding="utf-8")
    done = cli("fix", net, "-o", "fixed.onnx")
    assert "3 operators before and 2 now, verified equal to the file" in done.out
    fixed = onnx.load("fixed.onnx")
    assert [(n.op_type, n.name, len(n.metadata_props)) for n in fixed.graph.node] == [("Conv", "conv", 2), ("Relu", "act", 2)]
    assert (fixed.producer_name, len(fixed.metadata_props)) == ("mine", 0)


def test_what_reads_no_weights_refuses_it(net: str, cli: Any) -> None:
    for words, arguments in (
        ("--no-simplify scans models as they are", ("scan", net, "--simplify")),
        ("are never kept", ("check", net, "--simplify", "--cache", "kept")),
        ("changes nothing to verify", ("check", net, "--verify")),
    ):
        done = cli(*arguments)
        assert (done.code, words in done.err) == (2, True)
    assert not Path("kept").exists()


def test_a_link_among_the_weights_is_not_followed(net: str, cli: Any) -> None:
    Path("weights").rename("elsewhere")
    os.symlink("elsewhere", "weights")
    done = cli("check", net, "--simplify")
    assert (done.code, "behind a link" in done.err) == (3, True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("die", "did not survive this model"),
        ("grow", "needs more than 64 MiB"),
        ("hang", "did not end within 1 s"),
        ("raise", "no (odd)"),
    ],
)
def test_its_end_is_a_result(net: str, cli: Any, monkeypatch: pytest.MonkeyPatch, name: str, words: str) -> None:
    def end(*_: object) -> bytes:
        if name == "grow":
            return bytes(1 << 40)
        if name == "raise":
            raise ValueError("no (odd)\nmodel")
        while name == "hang":
            pass
        os.abort()

    monkeypatch.setattr(simplifier, "_simplified", end)
    Path("npu-guard.toml").write_text("[limits]\nrun-seconds = 1\nrun-bytes = 67108864\n", encoding="utf-8")
    done = cli("check", net, "--simplify")
    assert (done.code, words in done.err) == (3, True)
    assert done.err.count("\n") == 1


def test_without_onnxsim_one_sentence_says_what_to_install(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"^--simplify needs onnxsim and onnxruntime: pip install 'npu-guard\[simplify\]'$"):
        npu_guard.check(net, simplify=True)
