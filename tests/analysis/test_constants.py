"""Folding against ONNX Runtime, which shares no code with it, and ONNX's reference evaluator where the runtime lacks a type."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from npu_guard.analysis import constants
from npu_guard.analysis.evaluate import OPERATORS
from npu_guard.analysis.formula import compiled
from npu_guard.file.skeleton import Skeleton
from npu_guard.graph.build import build
from npu_guard.graph.graph import Model, Node, Value
from npu_guard.graph.ops import operators

Array = np.ndarray[Any, Any]
I64 = np.iinfo(np.int64)
SMALL = st.integers(-5, 5)
WHOLE = st.integers(I64.min, I64.max) | SMALL | st.sampled_from([I64.min, I64.max, I64.min + 1])
SETTINGS = settings(max_examples=20, deadline=None)

runtime = pytest.importorskip("onnxruntime")
OPTIONS = runtime.SessionOptions()
OPTIONS.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
OPTIONS.intra_op_num_threads = 1
OPTIONS.log_severity_level = 4


def make(op: str, inputs: Sequence[Array | None], opset: int, outputs: int, attributes: dict[str, Any]) -> onnx.ModelProto:
    names = ["" if x is None else f"i{n}" for n, x in enumerate(inputs)]
    given = [
        helper.make_tensor_value_info(f"i{n}", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for n, x in enumerate(inputs)
        if x is not None
    ]
    made = [f"o{n}" for n in range(outputs)]
    node = helper.make_node(op, names, made, **attributes)
    graph = helper.make_graph([node], "g", given, [onnx.ValueInfoProto(name=n) for n in made])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def as_node(model: onnx.ModelProto) -> Node:
    return build(Skeleton("m", model, {}, model.opset_import[0].version)).graph.nodes[0]


def run(model: onnx.ModelProto, inputs: Sequence[Array | None]) -> list[Array] | None:
    """ONNX Runtime's word; the reference evaluator's where the runtime has no kernel; None where neither accepts the model."""
    feed = {f"i{n}": x for n, x in enumerate(inputs) if x is not None}
    try:
        session = runtime.InferenceSession(model.SerializeToString(), OPTIONS, providers=["CPUExecutionProvider"])
    except Exception as error:
        if "NOT_IMPLEMENTED" not in str(error):
            return None
        try:
            with np.errstate(all="ignore"):
                return [np.asarray(x) for x in ReferenceEvaluator(model).run(None, feed)]
        except Exception:
            return None
    try:
        return [np.asarray(x) for x in session.run(None, feed)]
    except Exception:
        return None


def agree(op: str, inputs: Sequence[Array | None], opset: int = 20, outputs: int = 1, **attributes: Any) -> list[Array] | None:
    """Fold, and hold it against the runtime. Folding may give up; where it does not, it is right."""
    model = make(op, inputs, opset, outputs, attributes)
    folded = constants.evaluate(as_node(model), list(inputs))
    if folded is None:
        return None
    wanted = run(model, inputs)
    assert wanted is not None, f"{op} is folded to {folded}, and nobody runs it"
    assert len(folded) == len(wanted)
    for ours, theirs in zip(folded, wanted, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-6 if ours.dtype.kind == "f" else 0)
    return folded


def must_agree(op: str, inputs: Sequence[Array | None], opset: int = 20, outputs: int = 1, **attributes: Any) -> list[Array]:
    folded = agree(op, inputs, opset, outputs, **attributes)
    assert folded is not None, f"{op} is not folded"
    return folded


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def arrays(
    elements: st.SearchStrategy[Any] = SMALL, dtype: Any = np.int64, rank: int = 3, least: int = 0
) -> st.SearchStrategy[Array]:
    return hnp.arrays(dtype, hnp.array_shapes(min_dims=least, max_dims=rank, max_side=3), elements=elements)


FLOATS = st.floats(-8, 8, width=32).map(lambda v: round(v * 4) / 4)
pairs = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3)

COVERED: set[str] = set()


def covers(*ops: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    COVERED.update(ops)
    return lambda function: function


@st.composite
def two(draw: st.DrawFn, dtype: Any, elements: st.SearchStrategy[Any]) -> tuple[Array, Array]:
    first, second = draw(pairs).input_shapes
    return draw(hnp.arrays(dtype, first, elements=elements)), draw(hnp.arrays(dtype, second, elements=elements))


@covers("Add", "Sub", "Mul", "Min", "Max")
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Min", "Max"])
@given(pair=two(np.int64, WHOLE) | two(np.float32, FLOATS) | two(np.int32, SMALL))
@SETTINGS
def test_arithmetic(op: str, pair: tuple[Array, Array]) -> None:
    must_agree(op, pair)


@covers("Div")
@given(pair=two(np.int64, WHOLE) | two(np.int32, SMALL) | two(np.uint8, st.integers(0, 255)))
@SETTINGS
def test_integer_division_truncates(pair: tuple[Array, Array]) -> None:
    a, b = pair
    if not b.all():
        assert agree("Div", pair) is None
        return
    if a.dtype != np.uint8 and a.size and b.size and a.min() == np.iinfo(a.dtype).min and (b == -1).any():
        return  # the one quotient that does not exist; the runtime dies of it
    folded = must_agree("Div", pair)[0]
    flat = (np.broadcast_to(v, folded.shape).ravel().tolist() for v in (a, b))
    exact = [abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1) for x, y in zip(*flat, strict=True)]
    assert folded.ravel().tolist() == exact


@given(pair=two(np.float32, FLOATS))
@SETTINGS
def test_float_division(pair: tuple[Array, Array]) -> None:
    must_agree("Div", pair)


def test_division_by_zero_is_not_folded() -> None:
    for op in ("Div", "Mod"):
        assert agree(op, [ints(1, 2), ints(1, 0)]) is None


def test_most_negative_number_does_not_end_the_process() -> None:
    node = as_node(make("Div", [ints(I64.min), ints(-1)], 20, 1, {}))
    assert constants.evaluate(node, [ints(I64.min), ints(-1)]) is not None


@covers("Mod")
@pytest.mark.parametrize("fmod", [0, 1])
@given(pair=two(np.int64, SMALL) | two(np.int32, SMALL))
@SETTINGS
def test_modulo(fmod: int, pair: tuple[Array, Array]) -> None:
    if pair[1].all():
        must_agree("Mod", pair, fmod=fmod)
    else:
        assert agree("Mod", pair, fmod=fmod) is None


@covers("Pow")
@given(pair=two(np.int64, st.integers(0, 4)) | two(np.float32, st.integers(0, 4).map(float)))
@SETTINGS
def test_power(pair: tuple[Array, Array]) -> None:
    must_agree("Pow", pair)


def test_power_of_an_integer_to_a_float() -> None:
    must_agree("Pow", [ints(2, 3), np.array([0.5, 2.0], np.float32)])
    assert agree("Pow", [ints(2), ints(-1)]) is None


@covers("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual")
@pytest.mark.parametrize("op", ["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"])
@given(pair=two(np.int64, WHOLE) | two(np.float32, FLOATS))
@SETTINGS
def test_comparison(op: str, pair: tuple[Array, Array]) -> None:
    must_agree(op, pair)


@covers("And", "Or", "Xor")
@pytest.mark.parametrize("op", ["And", "Or", "Xor"])
@given(pair=two(np.bool_, st.booleans()))
@SETTINGS
def test_logic(op: str, pair: tuple[Array, Array]) -> None:
    must_agree(op, pair)


@covers("Sum", "Mean")
@pytest.mark.parametrize("op", ["Sum", "Mean"])
@given(shapes=hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3), data=st.data())
@SETTINGS
def test_of_many(op: str, shapes: Any, data: st.DataObject) -> None:
    must_agree(op, [data.draw(hnp.arrays(np.float32, s, elements=FLOATS)) for s in shapes.input_shapes])


def test_mean_of_integers_is_left_to_the_runtime() -> None:
    assert agree("Mean", [ints(1), ints(2)]) is None
    assert agree("ReduceMean", [ints(1, 2)]) is None


@covers("PRelu")
@given(x=arrays(FLOATS, np.float32, least=1), slope=FLOATS)
@SETTINGS
def test_prelu(x: Array, slope: float) -> None:
    must_agree("PRelu", [x, np.full((1,) * x.ndim, slope, np.float32)])
    must_agree("PRelu", [x, np.arange(x.shape[-1], dtype=np.float32)])


@covers("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "BitShift")
@given(pair=two(np.uint8, st.integers(0, 255)) | two(np.int32, SMALL))
@SETTINGS
def test_bits(pair: tuple[Array, Array]) -> None:
    for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        must_agree(op, pair)
    must_agree("BitwiseNot", pair[:1])
    if pair[0].dtype == np.uint8:
        for direction in ("LEFT", "RIGHT"):
            must_agree("BitShift", (pair[0], np.asarray(pair[1] % 8)), direction=direction)


FORMULAS = [r.name for r in operators("unary", domain="") if r.formula and onnx.defs.has(r.name)]
FREE: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    **{
        op: {"alpha": st.floats(0.125, 3, width=32)}
        for op in ("Celu", "Elu", "HardSigmoid", "LeakyRelu", "Swish", "ThresholdedRelu")
    },
    "Gelu": {"approximate": st.sampled_from(["none", "tanh"])},
    "IsInf": {"detect_positive": st.integers(0, 1), "detect_negative": st.integers(0, 1)},
    "Selu": {"alpha": st.floats(0.5, 2, width=32), "gamma": st.floats(0.5, 2, width=32)},
    "Shrink": {"lambd": st.floats(-1, 2, width=32), "bias": st.floats(-1, 1, width=32)},
}
"""Attributes that change what an operator computes."""


@covers(*FORMULAS)
@pytest.mark.parametrize("op", [op for op in FORMULAS if op not in ("Not", "BitwiseNot")])
@given(x=arrays(FLOATS | st.sampled_from([0.0, 90.0, -90.0]), np.float32), data=st.data())
@SETTINGS
def test_formulas(op: str, x: Array, data: st.DataObject) -> None:
    """Every formula in the table of operators, against who runs it: to a few units in the last place of its largest numbers."""
    attributes = {name: data.draw(values) for name, values in FREE.get(op, {}).items()}
    if op == "IsInf":
        x = np.where(x > 5, np.float32(np.inf), np.where(x < -5, np.float32(-np.inf), x)).astype(np.float32)
    opset = max(20, onnx.defs.get_schema(op).since_version)
    model = make(op, [x], opset, 1, attributes)
    folded, wanted = constants.evaluate(as_node(model), [x]), run(model, [x])
    assert folded is not None
    assert wanted is not None
    assert (folded[0].dtype, folded[0].shape) == (wanted[0].dtype, wanted[0].shape)
    largest = max(1.0, float(np.nan_to_num(np.abs(x), posinf=0).max(initial=0)))
    np.testing.assert_allclose(folded[0], wanted[0], rtol=4e-6, atol=1e-6 * largest)


def test_formulas_of_floats_have_no_value_for_integers() -> None:
    for op in ("Exp", "Sigmoid", "LeakyRelu", "Reciprocal", "Swish"):
        model = make(op, [ints(1, 2)], 24, 1, {})
        assert constants.evaluate(as_node(model), [ints(1, 2)]) is None, op


def test_a_formula_is_arithmetic_and_nothing_else() -> None:
    for text in ("__import__('os')", "x.T", "x[0]", "open(x)", "[x]", "lambda: x", "x if x else 0", "(x := 1)"):
        with pytest.raises((ValueError, KeyError)):
            compiled(text)


@covers("Neg", "Abs", "Sign", "Relu", "Identity")
@pytest.mark.parametrize("op", ["Neg", "Abs", "Sign", "Relu", "Identity"])
@given(x=arrays() | arrays(FLOATS, np.float32) | arrays(SMALL, np.int32))
@SETTINGS
def test_unary_of_numbers(op: str, x: Array) -> None:
    must_agree(op, [x])


@covers("Exp", "Log", "Sqrt", "Reciprocal", "Floor", "Ceil", "Round")
@pytest.mark.parametrize("op", ["Exp", "Log", "Sqrt", "Reciprocal", "Floor", "Ceil", "Round"])
@given(x=arrays(FLOATS, np.float32))
@SETTINGS
def test_unary_of_floats(op: str, x: Array) -> None:
    must_agree(op, [x])


@covers("Not")
@given(x=arrays(st.booleans(), np.bool_))
@SETTINGS
def test_not(x: Array) -> None:
    must_agree("Not", [x])


@covers("Where")
@given(shapes=hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3), data=st.data())
@SETTINGS
def test_where(shapes: Any, data: st.DataObject) -> None:
    a, b, c = shapes.input_shapes
    condition = data.draw(hnp.arrays(np.bool_, a))
    must_agree("Where", [condition, *(data.draw(hnp.arrays(np.int64, s, elements=SMALL)) for s in (b, c))])


@covers("Clip")
@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.int8])
@given(x=hnp.arrays(np.int8, 4, elements=SMALL), low=st.none() | SMALL, high=st.none() | SMALL)
@SETTINGS
def test_clip(dtype: Any, x: Array, low: int | None, high: int | None) -> None:
    if low is not None and high is not None and low > high:
        return  # ONNX leaves the result open
    must_agree("Clip", [x.astype(dtype), *(None if v is None else np.array(v, dtype) for v in (low, high))])


def test_clip_with_attributes() -> None:
    must_agree("Clip", [np.array([-2, 0, 2], np.float32)], opset=6, min=-1.0, max=1.0)


@covers("Cast")
@pytest.mark.parametrize("to", [np.float32, np.float64, np.int64, np.int32, np.uint8, np.int8, np.bool_, np.float16])
@given(x=arrays(st.integers(0, 100)) | arrays(st.floats(0, 100, width=32), np.float32) | arrays(st.booleans(), np.bool_))
@SETTINGS
def test_cast(to: Any, x: Array) -> None:
    must_agree("Cast", [x], to=helper.np_dtype_to_tensor_dtype(np.dtype(to)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, 2.0**63, 300.0])
def test_cast_of_what_no_integer_holds(value: float) -> None:
    to = TensorProto.UINT8 if value == 300.0 else TensorProto.INT64
    assert agree("Cast", [np.array([value], np.float32)], to=to) is None
    assert agree("Cast", [ints(1)], to=TensorProto.STRING) is None


@covers("Concat")
@given(count=st.integers(1, 4), axis=st.integers(-3, 2), data=st.data())
@SETTINGS
def test_concat(count: int, axis: int, data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=3))
    must_agree("Concat", [data.draw(hnp.arrays(np.int64, shape, elements=SMALL)) for _ in range(count)], axis=axis)


@covers("Gather")
@given(x=arrays(least=1), data=st.data())
@SETTINGS
def test_gather(x: Array, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    side = x.shape[axis]
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
    index = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(-side, side - 1)))
    must_agree("Gather", [x, index], axis=axis)


def test_gather_outside() -> None:
    assert agree("Gather", [ints(1, 2), ints(2)]) is None
    assert agree("Gather", [ints(1, 2), ints(-3)]) is None


@covers("GatherND")
@given(x=arrays(least=1), data=st.data())
@SETTINGS
def test_gather_nd(x: Array, data: st.DataObject) -> None:
    depth = data.draw(st.integers(1, x.ndim))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
    columns = [data.draw(hnp.arrays(np.int64, shape, elements=st.integers(-side, side - 1))) for side in x.shape[:depth]]
    must_agree("GatherND", [x, np.stack(columns, -1)])


def test_gather_nd_that_cannot_be_told() -> None:
    assert agree("GatherND", [ints(1, 2), ints(2)]) is None
    assert agree("GatherND", [ints(1, 2), ints(0, 0)]) is None
    assert agree("GatherND", [ints(1, 2).reshape(1, 2), ints(1).reshape(1, 1)], batch_dims=1) is None
    rows, index = np.zeros((1, constants.MAX_ELEMENTS), np.int64), np.zeros((2, 1), np.int64)
    assert agree("GatherND", [rows, index]) is None  # too many elements


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("Gather", [np.zeros((1, 1 << 14), np.float32), np.zeros(1 << 14, np.int64)]),
        ("GatherND", [np.zeros((1, 1 << 14), np.float32), np.zeros((1 << 14, 1), np.int64)]),
        ("Add", [np.zeros((1 << 14, 1), np.float32), np.zeros(1 << 14, np.float32)]),
    ],
)
def test_weights_do_not_grow_without_end(op: str, inputs: list[Array]) -> None:
    """Two small tables whose product would fill the machine, as a hostile file may hold."""
    assert constants.evaluate(as_node(make(op, inputs, 20, 1, {})), inputs, None) is None
    smaller = [inputs[0], inputs[1][:8]] if op != "Add" else [inputs[0][:8], inputs[1]]
    assert constants.evaluate(as_node(make(op, smaller, 20, 1, {})), smaller, None) is not None


@pytest.mark.parametrize(
    ("op", "inputs", "size"),
    [
        ("ConstantOfShape", lambda n: [ints(n, 64)], 64),
        ("Expand", lambda n: [np.zeros((1, 64), np.float32), ints(n, 64)], 64),
        ("Tile", lambda n: [np.zeros((1, 64), np.float32), ints(n, 1)], 64),
        ("Pad", lambda n: [np.zeros((1, 64), np.float32), ints(0, 0, n - 1, 0)], 64),
        ("Range", lambda n: [ints(0)[0], ints(n)[0], ints(1)[0]], 1),
    ],
)
def test_weights_are_made_of_few_numbers_up_to_a_size(op: str, inputs: Callable[[int], list[Array]], size: int) -> None:
    node = as_node(make(op, inputs(1), 20, 1, {}))
    (made,) = constants.evaluate(node, inputs(1 << 16), None) or [np.zeros(0)]
    assert made.size == size << 16
    assert constants.evaluate(node, inputs(1 << 25), None) is None
    assert constants.evaluate(node, inputs(1 << 16)) is None  # many of them are kept


BOUND = st.integers(-6, 6) | st.sampled_from([I64.max, I64.min, 2**31 - 1, -(2**31)])


@covers("Slice")
@given(x=arrays(least=1), data=st.data())
@SETTINGS
def test_slice(x: Array, data: st.DataObject) -> None:
    axes = data.draw(st.lists(st.integers(0, x.ndim - 1), unique=True, min_size=1, max_size=x.ndim))
    axes = [a - data.draw(st.sampled_from([0, x.ndim])) for a in axes]
    starts, ends = ([data.draw(BOUND) for _ in axes] for _ in range(2))
    steps = [data.draw(st.sampled_from([1, 2, 3, -1, -2, I64.max])) for _ in axes]
    inputs = [x, ints(*starts), ints(*ends), ints(*axes), ints(*steps)]
    if any(step < 0 and end >= 2**31 - 1 for step, end in zip(steps, ends, strict=True)):
        assert agree("Slice", inputs) is None  # the runtime and the operator's document disagree
    else:
        must_agree("Slice", inputs)


@given(x=arrays(least=1), start=st.integers(-4, 4), end=st.integers(-4, 4))
@SETTINGS
def test_slice_without_axes_and_as_attributes(x: Array, start: int, end: int) -> None:
    by_input = must_agree("Slice", [x, ints(start), ints(end)])
    by_attribute = must_agree("Slice", [x], opset=9, starts=[start], ends=[end])
    with_axes = must_agree("Slice", [x], opset=9, starts=[start], ends=[end], axes=[0])
    assert by_input[0].tolist() == by_attribute[0].tolist() == with_axes[0].tolist()


def test_backward_slices_at_the_ends() -> None:
    x = np.arange(5)
    for start, end in ((-1, I64.min), (4, -6), (-100, I64.min), (100, -3), (I64.max, I64.min), (2, -1), (0, -6)):
        must_agree("Slice", [x, ints(start), ints(end), ints(0), ints(-1)])
    assert agree("Slice", [x, ints(0), ints(3), ints(0), ints(0)]) is None


@covers("Squeeze", "Unsqueeze")
@given(x=arrays(rank=2), data=st.data())
@SETTINGS
def test_squeeze_and_unsqueeze(x: Array, data: st.DataObject) -> None:
    rank = x.ndim + 2
    axes = data.draw(st.lists(st.integers(0, rank - 1), unique=True, min_size=2, max_size=2))
    negative = [a - rank if data.draw(st.booleans()) else a for a in axes]
    big = must_agree("Unsqueeze", [x, ints(*negative)])[0]
    assert must_agree("Unsqueeze", [x], opset=12, axes=negative)[0].shape == big.shape
    assert must_agree("Squeeze", [big, ints(*negative)])[0].shape == x.shape
    assert must_agree("Squeeze", [big], opset=12, axes=negative)[0].shape == x.shape
    must_agree("Squeeze", [big])


def test_squeeze_of_what_is_not_one() -> None:
    assert agree("Squeeze", [np.zeros((2, 1), np.int64), ints(0)]) is None


@covers("Reshape", "Flatten", "Transpose", "Size", "Shape", "NonZero")
@given(x=arrays(least=1), data=st.data())
@SETTINGS
def test_rearranging(x: Array, data: st.DataObject) -> None:
    must_agree("Reshape", [x, ints(-1)])
    must_agree("Reshape", [x, ints(0, -1)])
    must_agree("Reshape", [x, ints(*x.shape, 1)])
    axis = data.draw(st.integers(-x.ndim, x.ndim))
    must_agree("Flatten", [x], axis=axis)
    must_agree("Transpose", [x])
    must_agree("Transpose", [x], perm=data.draw(st.permutations(range(x.ndim))))
    must_agree("Size", [x])
    start, end = data.draw(st.integers(-4, 4)), data.draw(st.integers(-4, 4))
    must_agree("Shape", [x])
    if start <= end or start < 0 or end < 0:
        must_agree("Shape", [x], start=start)
        must_agree("Shape", [x], end=end)
    must_agree("NonZero", [x])


def test_reshape_with_zeros() -> None:
    empty = np.zeros((0, 3), np.int64)
    must_agree("Reshape", [empty, ints(3, 0)], allowzero=1)
    assert agree("Reshape", [ints(1, 2), ints(3)]) is None
    assert agree("Reshape", [ints(1, 2), ints(-1, -1)]) is None


@covers("Split")
@given(extent=st.integers(2, 6), axis=st.integers(-2, 1), data=st.data())
@SETTINGS
def test_split(extent: int, axis: int, data: st.DataObject) -> None:
    x = np.arange(extent * 2).reshape((extent, 2) if axis in (0, -2) else (2, extent))
    first = data.draw(st.integers(0, extent))
    must_agree("Split", [x, ints(first, extent - first)], outputs=2, axis=axis)
    must_agree("Split", [x], opset=11, outputs=2, axis=axis, split=[1, extent - 1])
    must_agree("Split", [x], opset=18, outputs=2, axis=axis, num_outputs=2)
    if extent % 2 == 0:
        must_agree("Split", [x], opset=13, outputs=2, axis=axis)


def test_split_that_does_not_add_up() -> None:
    x = np.arange(6)
    for parts in ((1, 2), (4, 4), (-1, 7), (6,)):
        assert agree("Split", [x, ints(*parts)], outputs=2) is None


@covers("Range")
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float32])
@given(start=SMALL, limit=SMALL, delta=st.sampled_from([-3, -2, -1, 1, 2, 3]))
@SETTINGS
def test_range(dtype: Any, start: int, limit: int, delta: int) -> None:
    must_agree("Range", [np.array(v, dtype) for v in (start, limit, delta)])


@covers("ConstantOfShape", "Expand", "Tile")
@given(x=arrays(least=1, rank=2), data=st.data())
@SETTINGS
def test_filling(x: Array, data: st.DataObject) -> None:
    shape = [data.draw(st.integers(0, 3)) for _ in range(data.draw(st.integers(0, 3)))]
    must_agree("ConstantOfShape", [ints(*shape)])
    must_agree("ConstantOfShape", [ints(*shape)], value=numpy_helper.from_array(ints(7)))
    must_agree("Tile", [x, ints(*(data.draw(st.integers(0, 3)) for _ in x.shape))])
    must_agree("Expand", [x, ints(2, *x.shape)])
    must_agree("Expand", [x, ints(*[1] * x.ndim)])
    must_agree("Expand", [x[:1], ints(3, *x.shape[1:])])


@covers("Pad")
@given(x=arrays(least=1, rank=2), data=st.data())
@SETTINGS
def test_pad(x: Array, data: st.DataObject) -> None:
    pads = [data.draw(st.integers(0, 2)) for _ in range(2 * x.ndim)]
    must_agree("Pad", [x, ints(*pads)])
    must_agree("Pad", [x, ints(*pads), np.array(9, np.int64)])
    must_agree("Pad", [x.astype(np.float32)], opset=10, pads=pads, value=0.5)
    assert agree("Pad", [x, ints(*pads)], mode="edge") is None
    assert agree("Pad", [x, ints(*[-1] * len(pads))]) is None


@covers("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin")
@pytest.mark.parametrize("op", ["ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin"])
@pytest.mark.parametrize("keepdims", [0, 1])
@given(x=arrays(st.integers(-2, 2), least=1) | arrays(st.integers(-2, 2), np.int32, least=1), data=st.data())
@SETTINGS  # products of more than 2^53 are inexact in ONNX Runtime, which multiplies integers as doubles
def test_reductions(op: str, keepdims: int, x: Array, data: st.DataObject) -> None:
    axes = data.draw(st.lists(st.integers(0, x.ndim - 1), unique=True, min_size=1))
    axes = [a - x.ndim if data.draw(st.booleans()) else a for a in axes]
    must_agree(op, [x, ints(*axes)], keepdims=keepdims)
    must_agree(op, [x], opset=11, axes=axes, keepdims=keepdims)
    must_agree(op, [x], keepdims=keepdims)
    must_agree(op, [x, ints()], keepdims=keepdims)
    must_agree(op, [x], keepdims=keepdims, noop_with_empty_axes=1)


@covers("ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare")
@pytest.mark.parametrize("op", ["ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare"])
@given(x=arrays(FLOATS, np.float32, least=2), keepdims=st.integers(0, 1))
@SETTINGS
def test_reductions_of_floats(op: str, keepdims: int, x: Array) -> None:
    must_agree(op, [x, ints(-1)], keepdims=keepdims)
    must_agree(op, [x], opset=11, axes=[0, 1], keepdims=keepdims)
    must_agree(op, [x], keepdims=keepdims)


@covers("DequantizeLinear")
@covers("QuantizeLinear")
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_integers_and_back(dtype: Any) -> None:
    x = np.linspace(-3, 3, 24, dtype=np.float32).reshape(2, 3, 4)
    for scale, axis in ((np.float32([0.1]), 1), (np.float32([0.1, 0.02, 0.5]), -2), (np.float32([[0.1], [0.3]]).repeat(2, 1), 2)):
        zero = np.full(scale.shape, 3, dtype)
        given = (scale.reshape(()), zero.reshape(())) if scale.size == 1 else (scale, zero)
        blocks = {"block_size": 2} if scale.ndim == 2 else {}
        data = x[:, 0] if blocks else x
        attributes = {"axis": 1 if blocks else axis, **blocks}
        made = must_agree("QuantizeLinear", [data, *given], opset=21, **attributes)
        must_agree("DequantizeLinear", [made[0], *given], opset=21, **attributes)
    must_agree("DequantizeLinear", [np.array([7, -7], np.int32), np.array(0.25, np.float32)], opset=21)


def test_every_operator_is_covered() -> None:
    assert {r.name for r in operators(domain="") if r.name in OPERATORS} == COVERED | {
        r.name for r in operators("unary", domain="") if r.formula and not onnx.defs.has(r.name)
    }


def test_old_broadcasting_is_left_alone() -> None:
    node = as_node(make("Add", [np.zeros((2, 3), np.float32), np.zeros(2, np.float32)], 6, 1, {"broadcast": 1, "axis": 0}))
    assert constants.evaluate(node, [np.zeros((2, 3), np.float32), np.zeros(2, np.float32)]) is None


HUGE = [
    ("Add", [np.zeros((4096, 1)), np.zeros((1, 4096))], {}),
    ("Where", [np.zeros((4096, 1, 1), bool), np.zeros((4096, 1)), np.zeros(4096)], {}),
    ("Max", [np.zeros((4096, 1)), np.zeros((1, 4096))], {}),
    ("Concat", [np.zeros(4096)] * 2, {"axis": 0}),
    ("Gather", [np.zeros((1, 4096)), np.zeros(4096, np.int64)], {}),
    ("Expand", [np.zeros(1), ints(1 << 20, 1 << 20)], {}),
    ("Expand", [np.zeros(1), ints(1 << 40)], {}),
    ("Tile", [np.zeros(16), ints(1 << 60)], {}),
    ("ConstantOfShape", [ints(1 << 32, 1 << 32)], {}),
    ("ConstantOfShape", [ints(-1)], {}),
    ("Range", [ints(0)[0], ints(1 << 40)[0], ints(1)[0]], {}),
    ("Range", [ints(0)[0], ints(1)[0], ints(0)[0]], {}),
    ("Range", [np.float32(0), np.float32(np.inf), np.float32(1)], {}),
    ("Pad", [np.zeros((2,) * 8), ints(*[4000] * 16)], {}),
    ("Pad", [np.zeros(1), ints(0, 1 << 40)], {}),
]


@pytest.mark.parametrize(("op", "inputs", "attributes"), HUGE)
def test_nothing_large_is_ever_made(op: str, inputs: list[Array], attributes: dict[str, Any]) -> None:
    inputs = [np.asarray(x) for x in inputs]
    node = as_node(make(op, inputs, 20, 1, attributes))
    before = time.process_time()
    assert constants.evaluate(node, inputs) is None
    assert time.process_time() - before < 2


@pytest.mark.parametrize("shape", [(1 << 32, 1 << 32), (1 << 25,), (-1, 3), (1 << 62, 4)])
def test_nothing_large_is_filled_as_a_weight(shape: tuple[int, ...]) -> None:
    node = as_node(make("ConstantOfShape", [ints(*shape)], 20, 1, {}))
    assert constants.evaluate(node, [ints(*shape)], None) is None
    small = constants.evaluate(node, [ints(65, 64)], None)
    assert small is not None
    assert small[0].shape == (65, 64)


@pytest.mark.parametrize("dtype", [TensorProto.BFLOAT16, TensorProto.STRING, TensorProto.INT4, TensorProto.COMPLEX64])
def test_types_that_shapes_never_have(dtype: int) -> None:
    assert constants.tensor(TensorProto(data_type=dtype, dims=[1], raw_data=b"\0\0")) is None


def test_tensors() -> None:
    assert constants.tensor(numpy_helper.from_array(np.zeros(4097, np.float32))) is None
    assert constants.tensor(TensorProto(data_type=TensorProto.FLOAT, dims=[3], float_data=[1.0])) is None
    assert constants.tensor(TensorProto(data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)) is None
    found = constants.tensor(helper.make_tensor("t", TensorProto.FLOAT16, [2], [0.5, 1.0]))
    assert found is not None
    assert found.tolist() == [0.5, 1.0]


View = Callable[..., Model]
Find = Callable[..., Value]


def test_constants(view: View, value: Find) -> None:
    model = view("""g (float[2,3] x, int64[1] free) => (int64[?] y) {
        k = Constant<value_ints = [2, 3]>() one = Constant<value_int = 1>() half = Constant<value_float = 0.5>()
        sum = Add(k, k) y = Concat<axis = 0>(sum, free) lost = Mul(y, k) a, b = Split<num_outputs = 2>(k)
    }""")
    known = constants.Constants()

    def get(name: str) -> object:
        found = known.get(value(model, name))
        return None if found is None else found.tolist()

    assert get("sum") == [4, 6]
    assert get("one") == 1
    assert get("half") == 0.5
    assert get("b") == [3]
    assert get("a") == [2]
    assert [get(n) for n in ("x", "free", "y", "lost")] == [None] * 4


def test_constants_of_overridable_initializers(view: View, value: Find) -> None:
    model = view("g (float[1] x, int64[1] w = {3}) => (float[1] y) { y = Relu(x) v = Neg(w) }")
    assert constants.Constants().get(value(model, "v")) is None


def test_long_chains_and_wide_nodes(view: View, value: Find) -> None:
    """No recursion, and no time that grows with the square of the inputs or outputs."""
    count = 20_000
    nodes = [helper.make_node("Constant", [], ["k"], value_ints=[1])]
    nodes += [helper.make_node("Identity", ["k" if i == 0 else f"c{i - 1}"], [f"c{i}"]) for i in range(count)]
    nodes.append(helper.make_node("Max", [f"c{i}" for i in range(count)], ["wide"]))
    nodes.append(helper.make_node("Constant", [], ["long"], value_ints=[1] * 2000))
    nodes.append(helper.make_node("Split", ["long"], [f"s{i}" for i in range(2000)], num_outputs=2000))
    proto = helper.make_model(helper.make_graph(nodes, "g", [], []), opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model = view(proto)
    known = constants.Constants()
    before = time.process_time()
    for name in ("wide", *(f"s{i}" for i in range(2000))):
        found = known.get(value(model, name))
        assert found is not None
        assert found.tolist() == [1]
    assert time.process_time() - before < 3


def test_many_values_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no room any more counts as not known."""
    monkeypatch.setattr(constants, "_ROOM", 10 * 8 * 16)
    graph = onnx.parser.parse_graph(
        "g () => (int64[16] v99) { k = Constant<value = int64[16] {0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}>() v0 = Neg(k) "
        + " ".join(f"v{i + 1} = Neg(v{i})" for i in range(99))
        + "}"
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    view = build(Skeleton("m", model, {}, 20)).graph
    known = constants.Constants()
    assert known.get(view.values["v5"]) is not None
    assert known.get(view.values["v99"]) is None
