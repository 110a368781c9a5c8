"""The view: names find their values, bodies look outwards, and what is no graph is refused in a sentence that says why."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest
from onnx import helper

from npu_guard.base.errors import ModelError
from npu_guard.base.text import short
from npu_guard.graph.graph import Model

F = onnx.TensorProto.FLOAT
View = Callable[..., Model]


def model(
    nodes: list[onnx.NodeProto], inputs: list[str] | None = None, outputs: list[str] | None = None, ir: int = 10
) -> onnx.ModelProto:
    def value(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, F, [1, 4])

    graph = helper.make_graph(nodes, "g", [value(n) for n in inputs or ["x"]], [value(n) for n in outputs or ["y"]])
    return helper.make_model(graph, ir_version=ir, opset_imports=[helper.make_opsetid("", 20)])


def refused(view: View, proto: onnx.ModelProto) -> str:
    with pytest.raises(ModelError) as caught:
        view(proto)
    assert caught.value.kind == "invalid"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_dangling_input(view: View) -> None:
    message = refused(view, model([helper.make_node("Relu", ["nowhere"], ["y"], name="r")]))
    assert "node 'r' (Relu) reads 'nowhere', which nothing produces" in message


def test_cycle_of_one_and_of_two(view: View) -> None:
    assert "cycle" in refused(view, model([helper.make_node("Relu", ["y"], ["y"])]))
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    assert "cycle through node 'a' (Add) and 'b'" in refused(view, model(nodes))


def test_long_cycle_is_found_without_recursion(view: View) -> None:
    nodes = [helper.make_node("Relu", [f"v{(i - 1) % 5000}"], [f"v{i}"]) for i in range(5000)]
    assert "cycle" in refused(view, model(nodes, outputs=["v0"]))


def test_unsorted(view: View) -> None:
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Relu", ["x"], ["a"])]
    message = refused(view, model(nodes))
    assert "topological order" in message
    assert "cycle" not in message


def test_produced_twice(view: View) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Relu", ["x"], ["y"])]
    assert "'y', which exists already" in refused(view, model(nodes))
    assert "'x', which exists already" in refused(view, model([helper.make_node("Relu", ["x"], ["x"])], outputs=["x"]))


def test_outputs_and_inputs(view: View) -> None:
    relu = helper.make_node("Relu", ["x"], ["y"])
    assert "graph output 'z' is produced by no node" in refused(view, model([relu], outputs=["z"]))
    assert "two graph inputs" in refused(view, model([relu], inputs=["x", "x"]))
    proto = model([relu])
    proto.graph.initializer.extend([helper.make_tensor("w", F, [1], [0.0])] * 2)
    assert "two initializers" in refused(view, proto)
    assert "no operator type" in refused(view, model([helper.make_node("", ["x"], ["y"])]))


def test_passing_an_input_through(view: View) -> None:
    graph = view(model([], outputs=["x"])).graph
    assert graph.outputs == graph.inputs
    assert graph.outputs[0].is_output


def test_wiring(view: View) -> None:
    graph = view("g (float[1,4] x) => (float[1,4] y) { a = Relu(x)  b = Add(a, a)  y = Mul(b, x) }").graph
    x, a, b, y = (graph.values[n] for n in "xaby")
    assert [n.op_type for n in graph.nodes] == ["Relu", "Add", "Mul"]
    assert a.producer is graph.nodes[0]
    assert a.consumers == [graph.nodes[1], graph.nodes[1]]
    assert x.consumers == [graph.nodes[0], graph.nodes[2]]
    assert x.producer is None
    assert x.is_input
    assert y.is_output
    assert not b.is_output
    assert graph.nodes[0].label == "a"


def test_optional_inputs_and_outputs(view: View) -> None:
    clip = helper.make_node("Clip", ["x", "", "h"], ["c"])
    dropout = helper.make_node("Dropout", ["c"], ["", "mask"])
    nothing = helper.make_node("Relu", ["c"], [])
    proto = model([clip, dropout, nothing, helper.make_node("Relu", ["c"], ["y"])])
    proto.graph.initializer.append(helper.make_tensor("h", F, [], [1.0]))
    graph = view(proto).graph
    first, second, third, _ = graph.nodes
    assert first.inputs[1] is None
    assert first.input(1) is None
    assert first.input(2) is graph.values["h"]
    assert first.input(9) is None
    for unnamed in (second, third):
        assert unnamed.output.name == ""
        assert unnamed.output.producer is unnamed
        assert unnamed.label
    assert second.outputs[1] is graph.values["mask"]


IF = """g (bool c, float[1,4] x) => (float[1,4] y) {
  a = Relu(x)
  y = If (c) <then_branch = t () => (float[1,4] r) { t = Relu(a)  r = Add(t, x) },
              else_branch = e () => (float[1,4] r) { t = Neg(x)  r = Mul(t, a) }>
}"""


def test_bodies_capture_and_may_share_names(view: View) -> None:
    graph = view(IF).graph
    then, other = (body for _, body in graph.nodes[1].subgraphs)
    assert [key for key, _ in graph.nodes[1].subgraphs] == ["then_branch", "else_branch"]
    assert then.values["t"] is not other.values["t"]
    assert then.lookup("a") is graph.values["a"]
    assert [n.op_type for n in graph.values["a"].consumers] == ["Relu", "Mul"]
    assert [n.op_type for n in graph.walk()] == ["Relu", "If", "Relu", "Add", "Neg", "Mul"]
    assert list(graph.graphs()) == [graph, then, other]
    assert then.path == ("If.then_branch",)
    assert then.parent is graph


def test_bodies_see_only_what_is_made_before_them(view: View) -> None:
    out = helper.make_tensor_value_info("r", F, [1, 4])
    body = helper.make_graph([helper.make_node("Relu", ["later"], ["r"])], "b", [], [out])
    branch = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    proto = model([branch, helper.make_node("Relu", ["x"], ["later"])])
    proto.graph.input.add(name="c", type=helper.make_tensor_type_proto(onnx.TensorProto.BOOL, []))
    assert "reads 'later'" in refused(view, proto)


def test_a_name_of_one_branch_is_unknown_in_the_other(view: View) -> None:
    out = helper.make_tensor_value_info("r", F, [1, 4])
    then = helper.make_graph([helper.make_node("Relu", ["x"], ["t"]), helper.make_node("Relu", ["t"], ["r"])], "t", [], [out])
    other = helper.make_graph([helper.make_node("Relu", ["t"], ["r"])], "e", [], [out])
    proto = model([helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)], inputs=["x", "c"])
    assert "reads 't', which nothing produces" in refused(view, proto)


def with_weight(ir: int, listed: bool) -> onnx.ModelProto:
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], inputs=["x", "w"] if listed else ["x"], ir=ir)
    proto.graph.initializer.append(helper.make_tensor("w", F, [1, 4], [0.0] * 4))
    return proto


@pytest.mark.parametrize(
    ("ir", "listed", "overridable"), [(3, True, False), (4, True, True), (10, True, True), (10, False, False)]
)
def test_initializers_that_are_inputs_too(view: View, ir: int, listed: bool, overridable: bool) -> None:
    graph = view(with_weight(ir, listed)).graph
    weight = graph.values["w"]
    assert weight.initializer is not None
    assert weight.is_input is overridable
    assert [v.name for v in graph.inputs] == (["x", "w"] if overridable else ["x"])


def test_sparse_initializer(view: View) -> None:
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])])
    values = helper.make_tensor("w", F, [1], [1.0])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, helper.make_tensor("i", 7, [1], [2]), [1, 4]))
    weight = view(proto).graph.values["w"]
    assert weight.initializer is not None
    assert not weight.is_input


@pytest.mark.parametrize(
    ("op", "opset", "name", "expected"),
    [
        ("Gemm", 13, "alpha", 1.0),
        ("Softmax", 12, "axis", 1),
        ("Softmax", 13, "axis", -1),
        ("Conv", 20, "group", 1),
        ("Conv", 20, "auto_pad", "NOTSET"),
        ("Conv", 20, "kernel_shape", "none"),
        ("Resize", 19, "coordinate_transformation_mode", "half_pixel"),
        ("Resize", 19, "keep_aspect_ratio_policy", "stretch"),
        ("Resize", 11, "keep_aspect_ratio_policy", "none"),
        ("BatchNormalization", 9, "epsilon", pytest.approx(1e-5)),
        ("NoSuchOperator", 20, "axis", "none"),
    ],
)
def test_defaults_are_those_of_the_opset(view: View, op: str, opset: int, name: str, expected: object) -> None:
    proto = model([helper.make_node(op, ["x"], ["y"])])
    proto.opset_import[0].version = opset
    assert view(proto).graph.nodes[0].attr(name, "none") == expected


def test_attributes_as_python_values(view: View) -> None:
    tensor = helper.make_tensor("t", F, [1], [1.0])
    attributes = {"i": 3, "f": 0.5, "s": "word", "ii": [1, 2], "ff": [0.5], "ss": ["a", "b"], "t": tensor}
    proto = model([helper.make_node("X", ["x"], ["y"], domain="own", **attributes)])
    proto.opset_import.add(domain="own", version=1)
    node = view(proto).graph.nodes[0]
    assert {k: v for k, v in node.attributes.items() if k != "t"} == {
        "i": 3, "f": 0.5, "s": "word", "ii": (1, 2), "ff": (0.5,), "ss": ("a", "b")
    }  # fmt: skip
    assert node.attributes["t"].float_data == [1.0]
    assert node.op == "own::X"
    assert node.domain == "own"


def test_the_long_name_of_the_default_domain(view: View) -> None:
    proto = model([helper.make_node("Softmax", ["x"], ["y"], domain="ai.onnx")])
    node = view(proto).graph.nodes[0]
    assert node.op == "Softmax"
    assert node.attr("axis") == -1


def test_invalid_utf8_names(view: View) -> None:
    proto = model([helper.make_node("Relu", ["x"], ["abc"], name="abc"), helper.make_node("Relu", ["abc"], ["y"])])
    data = proto.SerializeToString().replace(b"abc", b"a\xffc")
    broken = onnx.ModelProto()
    try:
        broken.ParseFromString(data)
    except Exception:
        pytest.skip("this protobuf refuses invalid UTF-8")
    graph = view(broken).graph
    assert graph.nodes[0].name == "a\\xffc"
    assert graph.nodes[1].inputs == [graph.values["a\\xffc"]]


def test_short() -> None:
    assert short("x" * 120) == "x" * 120
    assert len(short("x" * 121)) == 120


def test_deep_bodies(view: View) -> None:
    text = "r = Relu(x)"
    other = "else_branch = e () => (float[1,4] r) { r = Neg(x) }"
    for _ in range(25):
        text = f"r = If (c) <then_branch = t () => (float[1,4] r) {{ {text} }}, {other}>"
    graph = view(f"g (bool c, float[1,4] x) => (float[1,4] r) {{ {text} }}").graph
    assert sum(n.op_type == "If" for n in graph.walk()) == 25
    assert len(list(graph.graphs())) == 51
