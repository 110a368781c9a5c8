"""Kinds of inputs: each shows a change that others hide; what a graph does to an input tells what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from npu_guard.analysis.analyze import analyze
from npu_guard.file.load import load
from npu_guard.verification.drawing import Spec, draw
from npu_guard.verification.feeds import TURNS, input_specs

if TYPE_CHECKING:
    from conftest import Cli, Write

KINDS = sorted({kind for turn in TURNS for kind in turn})
CONSTANTS = """<int64[1] ax = {1}, float zero = {0.0}, float one = {1.0}, float less = {-1.0}, float more = {1.0001},
    float bound = {1000.0}, float small = {0.001}>"""
FUNCTIONS = {
    "a bound at 1000": ("y = Relu(x)", "y = Clip(x, zero, bound)"),
    "only negative": ("y = LeakyRelu<alpha = 0.01>(x)", "y = LeakyRelu<alpha = 0.011>(x)"),
    "only at zero": ("y = Sign(x)", "b = Less(x, zero)  y = Where(b, less, one)"),
    "a factor behind a mean": ("a = ReduceMean(x)  y = Sub(x, a)", "a = ReduceMean(x)  s = Sub(x, a)  y = Mul(s, more)"),
    "an epsilon": ("y = LpNormalization<axis = 1>(x)", "a = ReduceL2(x, ax)  d = Add(a, small)  y = Div(x, d)"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_change_that_few_inputs_show(cli: Cli, write: Write, name: str) -> None:
    for body, file in zip(FUNCTIONS[name], ("net.onnx", "other.onnx"), strict=True):
        write(f"g (float[1,3,16,16] x) => (float[1,3,16,16] y) {CONSTANTS} {{ {body} }}", file)
    assert cli("verify", "net.onnx", "other.onnx").code == 5


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_bytes_are_drawn_from_their_whole_range(cli: Cli, write: Write, kind: str) -> None:
    graph = f"""g ({kind}[1,3,16,16] x) => (float[1,3,16,16] y)
        {{ f = Cast<to = 1>(x)  h = Constant<value = float {{BOUND}}>()  y = Min(f, h) }}"""
    write(graph.replace("BOUND", "300.0"))
    write(graph.replace("BOUND", "126.0"), "other.onnx")
    assert cli("verify", "net.onnx", "other.onnx").code == 5


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64", "int32", "uint16", "bool", "float16", "float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (1, 3, 16, 16), (2, 5)])
def test_every_kind_is_drawn_for_every_type(kind: str, dtype: str, shape: tuple[int, ...]) -> None:
    spec = Spec("x", np.dtype(dtype), shape, free=True)
    array = draw(spec, kind, 1)
    assert (array.shape, array.dtype) == (shape, spec.dtype)
    assert np.array_equal(array, draw(spec, kind, 1))
    assert array.dtype.kind != "f" or np.isfinite(array).all()


def test_an_image_is_smooth_and_has_edges() -> None:
    image = draw(Spec("x", np.dtype(np.float32), (1, 3, 32, 32)), "image", 0)
    steps = np.abs(np.diff(image, axis=3))
    assert image.min() >= 0
    assert 128 < image.max() <= 255
    assert np.median(steps) < 12
    assert steps.max() > 60


def role(write: Write, graph: str, name: str = "x") -> Spec:
    analysis = analyze(load(write(graph)))
    return next(s for s in input_specs(analysis.model.graph.inputs, analysis.constants) if s.name == name)


TABLE = "<float[50,8] table> {{ {} }}"


@pytest.mark.parametrize(
    ("body", "high"),
    [
        ("y = Gather(table, x)", 50), ("c = Cast<to = 6>(x)  y = Gather(table, c)", 50),
        ("a = Constant<value = int64[1] {0}>()  u = Unsqueeze(x, a)  y = Gather(table, u)", 50),
        ("i = Constant<value = int64[1] {1}>()  s = Add(x, i)  y = Gather(table, s)", 2), ("y = Gather<axis = 1>(table, x)", 8),
    ],
)  # fmt: skip
def test_indices_stay_indices(write: Write, body: str, high: int) -> None:
    spec = role(write, f"g (int64[4] x) => (y) {TABLE.format(body)}")
    assert (spec.high, spec.free) == (high, False)
    for kind in KINDS:
        array = draw(spec, kind, 0)
        least = -high if kind == "negative" and spec.wraps else 0
        assert least <= array.min() <= array.max() < (spec.most if spec.most and kind in ("scaled", "levels") else high)


@pytest.mark.parametrize("body", ["y = Gather(table, x)", "c = Cast<to = 6>(x)  y = Gather(table, c)"])
def test_an_index_may_count_from_the_end(cli: Cli, write: Write, body: str) -> None:
    graph = f"g (int64[4] x) => (y) <float[50,8] table, int64 zero = {{0}}> {{ {body} }}"
    write(graph)
    changed = graph.replace("{ y", "{ p = Max(x, zero)  y").replace("{ c", "{ p = Max(x, zero)  c")
    assert cli("verify", "net.onnx", str(write(graph, "same.onnx"))).code == 0
    assert (
        cli(
            "verify", "net.onnx", str(write(changed.replace("(x)  y", "(p)  y").replace("table, x", "table, p"), "other.onnx"))
        ).code
        == 5
    )


def test_each_coordinate_goes_as_far_as_its_axis(cli: Cli, write: Write) -> None:
    graph = "g (float[4,9] d, int64[3,2] x) => (y) <int64[2] most = {3, 8}> { m = Min(x, most)  y = GatherND(d, INDEX) }"
    write(graph.replace("INDEX", "x"))
    spec = role(write, graph.replace("INDEX", "x"))
    assert (spec.extents, spec.wraps) == ((4, 9), True)
    drawn = np.concatenate([draw(spec, kind, seed) for kind in KINDS for seed in range(9)])
    assert (drawn.min(axis=0).tolist(), drawn.max(axis=0).tolist()) == ([-4, -9], [3, 8])
    assert cli("verify", "net.onnx", str(write(graph.replace("INDEX", "m"), "other.onnx"))).code == 0
    assert cli("verify", "net.onnx", str(write(graph.replace("INDEX", "m").replace("{3, 8}", "{3, 7}"), "other.onnx"))).code == 5


def test_a_size_is_no_index_and_stays_small(write: Write) -> None:
    spec = role(write, "g (float[1,4] d, int64[1] x) => (y) { y = Tile(d, x) }".replace("int64[1] x", "int64[2] x"))
    assert (spec.high, spec.most, spec.free) == (2, 9, False)


COUNTS = {
    "steps of a loop": (
        "int64 n, float[1,4] x", "int64 most = {5}, bool go = {1}",
        "k = Min(n, most)  y = Loop<body = b (int64 i, bool c, float[1,4] s) => (bool d, float[1,4] t)"
        " { d = Identity(c)  t = Add(s, x) }>(k, go, x)",
    ),
    "an index that is bounded": ("int64[3] n", "int64 most = {5}, float[50,4] w", "k = Min(n, most)  y = Gather(w, k)"),
    "an index behind a sum": ("int64[3] n", "int64 most = {5}, float[50,4] w", "k = Add(n, most)  y = Gather(w, k)"),
    "how often a row is repeated": (
        "int64[2] n, float[1,4] x", "int64 most = {5}, int64 one = {1}", "m = Min(n, most)  k = Max(m, one)  y = Tile(x, k)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize(("bound", "code"), [(5, 0), (4, 5), (6, 5)])
def test_a_count_is_drawn_around_the_bound_of_a_model(cli: Cli, write: Write, name: str, bound: int, code: int) -> None:
    inputs, weights, body = COUNTS[name]
    write(f"g ({inputs}) => (y) <{weights}> {{ {body} }}")
    write(f"g ({inputs}) => (y) <{weights.replace('{5}', f'{{{bound}}}')}> {{ {body} }}", "other.onnx")
    assert cli("verify", "net.onnx", "other.onnx").code == code


def test_an_index_that_the_model_refuses_is_made_smaller(cli: Cli, write: Write) -> None:
    """Behind a sum, few indices are left that the table has."""
    graph = "g (int64[3] n) => (y) <int64 most = {48}, float[50,4] w> { k = Add(n, most)  y = Gather(w, k) }"
    write(graph)
    assert cli("verify", "net.onnx", str(write(graph.replace("Add(n, most)", "Add(most, n)"), "other.onnx"))).code == 0
    assert cli("verify", "net.onnx", str(write(graph.replace("48", "47"), "other.onnx"))).code == 5


def test_a_mask_may_be_any_integer(write: Write) -> None:
    assert role(write, "g (int64[4] x) => (y) { y = Cast<to = 1>(x) }").free


@pytest.mark.parametrize(
    ("body", "span"),
    [
        ("k = Constant<value = float {255.0}>()  y = Div(x, k)", (0.0, 255.0)),
        ("k = Constant<value = float {0.003921569}>()  y = Mul(x, k)", (0.0, 255.0)),
        ("k = Constant<value = float {123.7}>()  y = Sub(x, k)", (0.0, 255.0)),
        ("k = Constant<value = float {0.485}>()  y = Sub(x, k)", (0.0, 1.0)),
        ("a = Constant<value = float {-1.0}>()  b = Constant<value = float {3.0}>()  y = Clip(x, a, b)", (-3.0, 5.0)),
        ("y = Relu(x)", None),
    ],
)  # fmt: skip
def test_what_a_graph_does_to_an_input_tells_its_range(write: Write, body: str, span: tuple[float, float] | None) -> None:
    found = role(write, f"g (float[1,3,8,8] x) => (y) {{ {body} }}").span
    assert found == (None if span is None else pytest.approx(span))


def test_a_logarithm_takes_negative_numbers_in_two_kinds_alone(write: Write) -> None:
    spec = role(write, "g (float[1,3,8,8] x) => (y) { y = Log(x) }")
    assert {kind for kind in KINDS if draw(spec, kind, 0).min() < 0} == {"negative", "edge"}


def test_large_numbers_are_made_smaller_where_nothing_finite_comes_out(cli: Cli, write: Write) -> None:
    """exp overflows at 89: the last bound shows below that."""
    graph = """g (float[1,3,8,8] x) => (float[1,3,8,8] y)
        { n = Abs(x)  h = Constant<value = float {BOUND}>()  m = Min(n, h)  y = Exp(m) }"""
    write(graph.replace("BOUND", "1000.0"))
    write(graph.replace("BOUND", "1000.0"), "other.onnx")
    assert cli("verify", "net.onnx", "other.onnx").code == 0
    write(graph.replace("BOUND", "80.0"), "other.onnx")
    assert cli("verify", "net.onnx", "other.onnx").code == 5


MODE = """g (float[1,8] x, int64 sr) => (float[1,8] y) <int64 k = {16000}, float two = {2.0}> {
    e = Equal(sr, k)
    y = If(e) <then_branch = t () => (float[1,8] a) { a = BODY },
               else_branch = f () => (float[1,8] b) { s = Unsqueeze(sr, one) i = Gather<axis = 1>(x, s) b = Mul(x, i) }>
}"""


def test_a_mode_takes_the_values_that_the_graph_asks_for(cli: Cli, write: Write) -> None:
    """Any other value is an index out of range, and of none that is drawn at random would the branch be seen."""
    mode = MODE.replace("two = {2.0}", "two = {2.0}, int64[1] one = {0}")
    write(mode.replace("BODY", "Relu(x)"))
    write(mode.replace("BODY", "Max(x)"), "other.onnx")
    assert cli("verify", "net.onnx", "net.onnx").code == 0
    assert cli("verify", "net.onnx", "other.onnx").code == 5
    write(mode.replace("BODY", "Relu(x)").replace("16000", "8000"), "other.onnx")
    assert cli("verify", "net.onnx", "other.onnx").code == 5


NAIVE = "e = Exp(x)  s = ReduceSum(e, ax)  y = Div(e, s)"


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        (NAIVE, "y = Softmax<axis = 1>(x)", 0),  # large numbers are none that the first model is made for
        ("y = Softmax<axis = 1>(x)", NAIVE, 5),  # the second one gives NaN where the first does not
        ("y = Sqrt(x)", "a = Abs(x)  y = Sqrt(a)", 5),  # numbers below zero are nothing unusual
        ("y = Log(x)", "m = Max(x, small)  y = Log(m)", 5), ("y = Reciprocal(x)", "m = Add(x, small)  y = Reciprocal(m)", 5),
    ],
)  # fmt: skip
def test_what_is_not_finite_before(cli: Cli, write: Write, before: str, after: str, code: int) -> None:
    for body, file in ((before, "net.onnx"), (after, "other.onnx")):
        write(f"g (float[1,16] x) => (float[1,16] y) {CONSTANTS} {{ {body} }}", file)
    done = cli("verify", "net.onnx", "other.onnx")
    assert done.code == code
    assert ("not compared where large inputs give nothing finite in the first model" in done.out) == (code == 0)


ONE_HOT = """g (int64[1,6] x) => (float[1,6,4] y) <int64[1] a = {2}, int64[4] k = {0, 1, 2, 3}, float s = {1}> {
    u = Unsqueeze(x, a)  e = Equal(u, k)  h = Cast<to = 1>(e)  y = Mul(h, s) }"""


def test_what_is_encoded_as_one_hot_is_drawn_inside_and_outside(cli: Cli, write: Write) -> None:
    spec = role(write, ONE_HOT)
    inside = draw(spec, "normal", 0)
    assert set(inside.reshape(-1).tolist()) <= {0, 1, 2, 3}
    assert len(set(inside.reshape(-1).tolist())) > 1
    assert not set(draw(spec, "edge", 0).reshape(-1).tolist()) <= {0, 1, 2, 3}
    write(ONE_HOT)
    write(ONE_HOT.replace("k = {0, 1, 2, 3}", "k = {0, 1, 2, 4}"), "other.onnx")
    assert cli("verify", "net.onnx", "other.onnx").code == 5
    clamped = ONE_HOT.replace("float s", "int64 m = {3}, float s").replace(
        "u = Unsqueeze(x, a)", "b = Min(x, m)  u = Unsqueeze(b, a)"
    )
    write(clamped, "other.onnx")  # the same inside, and no zeros outside
    assert cli("verify", "net.onnx", "other.onnx").code == 5
