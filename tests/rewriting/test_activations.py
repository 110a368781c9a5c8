"""Activations written with other operators: against their definitions in double precision, over the whole range of inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from npu_guard.analysis.analyze import analyze
from npu_guard.checking import registry
from npu_guard.checking.context import Context
from npu_guard.checking.examples import profile_for
from npu_guard.checking.rule import Case
from npu_guard.file.document import Document
from npu_guard.file.load import load
from npu_guard.file.save import save_document
from npu_guard.file.value_names import names_in
from npu_guard.fixing import catalog
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.rewriting import edit
from npu_guard.rewriting.substitution import Builder, Match
from npu_guard.rules.substitutions.gelu_to_exponential import TAIL
from npu_guard.rules.substitutions.softplus_to_exponential import LOGARITHM
from npu_guard.verification.compare import run_document
from npu_guard.verification.runtime import Runtime

Floats = NDArray[np.float64]
AIWARE = registry.profile("aimotive-aiware")
SUBSTITUTIONS = {s.name: s for s in catalog.substitutions()}
RANGE = np.concatenate([np.linspace(-100, 100, 4001), np.geomspace(1e-30, 1, 200), -np.geomspace(1e-30, 1, 200), [0.0, -0.0]])


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime() as running:
        yield running


def rewritten(name: str, nodes: list[onnx.NodeProto], folder: Path, dtype: type = np.float32, opset: int = 20) -> Document:
    """A model of these nodes from x to y, after the substitution."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    constants = sorted({i for n in nodes for i in n.input if i.startswith("c")})
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", kind, [1, len(RANGE)])], [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.asarray(float(c[1:]), dtype), c) for c in constants],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path = folder / "model.onnx"
    path.write_bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())
    skeleton = load(path)
    document, analysis, substitution = Document.of(skeleton), analyze(skeleton), SUBSTITUTIONS[name]
    ctx = Context(analysis, AIWARE)
    node = next(n for n in analysis.nodes() if n.op_type in substitution.roots)
    matched = substitution.match(node, ctx)
    match = matched if isinstance(matched, Match) else next(iter(matched or ()), None)
    assert match is not None
    build = Builder(match, document, names_in(document.proto.graph), lambda values: [])
    edits = [edit.Edit(match, build, substitution.rewrite(match, build))]
    after = edit.replace_matches(document, analysis.model.graph.nodes, edits)
    assert {n.op_type for n in after.proto.graph.node} <= {op for op, o in AIWARE.operators.items() if o.status == "supported"}
    save_document(after, folder / "after.onnx")
    return Document.of(load(folder / "after.onnx"))


def _erf(x: Floats) -> Floats:
    return np.array([math.erf(v) for v in x])


def _log1p_exp(x: Floats) -> Floats:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


DEFINITIONS: dict[str, tuple[str, dict[str, float | str], int, Callable[[Floats], Floats]]] = {
    "Elu": ("elu-to-tanh", {"alpha": 1.5}, 20, lambda x: np.where(x > 0, x, 1.5 * np.expm1(np.minimum(x, 0)))),
    "Celu": ("elu-to-tanh", {"alpha": 0.25}, 20, lambda x: np.where(x > 0, x, 0.25 * np.expm1(np.minimum(x, 0) / 0.25))),
    "Selu": (
        "elu-to-tanh",
        {},
        20,
        lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
    ),
    "HardSwish": ("hard-swish-to-clip", {}, 20, lambda x: x * np.maximum(0, np.minimum(6, x + 3)) / 6),
    "HardSigmoid": ("hard-swish-to-clip", {"alpha": 0.3}, 20, lambda x: np.clip(0.3 * x + 0.5, 0, 1)),
    "Swish": ("silu-to-sigmoid-mul", {"alpha": 0.5}, 24, lambda x: x / (1 + np.exp(-0.5 * x))),
    "Mish": ("silu-to-sigmoid-mul", {}, 20, lambda x: x * np.tanh(_log1p_exp(x))),
    "Gelu": (
        "silu-to-sigmoid-mul",
        {"approximate": "tanh"},
        20,
        lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "Softsign": ("elementwise-to-arithmetic", {}, 20, lambda x: x / (1 + np.abs(x))),
    "Abs": ("elementwise-to-arithmetic", {}, 20, np.abs),
    "Neg": ("elementwise-to-arithmetic", {}, 20, np.negative),
}


@pytest.mark.parametrize("op", DEFINITIONS)
def test_against_the_definition(op: str, tmp_path: Path, runtime: Runtime) -> None:
    """A few units in the last place of the largest term, from -100 to 100 and close to zero."""
    name, attributes, opset, definition = DEFINITIONS[op]
    after = rewritten(name, [helper.make_node(op, ["x"], ["y"], **attributes)], tmp_path, opset=opset)
    x = RANGE.astype(np.float32)[None]
    found = run_document(runtime, after, [{"x": x}])[0]["y"][0].astype(np.float64)
    wanted = definition(x[0].astype(np.float64))
    scale = np.maximum(1.0, np.abs(x[0])) if op in ("Mish", "Swish", "Gelu") else np.maximum(1.0, np.abs(wanted))
    assert np.max(np.abs(found - wanted) / scale) < 1e-6
    if op in ("Elu", "Celu", "Selu", "Softsign"):  # nothing cancels close to zero
        small = (np.abs(wanted) > 1e-30) & (np.abs(x[0]) < 1)
        assert np.max(np.abs(found - wanted)[small] / np.abs(wanted)[small]) < 1e-6


def test_elu_in_half_precision(tmp_path: Path, runtime: Runtime) -> None:
    after = rewritten("elu-to-tanh", [helper.make_node("Elu", ["x"], ["y"])], tmp_path, np.float16)
    x = RANGE.astype(np.float16)[None]
    found = run_document(runtime, after, [{"x": x}])[0]["y"][0].astype(np.float64)
    wanted = np.where(x[0] > 0, x[0], np.expm1(np.minimum(x[0].astype(np.float64), 0)))
    assert found.shape == wanted.shape
    assert np.max(np.abs(found - wanted)) < 2e-3


SPELLINGS = {
    "the operator": [helper.make_node("Gelu", ["x"], ["y"])],
    "divided first": [
        helper.make_node("Div", ["x", "c1.4142135"], ["d"]), helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Add", ["e", "c1"], ["a"]), helper.make_node("Mul", ["x", "a"], ["m"]),
        helper.make_node("Mul", ["m", "c0.5"], ["y"]),
    ],
    "halved first": [
        helper.make_node("Mul", ["x", "c0.5"], ["h"]), helper.make_node("Mul", ["x", "c0.70710678"], ["d"]),
        helper.make_node("Erf", ["d"], ["e"]), helper.make_node("Add", ["e", "c1"], ["a"]),
        helper.make_node("Mul", ["h", "a"], ["y"]),
    ],
    "halved in the middle": [
        helper.make_node("Div", ["x", "c1.4142135"], ["d"]), helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Add", ["c1", "e"], ["a"]), helper.make_node("Mul", ["a", "c0.5"], ["m"]),
        helper.make_node("Mul", ["m", "x"], ["y"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_gelu_is_as_close_as_its_page_says(spelling: str, tmp_path: Path, runtime: Runtime) -> None:
    after = rewritten("gelu-to-tanh", SPELLINGS[spelling], tmp_path)
    assert len(after.proto.graph.node) == 6
    x = np.linspace(-8, 8, len(RANGE), dtype=np.float32)[None]
    found = run_document(runtime, after, [{"x": x}])[0]["y"][0]
    exact = 0.5 * x[0] * (1 + _erf(x[0].astype(np.float64) / math.sqrt(2)))
    worst = np.abs(found - exact)
    assert 0.00046 < worst.max() < 0.00048
    assert 2.6 < abs(x[0][worst.argmax()]) < 2.8


def test_the_tail_of_gelu_is_as_close_as_its_page_says() -> None:
    """3e-8 of erfc, from 0 to where the bell is below the smallest double."""
    for z in np.linspace(0, 26, 2001):
        t = 1 / (1 + z / 2)
        tail = t * sum(c * t**i for i, c in enumerate(TAIL)) * math.exp(-z * z)
        assert abs(tail - math.erfc(z)) <= 3e-8 * math.erfc(z), z


def test_what_softplus_adds_to_a_relu_is_as_close_as_its_page_says() -> None:
    """3e-8 of log(1 + e), for every size of e."""
    for e in np.concatenate([np.geomspace(1e-30, 1, 2001), np.linspace(0, 1, 2001)[1:]]):
        added = e * sum(c * e**i for i, c in enumerate(LOGARITHM))
        assert abs(added - math.log1p(e)) <= 3e-8 * math.log1p(e), e


def test_an_erf_that_is_no_gelu_stays_one_of_its_own(tmp_path: Path) -> None:
    """Not halved, or scaled by something else: the product is kept and only the Erf goes."""
    nodes = [
        helper.make_node("Div", ["x", "c1.5"], ["d"]), helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Add", ["e", "c1"], ["a"]), helper.make_node("Mul", ["x", "a"], ["y"]),
    ]  # fmt: skip
    after = rewritten("gelu-to-tanh", nodes, tmp_path)
    assert [n.op_type for n in after.proto.graph.node] == ["Div", "Mul", "Mul", "Add", "Mul", "Tanh", "Add", "Mul"]


@pytest.mark.parametrize("op", ["Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
@pytest.mark.parametrize("bound", [0.5, 0.0, -3.0, 1.1754944e-38, 1000.1, 1e30])
def test_comparison_holds_for_every_number_around_the_bound(op: str, bound: float, tmp_path: Path, runtime: Runtime) -> None:
    """The bound, its neighbours, and the largest and smallest numbers that there are."""
    c = f"c{bound!r}"
    nodes = [helper.make_node(op, ["x", c], ["b"]), helper.make_node("Cast", ["b"], ["y"], to=1)]
    after = rewritten("comparison-to-clip", nodes, tmp_path)
    near = np.float32(bound)
    below, above = np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))
    extremes = [near, below, above, -near, 0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38, np.inf, -np.inf]
    x = np.resize(np.array([*extremes, *RANGE], np.float32), len(RANGE))[None]
    found = run_document(runtime, after, [{"x": x}])[0]["y"]
    compare = {"Greater": np.greater, "GreaterOrEqual": np.greater_equal, "Less": np.less, "LessOrEqual": np.less_equal}[op]
    np.testing.assert_array_equal(found, compare(x, near).astype(np.float32))


@pytest.mark.parametrize(
    ("operators", "applied", "told"),
    [
        ({"Elu": "refused", "Tanh": "refused"}, False, "the device would refuse what is new: NPU101 at Tanh"),
        ({"Elu": "refused"}, True, ""),
        ({"Elu": "supported"}, False, ""),
    ],
)
def test_a_device_that_lacks_the_operators_is_not_written_for(
    operators: dict[str, str], applied: bool, told: str, tmp_path: Path
) -> None:
    graph = helper.make_graph(
        [helper.make_node("Elu", ["x"], ["y"])], "g", [helper.make_tensor_value_info("x", 1, [1, 8, 2, 2])],
        [helper.make_tensor_value_info("y", 1, [1, 8, 2, 2])],
    )  # fmt: skip
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8), path)
    others = dict.fromkeys(("Mul", "Relu", "Tanh", "Sub", "Add", "Div", "Min", "Exp"), "supported")
    profile = profile_for(Case("", operators=others | operators))
    done = fix_model(str(path), profile, Config(), [SUBSTITUTIONS["elu-to-tanh"]])
    assert bool(done.applied) is applied
    assert [r.reason.partition(" (")[0] for r in done.refused] == ([told] if told else [])
