"""Costs of graphs small enough to count by hand, and of ResNet-18, whose costs everybody knows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.base.errors import ModelError
from npu_guard.file import load
from npu_guard.graph.graph import Node, Value

Analyse = Callable[..., Analysis]
FindNode = Callable[..., Node]


def one(analysis: Analyse, text: str, opset: int = 20) -> tuple[int, int]:
    """(MACs, parameters) of the whole graph."""
    costs = analysis(text, opset).costs.values()
    return sum(c.macs for c in costs), sum(c.params for c in costs)


def weights(shape: str, name: str = "w") -> str:
    """An initializer without values in the text; the test fills it."""
    return f"float[{shape}] {name}"


def build(
    nodes: list[onnx.NodeProto], inputs: dict[str, list[int]], params: dict[str, list[int]], output: str = "y"
) -> onnx.ModelProto:
    """Parameters lie in files that are not there: costs never need their values."""
    tensors = []
    for name, shape in params.items():
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="absent.bin")
        tensors.append(tensor)
    given_ = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    graph = helper.make_graph(nodes, "g", given_, [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], tensors)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 23)])


CASES = [
    # Conv: output elements times taps of one filter. 8x8 map, 3x3, no pad: 6x6 x 16 filters x (4 channels x 9 taps).
    ("Conv", {}, {"x": [1, 4, 8, 8]}, {"w": [16, 4, 3, 3]}, 36 * 16 * 36),
    ("Conv", {"pads": [1, 1, 1, 1], "strides": [2, 2]}, {"x": [1, 4, 8, 8]}, {"w": [16, 4, 3, 3]}, 16 * 16 * 36),
    ("Conv", {"group": 2}, {"x": [1, 4, 8, 8]}, {"w": [16, 2, 3, 3]}, 36 * 16 * 18),
    ("Conv", {"group": 4}, {"x": [1, 4, 8, 8]}, {"w": [4, 1, 3, 3]}, 36 * 4 * 9),  # depthwise
    ("Conv", {"dilations": [2, 2]}, {"x": [1, 4, 8, 8]}, {"w": [16, 4, 3, 3]}, 16 * 16 * 36),  # 4x4 outputs, same taps
    ("Conv", {}, {"x": [2, 4, 10]}, {"w": [6, 4, 3]}, 2 * 8 * 6 * 12),  # one-dimensional, batch of two
    ("Conv", {}, {"x": [1, 4, 8, 8]}, {"w": [16, 4, 3, 3], "b": [16]}, 36 * 16 * 36),
    # ConvTranspose: every input element times taps of its filters, whatever the stride.
    ("ConvTranspose", {"strides": [2, 2]}, {"x": [1, 4, 5, 5]}, {"w": [4, 8, 2, 2]}, 25 * 4 * 8 * 4),
    ("ConvTranspose", {"strides": [2, 2], "group": 2}, {"x": [1, 4, 5, 5]}, {"w": [4, 3, 2, 2]}, 25 * 4 * 3 * 4),
    ("Gemm", {}, {"x": [3, 10]}, {"w": [10, 7]}, 3 * 10 * 7),
    ("Gemm", {"transB": 1}, {"x": [3, 10]}, {"w": [7, 10], "b": [7]}, 3 * 10 * 7),
    ("Gemm", {"transA": 1}, {"x": [10, 3]}, {"w": [10, 7]}, 3 * 10 * 7),
    ("MatMul", {}, {"x": [2, 5, 3, 10], "z": [2, 5, 10, 7]}, {}, 2 * 5 * 3 * 10 * 7),
    ("MatMul", {}, {"x": [2, 3, 10]}, {"w": [10, 7]}, 2 * 3 * 10 * 7),
    ("MatMul", {}, {"x": [10], "z": [10]}, {}, 10),
    ("Einsum", {"equation": "bhid, bhjd -> bhij"}, {"x": [2, 4, 5, 8], "z": [2, 4, 6, 8]}, {}, 2 * 4 * 5 * 6 * 8),
    ("Einsum", {"equation": "ij->ji"}, {"x": [3, 4]}, {}, 0),
    ("Attention", {}, {"q": [2, 4, 5, 8], "k": [2, 4, 6, 8], "v": [2, 4, 6, 16]}, {}, 2 * 4 * 5 * 6 * (8 + 16)),
    ("Attention", {"q_num_heads": 4, "kv_num_heads": 2}, {"q": [2, 5, 32], "k": [2, 6, 16], "v": [2, 6, 16]}, {},
     2 * 4 * 5 * 6 * (8 + 8)),
    ("Relu", {}, {"x": [1, 4, 8, 8]}, {}, 0),
    ("MaxPool", {"kernel_shape": [2, 2]}, {"x": [1, 4, 8, 8]}, {}, 0),
    ("LSTM", {"hidden_size": 6}, {"x": [5, 2, 3]}, {"w": [1, 24, 3], "r": [1, 24, 6]}, 5 * 2 * (24 * 3 + 24 * 6)),
]  # fmt: skip


@pytest.mark.parametrize(("op", "attributes", "inputs", "params", "macs"), CASES)
def test_macs_and_parameters(
    analysis: Analyse,
    op: str,
    attributes: dict[str, object],
    inputs: dict[str, list[int]],
    params: dict[str, list[int]],
    macs: int,
) -> None:
    found = analysis(build([helper.make_node(op, [*inputs, *params], ["y"], **attributes)], inputs, params))
    (cost,) = found.costs.values()
    assert cost.macs == macs
    count = 0
    for shape in params.values():
        size = 1
        for extent in shape:
            size *= extent
        count += size
    assert cost.params == count


def test_attention_over_a_cache(analysis: Analyse) -> None:
    inputs = {"q": [2, 4, 1, 8], "k": [2, 4, 1, 8], "v": [2, 4, 1, 8], "pk": [2, 4, 9, 8], "pv": [2, 4, 9, 8]}
    node = helper.make_node("Attention", ["q", "k", "v", "", "pk", "pv"], ["y", "nk", "nv"])
    (cost,) = analysis(build([node], inputs, {})).costs.values()
    assert cost.macs == 2 * 4 * 1 * 10 * (8 + 8)


@pytest.mark.parametrize(
    ("op", "attributes", "inputs"),
    [
        ("Einsum", {"equation": "...ij,...jk->...ik"}, {"x": [2, 3, "n"], "z": [2, "n", 5]}),  # type: ignore[list-item]
        ("Conv", {}, {"x": [1, 4, "h", 8], "w": [8, 4, 3, 3]}),  # type: ignore[list-item]
        ("MatMul", {}, {"x": [1, 2, "n"], "z": [1, "n", 4]}),  # type: ignore[list-item]
        ("Attention", {"q_num_heads": 4, "kv_num_heads": 0}, {"q": [2, 5, 32], "k": [2, 6, 16], "v": [2, 6, 16]}),
    ],
)
def test_what_cannot_be_counted_is_no_crash(
    analysis: Analyse, op: str, attributes: dict[str, object], inputs: dict[str, list[int]]
) -> None:
    proto = build([helper.make_node(op, list(inputs), ["y"], **attributes)], inputs, {})
    try:
        found = analysis(proto)
    except ModelError:
        return  # ONNX may refuse it; that is no crash either
    assert sum(c.macs for c in found.costs.values()) == 0


def test_integer_constants_are_no_parameters(analysis: Analyse) -> None:
    text = "g (float[1,8,4,4] x) => (float[1,128] y) { t = Constant<value = int64[2] {1,128}>() y = Reshape(x, t) }"
    assert one(analysis, text) == (0, 0)


def test_a_shared_weight_counts_once(analysis: Analyse) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"])]
    found = analysis(build(nodes, {"x": [1, 8]}, {"w": [8, 8]}))
    assert [c.params for c in found.costs.values()] == [64, 0]
    assert [c.macs for c in found.costs.values()] == [64, 64]


def live(found: Analysis) -> dict[str, int]:
    """Bytes alive at each node, in float32 elements."""
    return {node.output.name: cost.live_bytes // 4 for node, cost in found.costs.items()}


def test_memory_of_a_chain(analysis: Analyse) -> None:
    found = analysis("g (float[1,100] x) => (float[1,100] y) { a = Relu(x) b = Relu(a) y = Relu(b) }")
    assert live(found) == {"a": 200, "b": 200, "y": 200}


def test_memory_of_a_residual_block(analysis: Analyse) -> None:
    """x[64] -> conv -> a[64] -> relu -> b[64] -> conv -> c[64] -> add with x: x stays until the addition."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w"], ["c"]),
        helper.make_node("Add", ["c", "x"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["y"]),
    ]
    found = analysis(build(nodes, {"x": [1, 4, 4, 4]}, {"w": [4, 4, 1, 1]}))
    # x+a, x+a+b, x+b+c, x+c+d, d+y
    assert live(found) == {"a": 128, "b": 192, "c": 192, "d": 192, "y": 68}


def test_silent_nodes_hold_no_memory_and_shapes_no_data(analysis: Analyse) -> None:
    found = analysis("""g (float[1,100] x) => (float[1,100] y) {
      s = Shape(x)  i = Identity(x)  a = Relu(i)  b = Relu(a)  t = Cast<to = 7>(s)  y = Reshape(b, t)
    }""")
    # Reading the shape of x at the end does not keep x; Identity shares its memory.
    assert live(found) == {"a": 200, "b": 200}


def test_outputs_of_the_model_stay(analysis: Analyse) -> None:
    found = analysis("g (float[1,100] x) => (float[1,100] a, float[1,10] y) { a = Relu(x) s = Slice(a, z, n, o) y = Relu(s) }"
                     .replace("{ a", "<int64[1] z = {0}, int64[1] n = {10}, int64[1] o = {1}> { a"))  # fmt: skip
    assert live(found) == {"a": 200, "s": 110, "y": 120}


def test_outputs_that_nobody_reads_go_at_once(analysis: Analyse) -> None:
    found = analysis("g (float[1,100] x) => (float[1,50] y) { p, q = Split<axis = 1, num_outputs = 2>(x) y = Relu(p) }")
    assert live(found) == {"p": 200, "y": 100}


def test_memory_around_and_in_bodies(analysis: Analyse) -> None:
    found = analysis("""g (bool c, float[1,100] x) => (float[1,100] y) {
      a = Relu(x)
      r = If (c) <then_branch = t () => (float[1,100] u) { v = Neg(a) u = Add(v, x) },
                  else_branch = e () => (float[1,100] w) { w = Identity(a) }>
      y = Mul(r, a)
    }""")
    cost = {node.output.name: node_cost.live_bytes // 4 for node, node_cost in found.costs.items()}
    assert cost["a"] == 200  # c is a quarter of an element
    assert cost["r"] == 300  # a and x, which the bodies read, and r
    assert cost["y"] == 300
    assert cost["v"] == 300  # in the body: a and x from outside, v
    assert min(c.live_bytes for c in found.costs.values()) > 0


def test_half_precision_and_half_bytes(analysis: Analyse) -> None:
    found = analysis("g (float16[1,100] x) => (bool[1,100] y) { y = Equal(x, x) }")
    (cost,) = found.costs.values()
    assert (cost.output_bytes, cost.live_bytes) == (100, 300)


@st.composite
def networks(draw: st.DrawFn) -> onnx.ModelProto:
    """Random element-wise networks of one size, so that memory can be counted in tensors."""
    names, nodes = ["x"], []
    for i in range(draw(st.integers(1, 12))):
        op = draw(st.sampled_from(["Relu", "Identity", "Add", "Neg", "Shape"]))
        inputs = [draw(st.sampled_from(names)) for _ in range(2 if op == "Add" else 1)]
        nodes.append(helper.make_node(op, inputs, [f"v{i}"]))
        if op != "Shape":
            names.append(f"v{i}")
    return build(nodes, {"x": [1, 1]}, {}, names[-1])


@given(networks())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_memory_against_a_plain_simulation(analysis: Analyse, proto: onnx.ModelProto) -> None:
    """At each node: what is made and still needed, by looking at the rest of the graph each time."""
    found = analysis(proto)
    nodes = [n for n in found.model.graph.nodes if n not in found.elided]
    result = found.origin(found.model.graph.outputs[0])

    def reads(node: Node) -> set[Value]:
        return {found.origin(v) for v in node.inputs if v is not None}

    made = {v for v in found.model.graph.inputs if any(v in reads(n) for n in nodes) or v is result}
    for index, node in enumerate(nodes):
        needed = {v for n in nodes[index:] for v in reads(n)} | {result}
        alive = {v for v in made if v in needed} | {node.output}
        assert found.costs[node].live_bytes == 4 * len(alive)
        made.add(node.output)
    assert set(found.costs) == set(nodes)


def resnet18() -> onnx.ModelProto:
    nodes: list[onnx.NodeProto] = []
    params: dict[str, list[int]] = {}

    def conv(x: str, name: str, cin: int, cout: int, k: int, stride: int, relu: bool = True) -> str:
        params[f"{name}.w"] = [cout, cin, k, k]
        nodes.append(helper.make_node("Conv", [x, f"{name}.w"], [f"{name}.c"], pads=[k // 2] * 4, strides=[stride] * 2))
        norm = [f"{name}.{p}" for p in ("gamma", "beta", "mean", "var")]
        params.update({key: [cout] for key in norm})
        nodes.append(helper.make_node("BatchNormalization", [f"{name}.c", *norm], [f"{name}.b"]))
        if relu:
            nodes.append(helper.make_node("Relu", [f"{name}.b"], [f"{name}.r"]))
        return f"{name}.r" if relu else f"{name}.b"

    x = conv("x", "stem", 3, 64, 7, 2)
    nodes.append(helper.make_node("MaxPool", [x], ["pool"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4))
    x, cin = "pool", 64
    for stage, cout in enumerate((64, 128, 256, 512)):
        for block in range(2):
            name, stride = f"s{stage}b{block}", 2 if stage and not block else 1
            y = conv(conv(x, f"{name}.1", cin, cout, 3, stride), f"{name}.2", cout, cout, 3, 1, relu=False)
            skip = conv(x, f"{name}.d", cin, cout, 1, stride, relu=False) if stride == 2 else x
            nodes += [helper.make_node("Add", [y, skip], [f"{name}.a"]), helper.make_node("Relu", [f"{name}.a"], [f"{name}.o"])]
            x, cin = f"{name}.o", cout
    params.update({"fc.w": [1000, 512], "fc.b": [1000]})
    nodes += [
        helper.make_node("GlobalAveragePool", [x], ["gap"]),
        helper.make_node("Flatten", ["gap"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc.w", "fc.b"], ["y"], transB=1),
    ]
    return build(nodes, {"x": [1, 3, 224, 224]}, params)


def test_resnet18(analysis: Analyse, node: FindNode) -> None:
    found = analysis(resnet18())
    assert sum(c.macs for c in found.costs.values()) == 1_814_073_344  # "1.8 GFLOPs" of every table
    running_statistics = 2 * 4800
    assert (
        sum(c.params for c in found.costs.values()) == 11_689_512 + running_statistics
    )  # torchvision's count, and the statistics
    peak = max(found.costs, key=lambda n: found.costs[n].live_bytes)
    # Stem: normalised and activated map together, 2 x 64 x 112 x 112 floats.
    assert found.costs[peak].live_bytes == 2 * 64 * 112 * 112 * 4
    assert found.costs[node(found, "stem.c")].macs == 112 * 112 * 64 * 147


def test_shares_are_of_what_is_known(cli: Any, write: Any) -> None:
    write("""g (float[1,8,"H",8] x, float[1,8,8,8] z) => (y, u) <float[8,8,3,3] w> { y = Conv(x, w)  u = Conv(z, w) }""")
    told = "all known MACs, but not all operators, run as they are; 1 operator of open shape not counted"
    assert told in cli("check", "net.onnx").out
    told = "100.0 % of the known MACs and 100.0 % of the activation bytes on the NPU; 1 operator of open shape not counted."
    assert told in cli("partition", "net.onnx", "-o", "pieces").out


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (
            'g (float[1,4,8,8] x) => (y) <float[16,4,3,3] w> { y = com.microsoft.FusedConv<activation = "Relu">(x, w) }',
            36 * 16 * 36,
        ),
        ("g (float[1,8,8,4] x) => (y) <float[16,3,3,4] w> { y = com.microsoft.NhwcConv(x, w) }", 36 * 16 * 36),
        ("g (float[1,8,8,4] x) => (y) <float[16,4,3,3] w> { y = com.microsoft.NhwcFusedConv(x, w) }", 36 * 16 * 36),
        ("g (float[3,10] x) => (y) <float[7,10] w> { y = com.microsoft.FusedGemm<transB = 1>(x, w) }", 3 * 10 * 7),
        ("g (float[2,10,3] x) => (y) <float[10,7] w> { y = com.microsoft.FusedMatMul<transA = 1>(x, w) }", 2 * 3 * 10 * 7),
        ('g (float[1,8,4,4] x) => (y) <float[8] c> { y = Einsum<equation = "nchw,c->nchw">(x, c) }', 0),
        ('g (float[2,3,4] x, float[2,4,5] z) => (y) { y = Einsum<equation = "...ij,...jk->...ik">(x, z) }', 2 * 3 * 4 * 5),
        ('g (float[1,8,4,4] x) => (y) <float[4,3] c> { y = Einsum<equation = "...c,cd->...d">(x, c) }', 8 * 4 * 4 * 3),
    ],
)
def test_fused_operators_count_as_the_plain_ones(write: Callable[..., Path], graph: str, expected: int) -> None:
    """A file that ONNX Runtime has optimized has as many as before; a product of elements has none, as a Mul."""
    analysis = analyze(load.load(write(graph)), {})
    assert sum(cost.macs for cost in analysis.costs.values()) == expected
