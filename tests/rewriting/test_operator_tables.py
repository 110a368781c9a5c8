"""What single operators become: on widened channels, on tokens, on folded depths. One row, one operator, one form of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from npu_guard.analysis.analyze import analyze
from npu_guard.analysis.channels.flow import Flow, Form
from npu_guard.analysis.channels.operators import OPERATORS
from npu_guard.analysis.facts import Facts
from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case
from npu_guard.file.load import load
from npu_guard.rewriting.substitution import Refused

Rewrite = Callable[..., list[str]]
BEHIND_A_CONVOLUTION = {
    # body, constants: (channels, channels to a unit, whether paddings are zeros), or None where the channels end
    ("y = Relu(c)", ""): (8, 1, True),
    ("y = Sigmoid(c)", ""): (8, 1, False),
    ("y = Exp(c)", ""): (8, 1, False),
    ("s = Sigmoid(c)  y = Exp(s)", ""): None,  # of a padding that is no zero nobody knows whether exp stays finite
    ("y = Sqrt(c)", ""): (8, 1, True),
    ("y = Acos(c)", ""): (8, 1, False),
    ("y = Log(c)", ""): None,  # minus infinity at zero
    ("y = Clip(c, low)", "float low = {1.0}"): (8, 1, False),
    ("y = Clip(c, low)", "float low = {-1.0}"): (8, 1, True),
    ("y = Cast<to = 10>(c)", ""): (8, 1, True),
    ("y = Cast<to = 7>(c)", ""): None,
    ("y = GlobalMaxPool(c)", ""): (8, 1, True),
    ("y = Softmax<axis = 2>(c)", ""): (8, 1, False),
    ("y = LogSoftmax<axis = 2>(c)", ""): (8, 1, False),
    ("y = Softmax<axis = 1>(c)", ""): None,
    ("y = Add(c, k)", "float[8,1,1] k"): (8, 1, True),
    ("y = Add(c, k)", "float[1] k = {2.0}"): (8, 1, False),  # paddings are 2 then
    ("y = Mul(c, k)", "float[1] k = {2.0}"): (8, 1, True),
    ("y = Div(c, k)", "float[8,1,1] k"): (8, 1, True),  # the divisor is padded with ones
    ("y = Div(k, c)", "float[8,1,1] k"): None,
    ("y = Mod<fmod = 1>(c, k)", "float[8,1,1] k"): None,
    ("y = Concat<axis = 1>(c, k)", "float[1,2,6,6] k"): (10, 1, True),
    ("y, t = Split<axis = 1>(c, p)", "int64[2] p = {3,5}"): (3, 1, True),
    ("y, t = Split<axis = 2>(c, p)", "int64[2] p = {2,4}"): (8, 1, True),
    ("y = Slice(c, s, e, a)", "int64[1] a = {1}, int64[1] s = {2}, int64[1] e = {7}"): (5, 1, True),
    ("y = Slice(c, s, e, a)", "int64[1] a = {-3}, int64[1] s = {-6}, int64[1] e = {100}"): (6, 1, True),
    ("y = Slice(c, s, e, a)", "int64[1] a = {2}, int64[1] s = {2}, int64[1] e = {5}"): (8, 1, True),
    ("y = Slice(c, s, e, a, t)", "int64[1] a = {1}, int64[1] s = {2}, int64[1] e = {7}, int64[1] t = {2}"): None,
    ("y = Pad(c, p)", "int64[8] p = {0,0,1,1,0,0,1,1}"): (8, 1, True),
    ("y = Pad(c, p)", "int64[8] p = {0,1,0,0,0,0,0,0}"): None,
    ("y = ReduceMean(c, a)", "int64[2] a = {2,3}"): (8, 1, True),
    ("y = ReduceMean(c, a)", "int64[1] a = {1}"): None,
    ("y = Flatten(c)", ""): (8, 36, True),
    ("y = Reshape(c, t)", "int64[3] t = {0,-1,36}"): (8, 1, True),
    ("y = Reshape(c, t)", "int64[4] t = {0,4,12,6}"): None,
    ("y = Transpose<perm = [0,1,3,2]>(c)", ""): (8, 1, True),
    ("y = Transpose<perm = [0,2,3,1]>(c)", ""): None,
}


def flow_of(body: str, constants: str, opset: int, folder: Path) -> Flow:
    weights = ", ".join(filter(None, ("float[8,4,1,1] w", constants)))
    graph = f"g (float[1,4,6,6] x) => (y) <{weights}> {{ c = Conv(x, w)  {body} }}"
    (folder / "m.onnx").write_bytes(case_model(Case(graph, opset=opset)).SerializeToString())
    return Flow(Facts(analyze(load(folder / "m.onnx"))), OPERATORS)


def form_of(flow: Flow, name: str) -> Form | None:
    return next((form for value, form in flow.forms.items() if value.name == name), None)


@pytest.mark.parametrize(("body", "constants"), BEHIND_A_CONVOLUTION, ids=lambda text: text or "no constants")
def test_channels(body: str, constants: str, tmp_path: Path) -> None:
    form = form_of(flow_of(body, constants, 20, tmp_path), "y")
    found = None if form is None else (form.units, form.factor, form.zero)
    assert found == BEHIND_A_CONVOLUTION[body, constants]


@pytest.mark.parametrize(
    ("opset", "body", "units"),
    [
        (9, "y = Slice<axes = [1], starts = [2], ends = [7]>(c)", 5),
        (9, "y = Slice<axes = [1], starts = [-3], ends = [2147483647]>(c)", 3),
        (9, "y = Slice<starts = [0,1], ends = [1,4]>(c)", None),  # of batch and channels at once
        (11, "y, t = Split<axis = 1, split = [3,5]>(c)", 3),
        (10, "y = Pad<pads = [0,0,1,1,0,0,1,1]>(c)", 8),
        (12, "y = Softmax<axis = 2>(c)", None),  # over axis 2 and those behind it, once one axis
        (17, "y = ReduceMean<axes = [2,3]>(c)", 8),
    ],
)
def test_channels_in_older_opsets(opset: int, body: str, units: int | None, tmp_path: Path) -> None:
    form = form_of(flow_of(body, "", opset, tmp_path), "y")
    assert (None if form is None else form.units) == units


def test_zeros_add_nothing_to_a_sum_over_channels(tmp_path: Path) -> None:
    for op, carried in (("ReduceSum", True), ("ReduceL2", True), ("ReduceMean", False), ("ReduceProd", False)):
        flow = flow_of(f"y = {op}(c, a)", "int64[1] a = {1}", 20, tmp_path)
        assert (op in {node.op_type for node in flow.carries}) == carried, op


_NORM = ["ReduceMean", "Sub", "Mul", "ReduceMean", "Add", "Sqrt", "Div", "Mul"]
ON_TOKENS = {
    # body from t [1,15,6] to r, constants: operators on the map [1,6,3,5]
    ("r = Atan(t)", ""): ["Atan"],
    ("r = Clip(t, low)", "float low = {0.25}"): ["Clip"],
    ("r = Sum(t, t, k)", "float[1,15,6] k"): ["Sum"],
    ("r = Mul(t, k)", "float[6] k"): ["Mul"],
    ("r = Pow(t, two)", "float two = {2.0}"): ["Mul"],
    ("m = ReduceL2(t, l)  r = Mul(t, m)", "int64[1] l = {-1}"): ["ReduceL2", "Mul"],
    ("m = ReduceSumSquare(t, l)  r = Mul(t, m)", "int64[1] l = {1}"): ["ReduceSumSquare", "Mul"],
    ("m = ReduceLogSumExp(t, l)  r = Sub(t, m)", "int64[1] l = {-1}"): ["ReduceLogSumExp", "Sub"],
    ("u = Unsqueeze(t, o)  q = ReduceL1<keepdims = 0>(u, o)  r = Relu(q)", "int64[1] o = {1}"): ["Abs", "Relu"],
    ("u = Unsqueeze(t, o)  q = ReduceSumSquare<keepdims = 0>(u, o)  r = Relu(q)", "int64[1] o = {1}"): ["Mul", "Relu"],
    ("u = Unsqueeze(t, o)  q = ReduceMean<keepdims = 0>(u, o)  r = Relu(q)", "int64[1] o = {1}"): ["Relu"],
    ("r = Softmax<axis = -1>(t)", ""): ["Softmax"],
    ("r = Softmax<axis = 1>(t)", ""): "softmax runs over positions",
    ("r = Slice(t, s, e, two)", "int64[1] s = {1}, int64[1] e = {4}, int64[1] two = {2}"): ["Slice"],
    ("p, q = Split<axis = 2>(t, parts)  r = Concat<axis = 2>(q, p)", "int64[2] parts = {2,4}"): ["Split", "Concat"],
    ("r = Gather<axis = 2>(t, i)", "int64[2] i = {1,0}"): "Gather of several positions or channels",
    ("r = MatMul(t, w)", "float[6,7] w"): ["Conv"],
    (
        "f = Reshape(t, flatter)  g = Gemm<alpha = 0.5, transB = 1>(f, w, b)  r = Reshape(g, three)",
        "int64[2] flatter = {15,6}, int64[3] three = {1,15,7}, float[7,6] w, float[7] b",
    ): ["Conv"],
    ("r = LayerNormalization(t, s)", "float[6] s"): _NORM,
}


@pytest.mark.parametrize(("body", "constants"), ON_TOKENS, ids=lambda text: text or "no constants")
def test_tokens(body: str, constants: str, rewrite: Rewrite) -> None:
    """By ONNX's reference implementation the map gives what the tokens gave, on an odd grid of 3 x 5 positions."""
    weights = ", ".join(filter(None, ("int64[3] flat = {1,6,15}, int64[4] back = {1,-1,3,5}", constants)))
    graph = f"""g (float[1,6,3,5] x) => (y) <{weights}>
    {{ a = Reshape(x, flat)  t = Transpose<perm = [0,2,1]>(a)  {body}
       n = Transpose<perm = [0,2,1]>(r)  y = Reshape(n, back) }}"""
    expected = ON_TOKENS[body, constants]
    if isinstance(expected, str):
        with pytest.raises(Refused, match=expected):
            rewrite("tokens-to-maps", graph, {"layout.rearrange": False})
        return
    assert rewrite("tokens-to-maps", graph, {"layout.rearrange": False}) == expected


ON_DEPTHS = {
    # body from c [1,4,3,5,5] to y, constants: operators that compute on maps [1,12,5,5]
    ("y = Atan(c)", ""): ["Atan"],
    ("y = Softsign(c)", ""): ["Softsign"],
    ("y = Sum(c, c, k)", "float[4,1,1,1] k"): ["Sum"],
    ("y = Mean(c, k)", "float[1,4,3,5,5] k"): ["Mean"],
    ("y = Mod<fmod = 1>(c, k)", "float[1,1,3,1,1] k = {1.5, 2.5, 0.75}"): ["Mod"],
    ("y = Max(c, k)", "float[5,5] k"): ["Max"],
    ("y = Softmax<axis = 1>(c)", ""): ["Softmax", "Softmax", "Softmax"],
    ("y = ReduceMax(c, a)", "int64[3] a = {2,3,4}"): ["ReduceMax", "Max"],
    ("y = GlobalAveragePool(c)", ""): ["GlobalAveragePool", "Add", "Add", "Mul"],
    ("y = BatchNormalization(c, s, s, s, v)", "float[4] s, float[4] v = {1,2,3,4}"): ["BatchNormalization"],
}


@pytest.mark.parametrize(("body", "constants"), ON_DEPTHS, ids=lambda text: text or "no constants")
def test_depths(body: str, constants: str, rewrite: Rewrite) -> None:
    weights = ", ".join(filter(None, ("float[4,2,1,3,3] w", constants)))
    graph = f"g (float[1,2,3,5,5] x) => (y) <{weights}> {{ c = Conv<pads = [0,1,1,0,1,1]>(x, w)  {body} }}"
    operators = rewrite("rank5-to-rank4", graph, {"tensor.rank_max": 4})
    moving = {"Split", "Squeeze", "Unsqueeze", "Concat", "Reshape", "Transpose", "Slice", "Conv"}
    assert [op for op in operators if op not in moving] == ON_DEPTHS[body, constants]


@pytest.mark.parametrize(
    ("body", "constants", "operators"),
    [
        ("r = Swish(c)", "", ["Swish"]),
        ("r = Atan(c)", "", ["Atan"]),
        ("r = ReduceProd(c, a)", "int64[1] a = {1}", ["ReduceProd"]),
        ("r = Softmax<axis = 1>(c)", "", ["Softmax"]),
        ("r = Slice(c, s, e, a)", "int64[1] s = {1}, int64[1] e = {9}, int64[1] a = {-1}", ["Slice"]),
        ("r = Pad(c, p)", "int64[6] p = {0,0,1,0,0,2}", ["Pad"]),
    ],
)
def test_one_dimension(body: str, constants: str, operators: list[str], rewrite: Rewrite) -> None:
    weights = ", ".join(filter(None, ("float[6,4,3] w", constants)))
    graph = f"g (float[1,4,13] x) => (y) <{weights}> {{ c = Conv(x, w)  {body}  y = Neg(r) }}"
    expected = ["Unsqueeze", "Conv", *operators, "Neg", "Squeeze"]
    assert rewrite("conv1d-to-conv2d", graph, {"conv.rank": [4]}, opset=24) == expected
