"""Three-dimensional networks on folded maps: each operator, random windows, the cost, and whole networks."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.checking import registry
from npu_guard.checking.context import Context
from npu_guard.checking.examples import case_model, profile_for
from npu_guard.checking.rule import Case
from npu_guard.file.document import Document
from npu_guard.file.load import load
from npu_guard.file.save import save_document
from npu_guard.file.value_names import names_in
from npu_guard.fixing import catalog
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.project.export import export
from npu_guard.results.verification import Verification
from npu_guard.rewriting import edit
from npu_guard.rewriting.substitution import EXACT, Builder, Refused
from npu_guard.verification.compare import accumulated_terms, compare_documents, run_document
from npu_guard.verification.feeds import input_specs, seeded_feeds
from npu_guard.verification.runtime import CannotRun, Runtime

ROOT = Path(__file__).parents[2]
LIMITS = {"tensor.rank_max": 4}
SUBSTITUTION = next(s for s in catalog.substitutions() if s.name == "rank5-to-rank4")


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime() as running:
        yield running


def folded(model: onnx.ModelProto, path: Path) -> tuple[Document, Document, Analysis]:
    """The model before and after all of its matches are rewritten, and the analysis of the latter."""
    path.write_bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())
    skeleton = load(path)
    document, analysis = Document.of(skeleton), analyze(skeleton)
    ctx = Context(analysis, profile_for(Case("", limits=LIMITS)))
    matches = [s for n in analysis.nodes() if n.op_type in SUBSTITUTION.roots if (s := SUBSTITUTION.match(n, ctx)) is not None]
    assert matches
    taken, edits = names_in(document.proto.graph), []
    for match in matches:
        build = Builder(match, document, taken, lambda values: [])
        edits.append(edit.Edit(match, build, SUBSTITUTION.rewrite(match, build)))
    after = edit.replace_matches(document, analysis.model.graph.nodes, edits)
    return document, after, analyze(after.skeleton())


def deep(analysis: Analysis) -> set[str]:
    """Operators that compute with rank 5; at the border there are some that only move data."""
    border = {"Split", "Squeeze", "Unsqueeze", "Reshape", "Transpose"}
    ranks = {n.op_type: max(len(v.shape or ()) for v in (*n.inputs, *n.outputs) if v is not None) for n in analysis.nodes()}
    return {op for op, rank in ranks.items() if rank > 4} - border


def same(runtime: Runtime, before: Document, after: Document, analysis: Analysis) -> Verification:
    feeds = seeded_feeds(input_specs(analysis.model.graph.inputs), 3)
    return compare_documents(runtime, before, after, feeds, accumulated_terms(analysis), exact=True, seeds=(3,), kinds="test")


WEIGHTS = "float[6,4,2,3,3] w, float[8] s, int64[1] one = {1}, int64[1] two = {2}, int64[1] four = {4}, int64[3] volume = {2,3,4}"
GRAPHS = {
    "slices of every axis": (
        20,
        """int64[4] from = {1,3,-1,1}, int64[4] to = {6,1,-9,5}, int64[4] axes = {1,-2,2,4}, int64[4] steps = {1,-1,-2,2}""",
        "y = Slice(c, from, to, axes, steps)",
    ),
    "slices, before they had inputs": (9, "float z", "y = Slice<axes = [2,1], starts = [1,2], ends = [100,-1]>(c)"),
    "channels split": (
        20,
        "int64[2] sizes = {2,4}",
        "a, b = Split<axis = 1>(c, sizes)  g = Sigmoid(b)  h = Relu(a)  y = Concat<axis = 1>(g, h)",
    ),
    "depths split and swapped": (20, "int64[2] sizes = {1,2}", "a, b = Split<axis = 2>(c, sizes)  y = Concat<axis = 2>(b, a)"),
    "rows joined": (20, "float z", "r = Relu(c)  y = Concat<axis = 3>(c, r)"),
    "padded with numbers": (20, "int64[10] pads = {0,0,1,0,2,0,0,2,1,0}, float v", "y = Pad(c, pads, v)"),
    "padded by reflection": (20, "int64[10] pads = {0,0,1,1,2,0,0,2,1,0}", 'y = Pad<mode = "reflect">(c, pads)'),
    "padded with edges": (20, "int64[10] pads = {0,0,1,0,2,0,0,2,1,0}", 'y = Pad<mode = "edge">(c, pads)'),
    "softmax over channels": (20, "float z", "y = Softmax<axis = 1>(c)"),
    "constants of every shape": (
        20,
        "float[6,1,1,1] k, float[1,1,3,1,1] d, float[5,6] m, float[1,6,3,5,6] f, float[1,1,1,1,1] u",
        "a = Mul(c, k)  b = Add(a, d)  e = Mul(b, m)  g = Max(e, f)  y = Sub(u, g)",
    ),
    "a mask for all channels": (20, "float[1,4,2,3,3] v", "q = Conv(x, v)  y = Mul(c, q)"),
    "a mask and constants, chosen": (
        20,
        "float[1,4,2,3,3] v, float[6,1,1,1] k, float t = {0.5}",
        "q = Conv(x, v)  b = Greater(q, t)  y = Where(b, c, k)",
    ),
    "channels weighted": (20, "float z", "g = ReduceMean(c, volume)  q = Sigmoid(g)  y = Mul(c, q)"),
    "depths weighted": (20, "int64[3] plane = {1,3,4}", "g = ReduceMax(c, plane)  q = Sigmoid(g)  y = Mul(c, q)"),
    "sums": (20, "int64[4] all = {1,2,3,4}", "a = ReduceSum<keepdims = 0>(c, volume)  b = ReduceSum<keepdims = 0>(c, all)"),
    "means": (
        20,
        "int64[2] rows = {2,3}",
        "a = ReduceMean(c, rows)  b = ReduceMin<keepdims = 0>(c, two)  d = ReduceSum(c, four)",
    ),
    "over channels": (20, "int64[2] both = {1,2}", "a = ReduceMax<keepdims = 0>(c, both)  b = ReduceSum(c, one)"),
    "global maximum": (12, "float z", "g = GlobalMaxPool(c)  y = Flatten(g)"),
    "batch norm": (20, "float[6] v = {1,2,3,4,5,6}, float[6] k", "y = BatchNormalization(c, k, k, k, v)"),
    "its own shape": (20, "float z", "s0 = Shape(c)  s1 = Shape<start = 1, end = -1>(c)"),
    "a view from rank 4": (
        20,
        "int64[5] up = {0,-1,1,5,6}, int64[4] down = {0,18,5,6}, float[8,6,1,3,3] v, int64[2] flat = {0,-1}",
        "p = ReduceMax<keepdims = 0>(c, two)  r = Reshape(p, up)  d = Conv(r, v)  e = ReduceMean(d, four)  y = Reshape(e, flat)",
    ),
    "resized, trilinear": (20, "int64[5] z = {1,6,5,7,3}", 'y = Resize<mode = "linear">(c, , , z)'),
    "resized with aligned corners": (
        12,
        "int64[5] z = {1,6,2,9,12}, float[0] n",
        'y = Resize<mode = "linear", coordinate_transformation_mode = "align_corners">(c, n, n, z)',
    ),
    "resized to neighbours": (11, "float[5] z = {1,1,1.5,2,0.5}, float[0] n", "y = Resize(c, n, z)"),
    "resized along three axes": (18, "float[3] z = {2,1.5,2}", 'y = Resize<mode = "linear", axes = [2,3,4]>(c, , z)'),
    "upsampled": (9, "float[5] z = {1,1,2,2,3}", "y = Upsample(c, z)"),
    "one depth averaged with padding that counts": (
        20,
        "float z",
        "p = ReduceMax(c, two)  y = AveragePool<kernel_shape = [2,1,1], pads = [0,0,0,1,0,0], count_include_pad = 1>(p)",
    ),
    "in an old opset": (
        10,
        "float[6,1,1,1] k",
        "a = Add(c, k)  b = ReduceMean<axes = [2,3,4]>(a)  r = AveragePool<kernel_shape = [2,2,2]>(a)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("window", ["dilations = [2,1,1], kernel_shape = [2,1,1]", "strides = [3,1,1], kernel_shape = [1,2,1]"])
def test_windows_that_the_runtime_places_elsewhere_are_refused(window: str, tmp_path: Path) -> None:
    graph = f'g (float[1,4,4,7,8] x) => (y) {{ y = MaxPool<auto_pad = "SAME_LOWER", {window}>(x) }}'
    with pytest.raises(Refused, match="SAME padding"):
        folded(case_model(Case(graph)), tmp_path / "model.onnx")


@pytest.mark.parametrize("title", GRAPHS)
def test_operators(title: str, tmp_path: Path, runtime: Runtime) -> None:
    """Each behind a convolution, which makes `[2,6,3,5,6]`, with whatever it needs."""
    opset, weights, body = GRAPHS[title]
    outputs = "s0, s1" if "s0" in body else "y" if "y =" in body else ", ".join(v for v in "abdr" if f"{v} =" in body)
    if "starts" in body:  # of which ONNX infers no shape
        outputs = "float[1,3,2,5,6] y"
    graph = f"g (float[1,4,4,7,8] x) => ({outputs}) <{WEIGHTS}, {weights}> {{ c = Conv(x, w)  {body} }}"
    if "Upsample" in body or opset < 13:
        graph = graph.replace(", int64[3] volume = {2,3,4}", "")
    before, after, analysis = folded(case_model(Case(graph, opset=opset)), tmp_path / "model.onnx")
    outcome = same(runtime, before, after, analysis)
    assert outcome.verdict == "equal", outcome
    assert not deep(analysis)


@st.composite
def windows(draw: st.DrawFn) -> onnx.ModelProto:
    """One window on a small volume, with anything that its attributes may say."""
    op = draw(st.sampled_from(["Conv", "ConvTranspose", "MaxPool", "AveragePool"]))

    def three(low: int, high: int) -> list[int]:
        return [draw(st.integers(low, high)) for _ in range(3)]

    size, kernel, strides = three(1, 7), three(1, 4), three(1, 3)
    dilations = three(1, 2) if op != "AveragePool" else [1, 1, 1]
    group, inner, outer = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations}
    inputs, weights = ["x"], []
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    if op.startswith("Conv"):
        shape = (group * outer, inner, *kernel) if op == "Conv" else (group * inner, outer, *kernel)
        weights = [numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), "w")]
        if draw(st.booleans()):
            weights.append(numpy_helper.from_array(rng.standard_normal(group * outer).astype(np.float32), "b"))
        inputs += [w.name for w in weights]
        attributes["group"] = group
    else:
        attributes |= {"kernel_shape": kernel, "ceil_mode": draw(st.integers(0, 1))}
        if op == "AveragePool":
            attributes["count_include_pad"] = draw(st.integers(0, 1))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    mode = draw(st.sampled_from(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if mode == "NOTSET":
        attributes["pads"] = [draw(st.integers(0, k - 1)) for k in (*kernel, *kernel)]
    else:
        attributes["auto_pad"] = mode
    padded = [s + sum(attributes.get("pads", [0] * 6)[i::3]) for i, s in enumerate(size)]
    assume(mode.startswith("SAME") or op == "ConvTranspose" or all(p >= r for p, r in zip(padded, reach, strict=True)))
    if op == "ConvTranspose" and mode == "NOTSET":
        attributes["output_padding"] = [draw(st.integers(0, s - 1)) for s in strides]
        grown = [(n - 1) * s + r - p + n for n, s, r, p in zip(size, strides, reach, padded, strict=True)]
        assume(all(g > 0 for g in grown))
    if op.endswith("Pool"):
        assume(mode == "NOTSET" or not attributes["ceil_mode"])  # runtimes do not agree on both
        assume(any(k > 1 or (s > 1 and n > 1) for k, s, n in zip(kernel, strides, size, strict=True)))  # else it does nothing
    node = helper.make_node(op, inputs, ["y"], name="n", **attributes)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", 1, [2, group * inner, *size])],
        [helper.make_tensor_value_info("y", 1, None)], weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=8)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(model=windows())
def test_any_window(model: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory, runtime: Runtime) -> None:
    try:
        before, after, analysis = folded(model, tmp_path_factory.mktemp("window") / "model.onnx")
    except Refused as refusal:
        if "padding" in refusal.reason or "which end" in refusal.reason:
            return
        raise
    try:
        found = run_document(runtime, before, seeded_feeds(input_specs(analysis.model.graph.inputs), 3)[:1])[0]["y"]
    except CannotRun:
        assume(False)  # it does not have every window that the specification has, and counts some differently
    assume(found.shape == analyze(before.skeleton()).model.graph.outputs[0].shape)
    outcome = same(runtime, before, after, analysis)
    assert outcome.verdict == "equal", outcome
    assert not deep(analysis)


def test_against_the_definition(tmp_path: Path, runtime: Runtime) -> None:
    """A convolution by loops over its definition, on odd extents: no runtime's 3-D convolution is asked."""
    graph = """g (float[1,2,5,7,9] x) => (y) <float[3,2,3,2,3] w, float[3] b>
    { y = Conv<strides = [2,1,3], pads = [1,0,2,2,1,0], dilations = [1,2,1]>(x, w, b) }"""
    model = case_model(Case(graph))
    weights = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    _, after, analysis = folded(model, tmp_path / "model.onnx")
    ((_, feed),) = enumerate(seeded_feeds(input_specs(analysis.model.graph.inputs), 1)[:1])
    found = run_document(runtime, after, [feed])[0]["y"]
    padded = np.pad(feed["x"].astype(np.float64), [(0, 0), (0, 0), (1, 2), (0, 1), (2, 0)])
    wanted = np.zeros(found.shape)
    for o, d, h, w in itertools.product(*map(range, found.shape[1:])):
        window = padded[0, :, 2 * d : 2 * d + 3, h : h + 3 : 2, 3 * w : 3 * w + 3]
        wanted[0, o, d, h, w] = (window * weights["w"][o]).sum() + weights["b"][o]
    assert found.shape == (1, 3, 3, 6, 3)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_cost_decides_between_one_convolution_and_many(tmp_path: Path) -> None:
    """Over 16 depths a Toeplitz weight is mostly zeros; over 2 all of it is used, and over 1 two taps of three are never read."""
    counts = {}
    for depth in (1, 2, 16):
        graph = f"""g (float[1,32,{depth},16,16] x) => (y) <float[32,32,3,3,3] w>
        {{ y = Conv<pads = [1,1,1,1,1,1]>(x, w) }}"""
        before, _, analysis = folded(case_model(Case(graph)), tmp_path / "model.onnx")
        macs = sum(c.macs for c in analysis.costs.values())
        whole = sum(c.macs for c in analyze(before.skeleton()).costs.values())
        counts[depth] = [n.op_type for n in analysis.nodes()].count("Conv"), macs / whole
    assert counts[1] == (1, 1 / 3)
    assert counts[2] == (1, 2 / 3)
    assert counts[16][0] > 4
    assert counts[16][1] <= 1.0


def test_batch_stays_open(tmp_path: Path, runtime: Runtime) -> None:
    graph = """g (float["N",2,3,5,5] x) => (y) <float[4,2,3,3,3] w, int64[5] z = {1,4,2,10,10}>
    { c = Conv<pads = [1,1,1,1,1,1]>(x, w)  s = Shape(c)  a = Cast<to = 1>(s)  p = MaxPool<kernel_shape = [2,2,2]>(c)
      g = GlobalAveragePool(p)  f = Flatten(g)  y = Identity(f) }"""
    before, after, _ = folded(case_model(Case(graph)), tmp_path / "model.onnx")
    feeds = [{"x": np.random.default_rng(0).standard_normal((n, 2, 3, 5, 5)).astype(np.float32)} for n in (1, 3)]
    outcome = compare_documents(runtime, before, after, feeds, 500, exact=True, seeds=(0,), kinds="test")
    assert outcome.verdict == "equal", outcome


def test_axes_of_rank_5_that_are_no_depth_are_left_alone(tmp_path: Path) -> None:
    """A channel shuffle passes through rank 5, and there is nothing three-dimensional in it."""
    graph = """g (float[1,8,4,4] x) => (y) <int64[5] up = {1,2,4,4,4}, int64[4] down = {1,8,4,4}>
    { a = Reshape(x, up)  b = Transpose<perm = [0,2,1,3,4]>(a)  r = Relu(b)  y = Reshape(r, down) }"""
    with pytest.raises(AssertionError):
        folded(case_model(Case(graph)), tmp_path / "model.onnx")


@pytest.mark.parametrize("name", ["mask_guided_weighted_gap"])
def test_mask_guided_networks_are_mended_behind_their_inputs(name: str, tmp_path: Path) -> None:
    """From torch to a model whose only findings are its inputs of rank 5, equal on all outputs, and close to torch."""
    torch = pytest.importorskip("torch")
    system = importlib.import_module(f"npu_guard.models.{name}")
    network, inputs = system.build("tiny"), system.inputs("tiny")
    path, fixed = tmp_path / "model.onnx", tmp_path / "fixed.onnx"
    export(network, inputs, path, exporter="legacy", root=ROOT)
    exact = [s for s in catalog.substitutions() if s.exactness == EXACT]
    report = fix_model(str(path), registry.profile("aimotive-aiware"), Config(), exact, seeds=(0,))
    assert report.verification.verdict == "equal", report.verification
    inputs_left = [(f.rule, f.location.op_type, f.location.output) for f in report.after.findings]
    assert inputs_left == [("NPU402", "graph input", name) for name in inputs]
    save_document(report.document, fixed)
    analysis = analyze(load(fixed))
    assert not deep(analysis)
    assert [tuple(v.shape or ()) for v in analysis.model.graph.inputs] == [tuple(t.shape) for t in inputs.values()]
    with Runtime() as runtime, torch.no_grad():
        (found,) = run_document(runtime, Document.of(load(fixed)), [{k: v.numpy() for k, v in inputs.items()}])[0].values()
        np.testing.assert_allclose(found, network(**inputs).numpy(), rtol=1e-3, atol=1e-3)
