"""Integers are compared as integers; a flip is excused where the first model flips itself, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

if TYPE_CHECKING:
    from conftest import Cli, Write

HEADS = {
    "quantized": (onnx.TensorProto.UINT8, "y = QuantizeLinear(c, scale, zero)"),
    "quantized and back": (onnx.TensorProto.FLOAT, "q = QuantizeLinear(c, scale, zero)  y = DequantizeLinear(q, scale, zero)"),
    "largest": (onnx.TensorProto.INT64, "y = ArgMax<axis = 1>(c)"),
    "compared": (onnx.TensorProto.BOOL, "y = Greater(c, bound)"),
    "cut off": (onnx.TensorProto.INT32, "y = Cast<to = 6>(c)"),
}
"""Ends of a network by name: the type of the output and what makes it of a convolution's `c`."""


def network(path: Path, head: str, *, halves: bool = False, **changes: float) -> None:
    """A convolution and a head; with `halves`, summed in another order. `changes` are of `weight`, `scale`, `zero`, `bound`."""
    weight = np.random.default_rng(0).standard_normal((12, 16, 3, 3)).astype(np.float32) * np.float32(0.1)
    weight[3] *= np.float32(1.0 + changes.get("weight", 0.0))
    constants = {
        "scale": np.float32(0.05 * (1.0 + changes.get("scale", 0.0))), "zero": np.uint8(128 + changes.get("zero", 0)),
        "bound": np.float32(0.3 + changes.get("bound", 0.0)),
    }  # fmt: skip
    if halves:
        constants |= {"v": weight[:, :8], "w": weight[:, 8:]}
        body = """s, t = Split<axis = 1, num_outputs = 2>(x)  a = Conv<pads = [1,1,1,1]>(s, v)  b = Conv<pads = [1,1,1,1]>(t, w)
            c = Add(a, b)"""
    else:
        constants["w"] = weight
        body = "c = Conv<pads = [1,1,1,1]>(x, w)"
    kind, end = HEADS[head]
    graph = onnx.parser.parse_graph(f"g (float[1,16,40,40] x) => (float[N,C,H,W] y) {{ {body}  {end} }}")
    graph.output[0].type.tensor_type.elem_type = kind
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items() if k in used)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, path)


@pytest.mark.parametrize("head", HEADS)
def test_another_order_of_the_same_sum_is_equal(cli: Cli, tmp_path: Path, head: str) -> None:
    network(tmp_path / "net.onnx", head)
    network(tmp_path / "other.onnx", head, halves=True)
    assert cli("verify", "net.onnx", "other.onnx").code == 0


def test_flips_are_counted(cli: Cli, tmp_path: Path) -> None:
    network(tmp_path / "net.onnx", "quantized")
    network(tmp_path / "other.onnx", "quantized", halves=True)
    result = json.loads(cli("verify", "net.onnx", "other.onnx", "--format", "json").out)
    (output,) = result["outputs"]
    assert output["flips"] > 0
    assert output["max_abs"] >= 1
    assert "flip by a step where the original itself flips" in cli("verify", "net.onnx", "other.onnx").out


@pytest.mark.parametrize(
    ("head", "change"),
    [
        ("quantized", {"weight": 1e-3}), ("quantized", {"scale": 1e-3}), ("quantized", {"zero": 1}),
        ("quantized and back", {"weight": 1e-2}), ("quantized and back", {"zero": 1}), ("largest", {"weight": 1e-2}),
        ("compared", {"bound": 1e-3}), ("compared", {"weight": 1e-2}), ("cut off", {"weight": 1e-2}),
    ],
)  # fmt: skip
def test_a_change_is_no_flip(cli: Cli, tmp_path: Path, head: str, change: dict[str, float]) -> None:
    network(tmp_path / "net.onnx", head)
    network(tmp_path / "other.onnx", head, halves=True, **change)
    assert cli("verify", "net.onnx", "other.onnx").code == 5


@pytest.mark.parametrize(("kind", "number"), [("int64", 2**60), ("int32", 2**30), ("uint8", 200)])
def test_large_integers_are_not_rounded(cli: Cli, write: Write, kind: str, number: int) -> None:
    graph = f"g ({kind}[1,4] x) => ({kind}[1,4] y) <{kind} k = {{NUMBER}}> {{ y = Add(x, k) }}"
    write(graph.replace("NUMBER", str(number)))
    write(graph.replace("NUMBER", str(number + 1)), "other.onnx")
    result = json.loads(cli("verify", "net.onnx", "other.onnx", "--format", "json").out)
    assert result["verdict"] == "differs"
    assert result["outputs"][0]["max_abs"] == 1 or kind == "uint8"
    assert cli("verify", "net.onnx", "net.onnx").code == 0


def test_where_the_first_of_a_tie_is_taken_is_no_evidence_but_all_others_are(cli: Cli, write: Write) -> None:
    """On a blank image all logits are the same; the last of them instead of the first shows where they are not."""
    graph = "g (float[1,4,6,6] x) => (int64[1,1,6,6] y) { y = ArgMax<axis = 1, select_last_index = LAST>(x) }"
    write(graph.replace("LAST", "0"))
    write(graph.replace("LAST", "1"), "other.onnx")
    assert cli("verify", "net.onnx", "other.onnx").code in (0, 5)
    write(graph.replace("LAST", "0").replace("ArgMax", "ArgMin"), "other.onnx")
    assert cli("verify", "net.onnx", "other.onnx").code == 5


def test_what_differs_on_inputs_that_are_no_evidence_is_not_called_identical(cli: Cli, write: Write) -> None:
    """Where both are zero, each comparison says something else, and the first model itself does once its inputs move."""
    graph = "g (float[1,5] a, float[1,5] b) => (bool[1,5] y) { y = LessOrEqual(a, b) }"
    write(graph)
    told = cli("verify", "net.onnx", str(write(graph.replace("LessOrEqual", "Less"), "other.onnx"))).out
    assert "equal: identical, bit for bit in what counts, and " in told
    assert "values elsewhere flip where the original itself flips by one ulp" in told
    assert "equal: identical, bit for bit; on" in cli("verify", "net.onnx", "net.onnx").out
