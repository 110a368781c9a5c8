"""The records of operators, held against onnx's and onnxruntime's schemas, and their facts against running the operators."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest

from npu_guard.device.device import load_profile
from npu_guard.file.skeleton import Skeleton
from npu_guard.graph import ops
from npu_guard.graph.build import build
from npu_guard.graph.op_words import KINDS, ROLES, Role
from npu_guard.graph.ops import Input, Operator, operators
from npu_guard.graph.plain_names import FUSED_ATTENTION, INTEGERS, PLAIN

ROOT = Path(__file__).parents[2]
OPTION = onnx.defs.OpSchema.FormalParameterOption
SCHEMAS = [s for s in onnx.defs.get_all_schemas() if s.domain in ("", "ai.onnx.ml")]
HISTORY = {(s.name, s.since_version): s for s in onnx.defs.get_all_schemas_with_history() if not s.domain}


def named(value: Operator | onnx.defs.OpSchema) -> str:
    return f"{value.domain}::{value.name}"


@pytest.mark.parametrize("schema", SCHEMAS, ids=named)
def test_inputs_are_those_of_onnx(schema: onnx.defs.OpSchema) -> None:
    record = ops.find_operator(schema.name, schema.domain)
    assert record.is_known
    assert [i.name for i in record.inputs] == [i.name for i in schema.inputs]
    assert [i.optional for i in record.inputs] == [i.option == OPTION.Optional for i in schema.inputs]
    assert record.variadic == any(i.option == OPTION.Variadic for i in schema.inputs)


def test_inputs_are_those_of_onnxruntime() -> None:
    """Of the operators of com.microsoft that both know; a build of onnxruntime may lack some."""
    state = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")
    schemas = {s.name: s for s in state.get_all_operator_schema() if s.domain == "com.microsoft"}
    records = [r for r in ops.operators(domain="com.microsoft") if r.name in schemas]
    assert len(records) > 60
    for record in records:
        inputs = schemas[record.name].inputs
        assert list(dict.fromkeys(i.name for i in record.inputs)) == [i.name for i in inputs], record.name
        assert record.variadic == any(str(i.option).endswith("Variadic") for i in inputs)
        if not record.variadic:
            assert [i.optional for i in record.inputs] == [str(i.option).endswith("Optional") for i in inputs], record.name


def moved() -> Iterator[tuple[str, Input]]:
    """Inputs that the table says were attributes before."""
    for record in ops.operators(domain=""):
        yield from ((record.name, formal) for formal in record.inputs if formal.attributes)


def schema_at(name: str, opset: int) -> onnx.defs.OpSchema:
    return onnx.defs.get_schema(name, opset, "")


@pytest.mark.parametrize(("name", "formal"), list(moved()), ids=lambda v: v if isinstance(v, str) else v.name)
def test_inputs_were_attributes_until_their_opset(name: str, formal: Input) -> None:
    assert formal.name in [i.name for i in schema_at(name, formal.since).inputs]
    before = schema_at(name, formal.since - 1)
    assert formal.name not in [i.name for i in before.inputs]
    assert formal.attributes[0] in before.attributes
    old = [schema for (other, since), schema in HISTORY.items() if other == name and since < formal.since]
    assert all(any(attribute in schema.attributes for schema in old) for attribute in formal.attributes)


def test_no_attribute_that_became_an_input_is_forgotten() -> None:
    known = {(name, attribute) for name, formal in moved() for attribute in formal.attributes}
    for (name, _), schema in HISTORY.items():
        inputs = {i.name for i in schema_at(name, onnx.defs.onnx_opset_version()).inputs}
        assert {(name, attribute) for attribute in schema.attributes if attribute in inputs} <= known


@pytest.mark.parametrize("record", [r for r in ops.operators(domain="") if r.axes], ids=named)
def test_axes_are_stated_where_the_record_says(record: Operator) -> None:
    assert record.axes is not None
    if onnx.defs.has(record.name):
        schemas = [schema for (name, _), schema in HISTORY.items() if name == record.name]
        places = {name for s in schemas for name in (*s.attributes, *(i.name for i in s.inputs))}
        assert record.axes.name in places
        states = [s.attributes[record.axes.name] for s in schemas if record.axes.name in s.attributes]
        optional = any(not a.required and not a.default_value.type for a in states)
        assert (record.axes.default is not None) <= optional  # else nobody ever asks for it


def test_roles_and_kinds_are_of_the_vocabulary() -> None:
    for record in ops.operators():
        assert record.kind in KINDS
        assert all(i.role in ROLES for i in record.inputs)
        assert record.kind in ("generator", "random", "sequence") or record.inputs
        if record.kind in ("convolution", "product", "recurrent") and record.name != "Einsum":
            assert record.indices("weight"), record.name


def devices() -> list[Path]:
    return sorted((ROOT / "rules/profiles").glob("*.toml"))


@pytest.mark.parametrize("file", devices(), ids=lambda f: f.stem)
def test_operators_of_device_files_have_a_record(file: Path) -> None:
    profile = load_profile(file, {f.stem: f for f in devices()})
    operators = {*profile.operators, *(op for r in profile.requirements for op in r.ops)}
    assert operators
    unknown = [op for op in operators - {"*"} if not ops.find_operator(*reversed(op.rpartition("::")[::2])).is_known]
    assert unknown == []


WINDOWS: dict[str, dict[str, Any]] = {
    "AveragePool": {"kernel_shape": [3, 3]}, "LpPool": {"kernel_shape": [3, 3]}, "MaxPool": {"kernel_shape": [3, 3]},
}  # fmt: skip
CASES = ops.operators("unary", "broadcasting", "pooling", "global pooling", "softmax", "reduction", domain="")
UNRUN = {
    "BitCast": "needs a type of equal width", "BitShift": "integers", "BitwiseAnd": "integers", "BitwiseNot": "integers",
    "BitwiseOr": "integers", "BitwiseXor": "integers", "MaxUnpool": "needs the indices of a MaxPool",
    "ArgMax": "gives indices", "ArgMin": "gives indices", "CastLike": "as Cast", "Cast": "overflows in narrow types only",
    "Clip": "zeros stay where its bounds let them", "Shrink": "zeros stay where lambd is not negative",
    "HardSigmoid": "beta may be 0", "Pow": "the exponent decides", "ReduceLogSumExp": "overflows in some runtimes",
}  # fmt: skip


WITHOUT_REFERENCE = ("Gelu", "GlobalLpPool")
"""Operators that onnx's reference implementation lacks."""


def ran(record: Operator, data: Any) -> np.ndarray[Any, Any]:
    """The operator by onnx's reference implementation; all operands are the same data."""
    known = record.name in ("And", "Or", "Xor", "Not")
    data = data.astype(bool) if known else data
    count = 3 if record.name == "Where" else len(record.inputs) + record.variadic
    count = 1 if record.kind in ("unary", "reduction") else count
    names = [f"x{i}" for i in range(count)]
    node = onnx.helper.make_node(record.name, names, ["y"], **WINDOWS.get(record.name, {}))
    if record.name == "Mod":
        node.attribute.append(onnx.helper.make_attribute("fmod", 1))
    feeds = dict.fromkeys(names, data)
    if record.name == "Where":
        feeds["x0"] = data > 0
    if record.name in WITHOUT_REFERENCE:
        runtime = pytest.importorskip("onnxruntime")
        graph = onnx.helper.make_graph(
            [node], "g", [onnx.helper.make_tensor_value_info(names[0], 1, data.shape)], [onnx.ValueInfoProto(name="y")]
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
        session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, feeds)[0])
    with np.errstate(all="ignore"):
        results: Any = onnx.reference.ReferenceEvaluator(node).run(None, feeds)
        return np.asarray(results[0])


def reference_has(name: str) -> bool:
    return onnx.defs.has(name) and (schema_at(name, onnx.defs.onnx_opset_version()).since_version <= 24)


@pytest.mark.parametrize("record", [r for r in CASES if r.name not in UNRUN and reference_has(r.name)], ids=named)
def test_zero_and_finite_are_as_the_operator_runs(record: Operator) -> None:
    """Zeros alone, and finite numbers of all sizes up to 100: what overflows or has a pole shows it."""
    zero = ran(record, np.zeros((1, 2, 4, 4), np.float32)).astype(np.float64)
    values = np.linspace(-100, 100, 33, dtype=np.float32)[:32].reshape(1, 2, 4, 4)
    spread = np.concatenate([ran(record, v).astype(np.float64).ravel() for v in (values, values / 100, values * 0)])
    assert record.keeps_zero == bool((zero == 0).all())
    assert record.finite_at_zero == bool(np.isfinite(zero).all())
    if record.name not in ("Div", "Tan", "Sinh", "Cosh", "Exp", "ReduceLogSum"):  # finite at these samples, and not at others
        assert record.keeps_finite == bool(np.isfinite(spread).all())
    else:
        assert not record.keeps_finite


@pytest.mark.parametrize(
    ("op", "domain", "role", "indices"),
    [
        ("Conv", "", "weight", (1,)),
        ("QLinearConv", "", "weight", (3,)),
        ("QLinearConv", "com.microsoft", "weight", (3,)),
        ("QLinearMatMul", "", "weight", (3,)),
        ("ConvInteger", "", "zero_point", (2, 3)),
        ("LSTM", "", "weight", (1, 2, 7)),
        ("MatMulNBits", "com.microsoft", "scale", (2,)),
        ("QLinearAdd", "com.microsoft", "data", (0, 3)),
        ("Attention", "", "data", (0, 1, 2)),
        ("Concat", "", "data", (0,)),
        ("Shape", "", "weight", ()),
        ("Nothing", "", "data", ()),
        ("Conv | X W:weight B:bias?=0", "", "weight", ()),
        ("Conv", "com.else", "weight", ()),
    ],
)
def test_roles(op: str, domain: str, role: Role, indices: tuple[int, ...]) -> None:
    assert ops.find_operator(op, domain).indices(role) == indices


def test_a_variadic_input_repeats_its_roles() -> None:
    record = ops.find_operator("QLinearConcat", "com.microsoft")
    roles = [record.role(i) for i in range(9)]
    assert roles == ["output_scale", "output_zero_point", *itertools.islice(itertools.cycle(("data", "scale", "zero_point")), 7)]
    assert ops.find_operator("Sum").role(40) == "data"
    assert ops.find_operator("Add").role(2) is None


@pytest.mark.parametrize(
    ("op", "name", "default", "attributes"),
    [
        ("Clip", "min", float("-inf"), ("min",)), ("Clip", "max", float("inf"), ("max",)), ("Slice", "steps", 1.0, ()),
        ("Pad", "constant_value", 0.0, ("value",)), ("Pad", "pads", None, ("pads", "paddings")), ("TopK", "K", None, ("k",)),
        ("Slice", "axes", None, ("axes",)), ("Dropout", "ratio", 0.5, ("ratio",)),
    ],
)  # fmt: skip
def test_defaults_and_old_names(op: str, name: str, default: float | None, attributes: tuple[str, ...]) -> None:
    record = ops.find_operator(op)
    index = record.index(name)
    assert index is not None
    assert (record.inputs[index].default, record.inputs[index].attributes) == (default, attributes)


def test_a_node_finds_its_inputs_by_name_and_by_role() -> None:
    text = """<ir_version: 9, opset_import: ["": 17]>
    g (uint8[1,2,4,4] x, float s, uint8 z, uint8[2,2,1,1] w) => (uint8[1,2,4,4] y, uint8[1,2,4,4] c)
    { y = QLinearConv(x, s, z, w, s, z, s, z)  c = Clip(x, , z) }"""
    model = build(Skeleton("m", onnx.parser.parse_model(text), {}, 17))
    conv, clip = model.graph.nodes
    weight, data = conv.role("weight"), conv.role("data")
    assert (weight, conv.named("w"), conv.role("bias"), conv.named("B")) == (conv.inputs[3], conv.inputs[3], None, None)
    assert data is conv.inputs[0]
    assert (clip.named("min"), clip.named("max"), clip.role("bound"), clip.kind) == (
        None,
        clip.inputs[2],
        clip.inputs[2],
        "unary",
    )


def test_all_attention_of_onnxruntime_is_named() -> None:
    """The rule on products of activations is asked about these by name."""
    assert set(FUSED_ATTENTION) == {f"com.microsoft::{record.name}" for record in operators("attention", domain="com.microsoft")}


def test_operators_in_integer_arithmetic_read_zero_points() -> None:
    named = {op: ops.find_operator(op.rpartition("::")[2], op.rpartition("::")[0]) for op in PLAIN}
    reading = {op for op, operator in named.items() if operator.indices("zero_point", "output_zero_point")}
    without = {"com.microsoft::MatMulInteger16", "com.microsoft::MatMulBnb4"}  # numbers as they are, and of a table without one
    assert reading - {"com.microsoft::QuantizeLinear", "com.microsoft::DequantizeLinear"} | without == INTEGERS
