"""What every compiler folds away or skips, and what it may not."""

from __future__ import annotations

import time
from collections.abc import Callable

import onnx
import pytest

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.static import broadcast
from npu_guard.graph.graph import Node, Value

Analyse = Callable[..., Analysis]
Find = Callable[..., Value]
FindNode = Callable[..., Node]


def running(found: Analysis) -> list[str]:
    """Operators that a device has to run."""
    return [node.op_type for node in found.nodes()]


def graph(body: str, inputs: str = "float[1,8,4,4] x", output: str = "float[1,8,4,4] y") -> str:
    return f"g ({inputs}) => ({output}) {{ {body} }}"


def test_constants_and_what_follows_from_them(analysis: Analyse, value: Find) -> None:
    found = analysis(graph("k = Constant<value = float[8] {1,2,3,4,5,6,7,8}>() e = Exp(k) ax = Constant<value = int64[2] {1,2}>()"
                           " u = Unsqueeze(e, ax) y = Mul(x, u)"))  # fmt: skip
    assert running(found) == ["Mul"]
    assert found.is_constant(value(found, "u"))
    assert not found.is_constant(value(found, "x"))
    assert not found.is_constant(value(found, "y"))
    assert found.is_constant(None)


@pytest.mark.parametrize("op", ["own.Magic", "Rellu", "com.microsoft.QuickGelu"])
def test_what_nobody_defines_makes_no_constants(analysis: Analyse, op: str) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 20, "own" : 1, "com.microsoft" : 1]> g (float[1,8,4,4] x) => (float[1,2,4,4] y)'
        f" <float[2,8,1,1] w = {{{', '.join(['1'] * 16)}}}> {{ v = {op}(w) y = Conv<kernel_shape = [1,1]>(x, v) }}"
    )
    assert running(analysis(model)) == [op.rpartition(".")[2], "Conv"]


def test_dropout_with_a_flag_makes_no_constants(analysis: Analyse) -> None:
    values = f"<float[2,8,1,1] w = {{{', '.join(['1'] * 16)}}}, float r = {{0.5}}, bool t = {{1}}>"
    found = analysis(f"g (float[1,8,4,4] x) => (float[1,2,4,4] y) {values} {{ v = Dropout(w, r, t) y = Conv(x, v) }}")
    assert running(found) == ["Dropout", "Conv"]


def test_readers_behind_silent_nodes_that_only_look(analysis: Analyse, value: Find) -> None:
    """A CastLike takes the type of its second input, and nothing of its data."""
    found = analysis(graph("a = Relu(x) b = Neg(x) c = CastLike(b, a) d = Exp(c) e = Sin(a) y = Add(d, e)"))
    assert [n.op_type for n in found.readers(value(found, "a"))] == ["Sin"]
    assert [n.op_type for n in found.readers(value(found, "b"))] == ["Exp"]


def test_weights_are_dequantized_at_compile_time(analysis: Analyse) -> None:
    found = analysis("""g (float[1,8,4,4] x, float s) => (float[1,2,4,4] y)
      <int8[2,8,1,1] w = {0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}, float scale = {0.5}, int8 zero = {0}> {
        d = DequantizeLinear(w, scale, zero)  q = QuantizeLinear(x, scale, zero)  a = DequantizeLinear(q, scale, zero)
        y = Conv(a, d) }""")
    assert running(found) == ["QuantizeLinear", "DequantizeLinear", "Conv"]


def test_weights_with_a_scale_from_outside_are_not(analysis: Analyse) -> None:
    found = analysis("""g (float[1,8,4,4] x, float s) => (float[1,2,4,4] y)
      <int8[2,8,1,1] w = {0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}> { d = DequantizeLinear(w, s)  y = Conv(x, d) }""")
    assert running(found) == ["DequantizeLinear", "Conv"]


def test_shape_arithmetic_is_static_even_where_extents_are_open(analysis: Analyse, value: Find) -> None:
    found = analysis(graph(
        "s = Shape(x) i = Constant<value = int64[1] {2}>() h = Gather(s, i) two = Constant<value = int64[1] {2}>()"
        " d = Div(h, two) m = Constant<value = int64[3] {1,8,-1}>() t = Concat<axis = 0>(m, d) y = Reshape(x, t)",
        "float[1,8,h,w] x", "float[?,?,?,?] y"))  # fmt: skip
    assert running(found) == ["Reshape"]
    assert found.is_constant(value(found, "t"))


def test_data_is_never_static(analysis: Analyse) -> None:
    found = analysis(graph("n = NonZero(x) c = Cast<to = 1>(n) y = Relu(c)", output="float[?,?] y"))
    assert running(found) == ["NonZero", "Cast", "Relu"]


@pytest.mark.parametrize("op", ["RandomNormalLike", "RandomUniformLike", "Bernoulli"])
def test_random_numbers_are_not_static(analysis: Analyse, op: str) -> None:
    found = analysis(graph(f"k = Constant<value = float[1] {{0.5}}>() r = {op}(k) y = Add(x, r)"))
    assert running(found) == [op, "Add"]


def test_random_numbers_without_inputs_are_not_static(analysis: Analyse) -> None:
    found = analysis(graph("r = RandomNormal<shape = [1]>() y = Add(x, r)"))
    assert running(found) == ["RandomNormal", "Add"]


def test_overridable_initializers_are_not_static(analysis: Analyse) -> None:
    found = analysis("g (float[1,4] x, float[4] w = {1,2,3,4}) => (float[1,4] y) { e = Exp(w) y = Mul(x, e) }")
    assert running(found) == ["Exp", "Mul"]


# --- operators that do nothing ---------------------------------------------------------------------------------------

NOTHING = {
    "Identity": "y = Identity(x)",
    "Dropout": "y = Dropout(x)",
    "Dropout with a ratio": "r = Constant<value = float {0.5}>() y = Dropout(x, r)",
    "Dropout, not training": "r = Constant<value = float {0.5}>() t = Constant<value = bool {0}>() y = Dropout(x, r, t)",
    "Dropout of none, training": "r = Constant<value = float {0.0}>() t = Constant<value = bool {1}>() y = Dropout(x, r, t)",
    "Cast to the same type": "y = Cast<to = 1>(x)",
    "CastLike to the same type": "y = CastLike(x, x)",
    "Reshape to the same shape": "t = Constant<value = int64[4] {1,8,4,4}>() y = Reshape(x, t)",
    "Reshape to the same shape, computed": "t = Shape(x) y = Reshape(x, t)",
    "Expand to the same shape": "t = Constant<value = int64[4] {1,8,1,1}>() y = Expand(x, t)",
    "Tile once": "t = Constant<value = int64[4] {1,1,1,1}>() y = Tile(x, t)",
    "Transpose of nothing": "y = Transpose<perm = [0,1,2,3]>(x)",
    "Slice of all": "a = Constant<value = int64[1] {0}>() b = Constant<value = int64[1] {9999}>() y = Slice(x, a, b, a)",
    "Pad by nothing": "p = Constant<value = int64[8] {0,0,0,0,0,0,0,0}>() y = Pad(x, p)",
    "Resize by one": "s = Constant<value = float[4] {1,1,1,1}>() y = Resize(x, , s)",
    "Concat of one": "y = Concat<axis = 1>(x)",
}
SOMETHING = {
    # Vela leaves it to the host, so not every compiler folds it away.
    "Gather of all": "i = Constant<value = int64[8] {0,1,2,3,4,5,6,7}>() y = Gather<axis = 1>(x, i)",
    "Gather of all, counted from the end": "i = Constant<value = int64[4] {0,-3,-2,-1}>() y = Gather<axis = -1>(x, i)",
    "Gather of all and more": "i = Constant<value = int64[5] {0,1,2,3,3}>() y = Gather<axis = 2>(x, i)",
    "Dropout in training": "r = Constant<value = float {0.5}>() t = Constant<value = bool {1}>() y = Dropout(x, r, t)",
    "Reshape to another shape": "t = Constant<value = int64[4] {1,4,8,4}>() y = Reshape(x, t)",
    "Transpose of space": "y = Transpose<perm = [0,1,3,2]>(x)",
    "Slice backwards": "a = Constant<value = int64[1] {-1}>() b = Constant<value = int64[1] {-9999}>()"
                       " i = Constant<value = int64[1] {2}>() m = Constant<value = int64[1] {-1}>() y = Slice(x, a, b, i, m)",
    "Pad that shifts": "p = Constant<value = int64[8] {0,0,1,0,0,0,-1,0}>() y = Pad(x, p)",
    "Gather in another order": "i = Constant<value = int64[4] {0,2,1,3}>() y = Gather<axis = 2>(x, i)",
    "Gather of a part": "i = Constant<value = int64[3] {0,1,2}>() y = Gather<axis = 2>(x, i)",
    "Resize by too little for another row": "s = Constant<value = float[4] {1,1,1.05,1}>() y = Resize<mode = \"linear\">(x, , s)",
    "Resize of a region": "r = Constant<value = float[8] {0,0,0,0,1,1,0.5,0.5}>() s = Constant<value = int64[4] {1,8,4,4}>()"
                          " y = Resize<coordinate_transformation_mode = \"tf_crop_and_resize\">(x, r, , s)",
}  # fmt: skip


@pytest.mark.parametrize("case", NOTHING)
def test_does_nothing(analysis: Analyse, case: str) -> None:
    assert running(analysis(graph(f"{NOTHING[case]} z = Relu(y)", output="float[1,8,4,4] z"))) == ["Relu"]


@pytest.mark.parametrize("case", SOMETHING)
def test_does_something(analysis: Analyse, case: str) -> None:
    assert len(running(analysis(graph(f"{SOMETHING[case]} z = Relu(y)", output="float[?,?,?,?] z")))) == 2


@pytest.mark.parametrize("op", ["Cast<to = 10>(x)", "CastLike(x, half)"])
def test_a_change_of_type_is_something(analysis: Analyse, op: str) -> None:
    found = analysis(graph(f"y = {op}", "float[1,8,4,4] x, float16 half", "float16[1,8,4,4] y"))
    assert len(running(found)) == 1


@pytest.mark.parametrize("op", ["Cast<to = 1>(x)", "Dropout(x)", "Identity(x)"])
def test_nothing_needs_no_known_shape(analysis: Analyse, op: str) -> None:
    assert running(analysis(graph(f"y = {op}", "float[1,8,h,w] x", "float[1,8,h,w] y"))) == []


def test_reshape_of_an_open_shape_is_something(analysis: Analyse) -> None:
    found = analysis(graph("t = Shape(x) y = Reshape(x, t)", "float[1,8,h,w] x", "float[?,?,?,?] y"))
    assert running(found) == ["Reshape"]


def test_old_dropout(analysis: Analyse) -> None:
    assert running(analysis(graph("y = Dropout<is_test = 1>(x)"), 6)) == []
    assert running(analysis(graph("y = Dropout<is_test = 0>(x)"), 6)) == ["Dropout"]
    assert running(analysis(graph("y = Dropout<ratio = 0.3>(x)"), 10)) == []


def test_a_foreign_operator_of_a_known_name_is_something(analysis: Analyse) -> None:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20, "own" : 1]> {graph("y = own.Identity(x)")}')
    assert running(analysis(model)) == ["Identity"]


# --- exporter noise --------------------------------------------------------------------------------------------------

GATE = "float[1,8,4,4] x, float[1,8,1,1] gate"
FULL = "t = Constant<value = int64[4] {1,8,4,4}>() e = Expand(gate, t)"


def test_an_expand_that_broadcasting_does_anyway(analysis: Analyse, node: FindNode, value: Find) -> None:
    found = analysis(graph(f"{FULL} y = Mul(x, e)", GATE))
    assert running(found) == ["Mul"]
    assert found.origin(value(found, "e")) is value(found, "gate")
    assert found.readers(value(found, "gate")) == [node(found, "y")]


@pytest.mark.parametrize(
    ("body", "output"),
    [
        (f"{FULL} a = Relu(e) y = Mul(x, a)", "float[1,8,4,4] y"),  # read by what does not broadcast
        (f"{FULL} y = Mul(e, e)", "float[1,8,4,4] y"),  # nothing else brings the shape
        (f"{FULL} y = Mul(x, e)", "float[1,8,4,4] y, float[1,8,4,4] e"),  # an output of the model
        (f"{FULL} y = Mul(x, e) z = Neg(e)", "float[1,8,4,4] y, float[1,8,4,4] z"),  # one reader of two needs it
    ],
)
def test_an_expand_that_is_needed(analysis: Analyse, body: str, output: str) -> None:
    assert "Expand" in running(analysis(graph(body, GATE, output)))


def test_a_wide_node_of_expands_takes_no_time(analysis: Analyse) -> None:
    count = 1500
    nodes = [onnx.helper.make_node("Expand", ["gate", "t"], [f"e{i}"]) for i in range(count)]
    nodes.append(onnx.helper.make_node("Sum", ["x", *(f"e{i}" for i in range(count))], ["y"]))
    given = [
        onnx.helper.make_tensor_value_info("x", 1, [1, 8, 4, 4]),
        onnx.helper.make_tensor_value_info("gate", 1, [1, 8, 1, 1]),
    ]
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", given, [onnx.helper.make_tensor_value_info("y", 1, None)],
                               [onnx.helper.make_tensor("t", 7, [4], [1, 8, 4, 4])]),
        ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 20)],
    )  # fmt: skip
    before = time.process_time()
    assert running(analysis(proto))[-1] == "Sum"
    assert time.process_time() - before < 2


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([(1, 8, 4, 4), (8, 1, 1)], (1, 8, 4, 4)),
        ([(), (3,)], (3,)),
        ([("n", 1), (1, 5)], ("n", 5)),
        ([("n",), ("n",)], ("n",)),
        ([("n",), ("m",)], None),
        ([(2,), (3,)], None),
        ([(2,), None], None),
        ([(0,), (1,)], (0,)),
        ([], ()),
    ],
)
def test_broadcast(shapes: list[tuple[int | str, ...] | None], expected: tuple[int | str, ...] | None) -> None:
    assert broadcast(shapes) == expected


# --- what leads to no output -------------------------------------------------------------------------------------------


LOOP = """n = Constant<value = int64 {3}>()  t = Constant<value = bool {1}>()
    l = Loop (n, t, x) <body = g (int64 i, bool c, float[1,8,4,4] v) => (bool d, float[1,8,4,4] w)
    { d = Identity(c)  w = Exp(v) }>  y = Relu(x)"""


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("y = Relu(x)  a = Exp(x)", ["Relu"]),
        ("y = Relu(x)  a = Exp(x)  b = Neg(a)  c = Add(a, b)", ["Relu"]),
        ("a = Exp(x)  y = Relu(a)  b = Neg(a)", ["Exp", "Relu"]),
        ("y, i = MaxPool<kernel_shape = [1,1]>(x)  c = Cast<to = 1>(i)", ["MaxPool"]),
        ("a, b = Split<axis = 1, num_outputs = 2>(x)  y = Concat<axis = 1>(b, b)  c = Neg(a)", ["Split", "Concat"]),
        (LOOP, ["Relu"]),
    ],
)  # fmt: skip
def test_what_leads_to_no_output_does_not_run(analysis: Analyse, body: str, left: list[str]) -> None:
    assert running(analysis(graph(body))) == left


def test_a_graph_without_outputs_is_judged_whole(analysis: Analyse) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[1,8] x) => (float[1,8] y) { a = Exp(x)  y = Relu(x) }'
    )
    del model.graph.output[:]
    assert running(analysis(model)) == ["Exp", "Relu"]
