"""Shapes: what the command line gives, what ONNX's inference finds, and what folding repairs behind it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.inputs import fix_inputs
from npu_guard.base import sandbox
from npu_guard.base.errors import ModelError, UsageError
from npu_guard.base.standing import Standing
from npu_guard.graph.graph import Value

Analyse = Callable[..., Analysis]
Find = Callable[..., Value]


# --- input shapes ---------------------------------------------------------------------------------------------------


def test_a_dynamic_batch_is_one_and_said(analysis: Analyse, value: Find) -> None:
    found = analysis("g (float[batch,8,4,4] x) => (float[batch,8,4,4] y) { y = Relu(x) }")
    assert value(found, "y").shape == (1, 8, 4, 4)
    assert found.notes == ("dynamic batch 'batch' of input 'x' taken as 1",)
    assert not found.unknown


def test_a_batch_without_a_name(analysis: Analyse, value: Find) -> None:
    found = analysis("g (float[?,8] x) => (float[?,8] y) { y = Relu(x) }")
    assert value(found, "y").shape == (1, 8)
    assert found.notes == ("dynamic batch of input 'x' taken as 1",)


def test_other_axes_stay_open(analysis: Analyse, value: Find) -> None:
    found = analysis("g (float[1,8,h,w] x) => (float[1,8,h,w] y) { y = Relu(x) }")
    assert value(found, "y").shape == (1, 8, "h", "w")
    assert found.notes == ()
    assert found.unknown[value(found, "y")] == "input 'x' has dynamic dimensions (h, w)"


def test_a_vector_has_no_batch(analysis: Analyse, value: Find) -> None:
    found = analysis("g (float[n] x) => (float[n] y) { y = Relu(x) }")
    assert value(found, "y").shape == ("n",)
    assert found.notes == ()


SHARED = "g (float[n,8] a, float[n,8] b, int64[n] c) => (float[n,8] y) { y = Add(a, b) z = Neg(c) }"


def test_one_symbol_is_one_extent(analysis: Analyse, value: Find) -> None:
    found = analysis(SHARED)
    assert [value(found, n).shape for n in "abcyz"] == [(1, 8), (1, 8), (1,), (1, 8), (1,)]
    assert found.notes == ("dynamic batch 'n' of input 'a' taken as 1",)


@pytest.mark.parametrize(
    "text",
    [
        "g (float[t,80] x, float[16,80,3] w) => (y) <int64[1] a = {0}> { r = Transpose(x) u = Unsqueeze(r, a) y = Conv(u, w) }",
        "g (float[n,5] x, float[4,2] w) => (float[4,5] y) { y = MatMul(w, x) }",
        "g (float[n,8] x) => (y) <int64[2] s = {2,16}> { y = Reshape(x, s) }",
    ],
)
def test_a_batch_that_cannot_be_one_stays_open(analysis: Analyse, value: Find, text: str) -> None:
    found = analysis(text)
    symbol = value(found, "x").shape[0]
    assert isinstance(symbol, str)
    assert found.notes == (f"dynamic batch {symbol!r} of input 'x' left open: the model does not run with 1",)


def test_what_is_wrong_with_any_batch_is_refused(analysis: Analyse) -> None:
    with pytest.raises(ModelError, match="inner extents"):
        analysis("g (float[n,5] x, float[4,2] w) => (y) { y = MatMul(x, w) }")


def test_a_batch_that_names_axes_of_space_leaves_them_open(analysis: Analyse, value: Find) -> None:
    found = analysis("g (float[n,8,4,4] x, float[1,8,n,n] z) => (y, v) { y = Relu(x) v = Relu(z) }")
    assert value(found, "y").shape == (1, 8, 4, 4)
    assert value(found, "v").shape == (1, 8, "n", "n")
    state = analysis("g (float[n,8,4] x, float[1,n,8] h) => (y, v) { y = Relu(x) v = Relu(h) }")
    assert value(state, "v").shape == (1, 1, 8), "the second axis of a recurrent state is the batch"


@pytest.mark.parametrize(("version", "known"), [(3, True), (8, False)])
def test_a_default_that_a_caller_may_replace_is_not_believed(analysis: Analyse, value: Find, version: int, known: bool) -> None:
    """Before IR version 4 every initializer was listed as an input too."""
    model = onnx.parser.parse_model(
        f'<ir_version: {version}, opset_import: ["" : 13]> g (float[1,8,4,4] x, int64[2] s) => (float[a,b] y)'
        " <int64[2] s = {8,16}> { y = Reshape(x, s) }"
    )
    assert (value(analysis(model), "y").shape == (8, 16)) is known


def test_long_symbols_are_cut_and_stay_apart(analysis: Analyse, value: Find) -> None:
    long = "s" * 10_000
    found = analysis(f"g (float[1,{long}a] x, float[1,{long}b] z) => (y, v) {{ y = Relu(x) v = Relu(z) }}")
    (_, a), (_, b) = value(found, "y").shape, value(found, "v").shape
    assert a != b
    assert max(len(a), len(b)) < 120


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_given_shape_binds_its_symbols(analysis: Analyse, value: Find, name: str) -> None:
    found = analysis(SHARED, shapes={name: (4, 8)})
    assert [value(found, n).shape for n in "abcyz"] == [(4, 8), (4, 8), (4,), (4, 8), (4,)]
    assert found.notes == ()
    assert not found.unknown


def test_a_given_shape_replaces_a_fixed_one(analysis: Analyse, value: Find) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[1,8,4,4] x) => (float[1,8,4,4] y)'
        " <float[1,8,4,4] r> { r = Relu(x) y = Neg(r) }"
    )
    found = analysis(model, shapes={"x": (2, 8, 6, 6)})
    assert [value(found, n).shape for n in "xry"] == [(2, 8, 6, 6)] * 3


def test_declared_shapes_of_foreign_operators_survive_the_batch(analysis: Analyse, value: Find) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20, "own" : 1]> g (float[n,8,4,4] x) => (float[n,16,4,4] y)'
        " <float[n,16,4,4] r> { r = own.Thing(x) y = Relu(r) }"
    )
    assert value(analysis(model), "y").shape == (1, 16, 4, 4)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"nope": (1,)}, "'nope', which is no input; the inputs are x"),
        ({"x": (1, 8)}, "2 axes and the input has 4"),
        ({"x": (1, 8, 4, 2**31)}, "between 0 and"),
        ({"x": (1, 8, 4, 10**30)}, "between 0 and"),
        ({"x": (1, 8, 3, 4)}, "'s' cannot be both 3 and 4"),
    ],
)
def test_impossible_shapes(analysis: Analyse, given: dict[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        analysis("g (float[n,8,s,s] x) => (float[n,8,s,s] y) { y = Relu(x) }", shapes=given)


def test_shapes_of_what_is_no_tensor() -> None:
    model = helper.make_model(helper.make_graph([], "g", [helper.make_tensor_sequence_value_info("q", 1, None)], []))
    with pytest.raises(UsageError, match="not a tensor"):
        fix_inputs(model, {"q": (1,)}, "m")


def test_an_input_without_any_shape(analysis: Analyse, value: Find) -> None:
    proto = helper.make_model(
        helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"])], "g", [helper.make_tensor_value_info("x", 1, None)],
            [helper.make_tensor_value_info("y", 1, None)],
        ), ir_version=10, opset_imports=[helper.make_opsetid("", 20)],
    )  # fmt: skip
    found = analysis(proto)
    assert found.unknown[value(found, "y")] == "input 'x' has no shape"
    assert value(analysis(proto, shapes={"x": (1, 2, 3)}), "y").shape == (1, 2, 3)


def test_weights_listed_as_inputs_are_no_inputs() -> None:
    model = helper.make_model(helper.make_graph([], "g", [helper.make_tensor_value_info("w", 1, ["n", 2])], []))
    model.graph.initializer.append(helper.make_tensor("w", 1, [2, 2], [0.0] * 4))
    assert fix_inputs(model, {}, "m").notes == []
    with pytest.raises(UsageError, match="is no input"):
        fix_inputs(model, {"w": (1, 2)}, "m")


# --- shape arithmetic -----------------------------------------------------------------------------------------------

LEGACY_FLATTEN = """g (float[1,8,6,4] x) => (float[?,?] y) {
  s = Shape(x)  zero = Constant<value = int64 {0}>()  n = Gather<axis = 0>(s, zero)
  ax = Constant<value = int64[1] {0}>()  n1 = Unsqueeze(n, ax)
  minus = Constant<value = int64[1] {-1}>()  target = Concat<axis = 0>(n1, minus)  y = Reshape(x, target)
}"""

# Window 3, stride 2, TensorFlow's "SAME": pad = max((ceil(h/2)-1)*2 + 3 - h, 0), split between both sides.
SAME_PADDING = """g (float[1,8,7,10] x) => (float[?,?,?,?] y) {
  s = Shape(x)  two = Constant<value = int64 {2}>()  i2 = Constant<value = int64 {2}>()  i3 = Constant<value = int64 {3}>()
  h = Gather<axis = 0>(s, i2)  w = Gather<axis = 0>(s, i3)
  f2 = Constant<value = float {2.0}>()  one = Constant<value = int64 {1}>()  k = Constant<value = int64 {3}>()
  hf = Cast<to = 1>(h)  hd = Div(hf, f2)  hc = Ceil(hd)  hi = Cast<to = 7>(hc)
  h1 = Sub(hi, one)  h2 = Mul(h1, two)  h3 = Add(h2, k)  h4 = Sub(h3, h)
  wf = Cast<to = 1>(w)  wd = Div(wf, f2)  wc = Ceil(wd)  wi = Cast<to = 7>(wc)
  w1 = Sub(wi, one)  w2 = Mul(w1, two)  w3 = Add(w2, k)  w4 = Sub(w3, w)
  low = Constant<value = int64 {0}>()  ph = Max(h4, low)  pw = Max(w4, low)
  pt = Div(ph, two)  pl = Div(pw, two)  pb = Sub(ph, pt)  pr = Sub(pw, pl)
  ax = Constant<value = int64[1] {0}>()
  pt1 = Unsqueeze(pt, ax)  pl1 = Unsqueeze(pl, ax)  pb1 = Unsqueeze(pb, ax)  pr1 = Unsqueeze(pr, ax)
  none = Constant<value = int64[2] {0, 0}>()
  pads = Concat<axis = 0>(none, pt1, pl1, none, pb1, pr1)
  padded = Pad(x, pads)  y = MaxPool<kernel_shape = [3,3], strides = [2,2]>(padded)
}"""

RESIZE_SIZES = """g (float[1,8,6,5] x, float[1,4,12,11] skip) => (float[?,?,?,?] y) {
  s = Shape(x)  head = Slice(s, zero1, two1, zero1)
  t = Shape(skip)  ends = Constant<value = int64[1] {4}>()  tail = Slice(t, two1, ends, zero1)
  sizes = Concat<axis = 0>(head, tail)  y = Resize<mode = "nearest">(x, , , sizes)
}"""


def with_constants(text: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 17]>\n{text}')
    for name, number in (("zero1", 0), ("two1", 2)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([number], np.int64), name))
    return model


@pytest.mark.parametrize(
    ("text", "expected"), [(LEGACY_FLATTEN, (1, 192)), (SAME_PADDING, (1, 8, 4, 5)), (RESIZE_SIZES, (1, 8, 12, 11))]
)
def test_legacy_shape_arithmetic(analysis: Analyse, value: Find, text: str, expected: tuple[int, ...]) -> None:
    found = analysis(with_constants(text))
    assert value(found, "y").shape == expected
    assert not found.unknown


def test_what_follows_from_a_repaired_value_is_repaired(analysis: Analyse, value: Find) -> None:
    """Integer powers and where-chains are beyond ONNX's own propagation; folding needs each before the next."""
    found = analysis("""g (float[1,8,4,4] x) => (float[?,?,?] y) {
      s = Shape(x)  i = Constant<value = int64 {2}>()  h = Gather<axis = 0>(s, i)  p = Pow(h, i)
      ax = Constant<value = int64[1] {0}>()  p1 = Unsqueeze(p, ax)
      head = Constant<value = int64[2] {1, -1}>()  target = Concat<axis = 0>(head, p1)
      r = Reshape(x, target)  q = Relu(r)  y = Transpose<perm = [2,0,1]>(q)
    }""")
    assert [value(found, n).shape for n in ("r", "q", "y")] == [(1, 8, 16), (1, 8, 16), (16, 1, 8)]
    assert not found.unknown


IF = """g (float[1,8,1,4] x, bool free) => (float[?,?,?] y) {{
  s = Shape(x)  i = Constant<value = int64 {{2}}>()  h = Gather<axis = 0>(s, i)  one = Constant<value = int64 {{{extent}}}>()
  known = Equal(h, one)  ax = Constant<value = int64[1] {{2}}>()
  v = If ({condition}) <then_branch = t () => (float[?,?,?] a) {{ a = Squeeze(x, ax) }},
                        else_branch = e () => (float[?,?,?,?] b) {{ b = Identity(x) }}>
  y = Relu(v)
}}"""


def test_the_branch_that_is_taken_tells_the_shape(analysis: Analyse, value: Find) -> None:
    assert value(analysis(IF.format(condition="known", extent=1)), "y").shape == (1, 8, 4)
    assert value(analysis(IF.format(condition="known", extent=7)), "y").shape == (1, 8, 1, 4)


def test_branches_of_different_rank_stay_unknown(analysis: Analyse, value: Find) -> None:
    found = analysis(IF.format(condition="free", extent=1))
    assert value(found, "v").shape is None
    assert "output shape of If" in found.unknown[value(found, "v")]
    assert "output shape of If" in found.unknown[value(found, "y")]


def test_branches_are_repaired_first(analysis: Analyse, value: Find) -> None:
    found = analysis("""g (bool c, float[1,8,4,4] x) => (float[?,?] y) {
      y = If (c) <then_branch = t () => (float[?,?] a) {
        s = Shape(x) i = Constant<value = int64 {2}>() h = Gather<axis = 0>(s, i) p = Pow(h, i)
        ax = Constant<value = int64[1] {0}>() p1 = Unsqueeze(p, ax) m = Constant<value = int64[1] {-1}>()
        target = Concat<axis = 0>(m, p1) a = Reshape(x, target) },
      else_branch = e () => (float[?,?] b) { k = Constant<value = int64[2] {8, 16}>() b = Reshape(x, k) }>
    }""")
    assert value(found, "y").shape == (8, 16)
    assert not found.unknown


# --- what stays unknown ---------------------------------------------------------------------------------------------


def test_first_reason_upstream(analysis: Analyse, value: Find) -> None:
    found = analysis("""g (float[1,8,4,4] x, float[1,8,h,4] other) => (int64[?,?] y) {
      hits = NonZero(x)  t = Transpose(hits)  y = Neg(t)  free = Relu(other)  mixed = Add(free, other)
    }""")
    reason = "the output shape of NonZero ('hits') depends on the data"
    assert [found.unknown[value(found, n)] for n in ("hits", "t", "y")] == [reason] * 3
    assert found.unknown[value(found, "mixed")] == "input 'other' has dynamic dimensions (h)"
    assert value(found, "x") not in found.unknown


def test_unknown_operators_are_the_reason(analysis: Analyse, value: Find) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20, "own" : 1]> g (float[1,8] x) => (float[?,?] y) { r = own.Thing(x) y = Relu(r) }'
    )
    found = analysis(model)
    assert found.unknown[value(found, "y")] == "own::Thing ('r') is not an operator of ONNX, so its output shape is not known"


def test_values_of_run_time_are_the_reason(analysis: Analyse, value: Find) -> None:
    found = analysis("g (float[1,8] x, int64[2] target) => (float[?,?] y) { y = Reshape(x, target) }")
    assert value(found, "y").shape == (None, None)
    assert found.unknown[value(found, "y")] == "the output shape of Reshape ('y') depends on run-time values"


def test_shapes_in_the_file_yield_to_the_operators(analysis: Analyse, value: Find) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]>'
        "g (float[1,8,4,4] x) => (float[1,8,9,9] y) <float[5] r> { r = Relu(x) y = Neg(r) }"
    )
    assert [value(analysis(model), n).shape for n in "ry"] == [(1, 8, 4, 4)] * 2


# --- what native inference refuses, and dies of ---------------------------------------------------------------------


def test_a_contradiction_is_refused(analysis: Analyse) -> None:
    text = "g (float[{n},8] x) => (float[?,?] y) {{ k = Constant<value = float[3,1] {{1, 2, 3}}>() y = Concat<axis = 1>(x, k) }}"
    with pytest.raises(ModelError, match="refuses the model") as caught:
        analysis(text.format(n=1))
    assert caught.value.kind == "invalid"
    assert "\n" not in str(caught.value)
    # With a batch that was a guess, the guess may be wrong and not the model.
    assert analysis(text.format(n="batch")).notes


def test_a_large_shape_tensor_is_cut_and_forgiven(analysis: Analyse, value: Find) -> None:
    """coatnet's position indices: a payload over the threshold is not there for ONNX's data propagation."""
    index = numpy_helper.from_array(np.zeros(1000, np.int64), "index")
    nodes = [
        helper.make_node("Unsqueeze", ["index", "axes"], ["u"]),
        helper.make_node("Gather", ["x", "u"], ["y"], axis=0),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, [5, 8])], [helper.make_tensor_value_info("y", 1, None)],
        [index, numpy_helper.from_array(np.array([0], np.int64), "axes")],
    )  # fmt: skip
    found = analysis(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]))
    assert value(found, "y").shape == (1, 1000, 8)


def test_functions_of_onnx_whose_bodies_do_not_infer(analysis: Analyse, value: Find) -> None:
    found = analysis("g (float[1,8,4,4] x) => (float[1,8,4,4] y) { m = MeanVarianceNormalization(x) y = Relu(m) }", opset=13)
    assert value(found, "y").shape == (1, 8, 4, 4)


def test_inference_that_aborts(analysis: Analyse) -> None:
    """onnx 1.23 writes behind the end of a list where Split has an output more than `split` has parts."""
    split = helper.make_node("Split", ["x", "parts"], ["a", "b", "c", "d"], axis=1)
    graph = helper.make_graph(
        [split], "g", [helper.make_tensor_value_info("x", 1, [1, 6])], [helper.make_tensor_value_info("a", 1, None)],
        [numpy_helper.from_array(np.array([2, 2, 2], np.int64), "parts")],
    )  # fmt: skip
    before = time.monotonic()
    with pytest.raises(ModelError) as caught:
        analysis(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)]))
    assert caught.value.kind in {"crashed", "invalid"}
    assert time.monotonic() - before < 300, "it blocks"


@pytest.mark.parametrize(
    ("status", "kind"), [("timeout", "timeout"), ("memory", "limit"), ("crash", "crashed"), ("error", "invalid")]
)
def test_whatever_happens_to_the_child_is_a_model_error(
    analysis: Analyse, monkeypatch: pytest.MonkeyPatch, status: str, kind: str
) -> None:
    monkeypatch.setattr(Standing, "ask", lambda _, content: sandbox.Child(lambda: content))
    monkeypatch.setattr(sandbox.Child, "result", lambda _: sandbox.Outcome(status, b"some\nreason"))
    with pytest.raises(ModelError) as caught:
        analysis("g (float[1] x) => (float[1] y) { y = Relu(x) }")
    assert caught.value.kind == kind
    assert "\n" not in str(caught.value)


def test_types(analysis: Analyse, value: Find) -> None:
    found = analysis("g (float[1,4] x) => (float16[1,4] y) { i = Cast<to = 7>(x) b = Equal(i, i) y = Cast<to = 10>(x) }")
    wanted = [TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT16]
    assert [value(found, n).dtype for n in "xiby"] == wanted


def test_initializers_and_captures_in_bodies(analysis: Analyse, value: Find) -> None:
    found = analysis("""g (bool c, float[1,4] x, float[4,2] w = {1,2,3,4,5,6,7,8}) => (float[1,2] y) {
      y = If (c) <then_branch = t () => (float[?,?] a) { m = MatMul(x, w) a = Relu(m) },
                  else_branch = e () => (float[?,?] b) { n = MatMul(x, w) b = Neg(n) }>
    }""")
    assert [value(found, n).shape for n in "manby"] == [(1, 2)] * 5


def test_dynamic_chains_take_no_time_of_their_own(analysis: Analyse) -> None:
    nodes = [helper.make_node("Relu", ["x" if i == 0 else f"v{i - 1}"], [f"v{i}"]) for i in range(6_000)]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, [1, 8, "h", "w"])], [helper.make_tensor_value_info("v5999", 1, None)]
    )
    proto = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    before = time.process_time()
    found = analysis(proto)
    assert len(found.unknown) == 6_001
    assert time.process_time() - before < 5
