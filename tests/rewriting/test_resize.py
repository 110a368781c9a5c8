"""Resize on a static grid by fixed weights: any form against ONNX Runtime, which form is taken, and what it costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from npu_guard.analysis.analyze import analyze
from npu_guard.checking.context import Context
from npu_guard.checking.examples import case_model, profile_for
from npu_guard.checking.rule import Case
from npu_guard.file.document import Document
from npu_guard.file.load import load
from npu_guard.file.value_names import names_in
from npu_guard.fixing import catalog
from npu_guard.rewriting import edit
from npu_guard.rewriting.interpolation import Sampling
from npu_guard.rewriting.resample_forms import regular
from npu_guard.rewriting.substitution import Builder, Refused
from npu_guard.verification.compare import compare_documents, run_document
from npu_guard.verification.feeds import input_specs, seeded_feeds
from npu_guard.verification.runtime import CannotRun, Runtime

SUBSTITUTION = next(s for s in catalog.substitutions() if s.name == "resize-to-fixed-conv-transpose")
NEAREST = [{"mode": "nearest", "scales": [2]}]


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime() as running:
        yield running


def rewritten(model: onnx.ModelProto, path: Path, **limits: Any) -> tuple[Document, Document]:
    path.write_bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())
    skeleton = load(path)
    document, analysis = Document.of(skeleton), analyze(skeleton)
    ctx = Context(analysis, profile_for(Case("", limits={"resize": NEAREST, "conv.kernel_max": 17} | limits)))
    node = next(n for n in analysis.nodes() if n.op_type in SUBSTITUTION.roots)
    sites = SUBSTITUTION.match(node, ctx)
    assert isinstance(sites, list)
    match = sites[-1 if limits else 0]  # that which is within the limits of the device, where it has some
    build = Builder(match, document, names_in(document.proto.graph), lambda values: [])
    outputs = SUBSTITUTION.rewrite(match, build)
    return document, edit.replace_matches(document, analysis.model.graph.nodes, [(match, build, outputs)])


def resize(size: tuple[int, int], out: tuple[int, int], channels: int = 2, **attributes: Any) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "", "s"], ["y"], **attributes)], "g",
        [helper.make_tensor_value_info("x", 1, [1, channels, *size])], [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(np.array([1, channels, *out]), "s")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=8)


def operators(document: Document) -> Counter[str]:
    return Counter(n.op_type for n in document.proto.graph.node)


@st.composite
def resizes(draw: st.DrawFn) -> onnx.ModelProto:
    """Any mode, on extents small enough for edges to matter, at scales whole and not."""
    mode = draw(st.sampled_from(["nearest", "linear", "cubic"]))
    transforms = ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"]
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": draw(st.sampled_from(transforms))}
    if mode == "nearest":
        attributes["nearest_mode"] = draw(st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]))
    if mode == "cubic":
        attributes |= {"exclude_outside": draw(st.integers(0, 1)), "cubic_coeff_a": draw(st.sampled_from([-0.5, -0.75]))}
    size = tuple(draw(st.integers(1, 9)) for _ in range(2))
    whole = draw(st.booleans())
    scales = [draw(st.integers(1, 5)) if whole else draw(st.integers(1, 12)) / draw(st.sampled_from([2, 3, 4])) for _ in range(2)]
    out = tuple(int(n * s) for n, s in zip(size, scales, strict=True))
    assume(all(out) and out != size)
    model = resize(size, out, **attributes)  # type: ignore[arg-type]
    if draw(st.booleans()):
        del model.graph.initializer[:]
        model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, *scales], np.float32), "s"))
        model.graph.node[0].input[:] = ["x", "", "s"]
    return model


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(model=resizes(), limited=st.booleans())
def test_any_resize(model: onnx.ModelProto, limited: bool, tmp_path_factory: pytest.TempPathFactory, runtime: Runtime) -> None:
    limits = {"conv.kernel_max": 3, "conv.stride_max": 2, "pool.window_max": 1} if limited else {}
    try:
        before, after = rewritten(model, tmp_path_factory.mktemp("resize") / "model.onnx", **limits)
    except Refused as refusal:
        if "last bit" in refusal.reason:
            return
        raise
    analysis = analyze(before.skeleton())
    feeds = seeded_feeds(input_specs(analysis.model.graph.inputs), 2)
    try:
        found = run_document(runtime, before, feeds[:1])[0]["y"]
    except CannotRun:
        assume(False)
    assume(
        found.shape == analysis.model.graph.outputs[0].shape
    )  # at scales that are not whole, ONNX and the runtime may round apart
    outcome = compare_documents(runtime, before, after, feeds, 16, exact=True, seeds=(2,), kinds="test")
    assert outcome.verdict == "equal", (outcome, onnx.printer.to_text(model))


@pytest.mark.parametrize(
    ("size", "out", "attributes", "expected"),
    [
        ((8, 12), (24, 36), {"mode": "nearest"}, {"ConvTranspose": 1}),
        ((8, 12), (4, 4), {"mode": "nearest"}, {"AveragePool": 1, "Slice": 1}),
        ((8, 12), (32, 48), {"mode": "linear"}, {"Slice": 4, "Concat": 2, "ConvTranspose": 1}),
        ((9, 5), (33, 17), {"mode": "linear", "coordinate_transformation_mode": "align_corners"}, {"ConvTranspose": 1}),
        # Pixels repeated by the device's own Resize: no products, whatever the number of channels.
        (
            (8, 8),
            (32, 32),
            {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
            {"Slice": 10, "Concat": 2, "Resize": 1, "Mul": 6, "Add": 4},
        ),
        ((64, 64), (2, 4), {"mode": "linear"}, {"Slice": 2, "AveragePool": 1}),
        ((9, 9), (9, 3), {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}, {"AveragePool": 1}),
        ((8, 8), (4, 4), {"mode": "cubic"}, {"Slice": 4, "Concat": 2, "Conv": 1}),
    ],
)
def test_the_cheapest_form_is_taken(
    size: tuple[int, int],
    out: tuple[int, int],
    attributes: dict[str, Any],
    expected: dict[str, int],
    tmp_path: Path,
    runtime: Runtime,
) -> None:
    before, after = rewritten(resize(size, out, **attributes), tmp_path / "model.onnx")
    assert operators(after) == Counter(expected)
    feeds = seeded_feeds(input_specs(analyze(before.skeleton()).model.graph.inputs), 2)
    assert compare_documents(runtime, before, after, feeds, 16, exact=True, seeds=(2,), kinds="test").verdict == "equal"


def test_kernel_of_a_whole_scale_is_the_hat() -> None:
    """Linear at scale 3 with half-pixel centres: thirds up and down, by hand."""
    x = [Fraction(2 * o + 1, 6) - Fraction(1, 2) for o in range(12)]
    taps = tuple(((math.floor(v), 1 - (v - math.floor(v))), (math.floor(v) + 1, v - math.floor(v))) for v in x)
    found = regular(Sampling(4, taps))
    assert found is not None
    assert (found.up, found.down, found.low, found.high) == (3, 1, 1, 1)
    assert [w for w in found.kernel if w] == [Fraction(n, 3) for n in (1, 2, 3, 2, 1)]


def test_too_many_slices_are_refused(tmp_path: Path) -> None:
    model = resize((301, 301), (1000, 1000), mode="linear")
    with pytest.raises(Refused, match="more than 512"):
        rewritten(model, tmp_path / "model.onnx")


def test_open_batch(tmp_path: Path, runtime: Runtime) -> None:
    graph = """g (float["N",3,4,4] x) => (y) <float[4] s = {1,1,3,3}>
    { y = Resize<mode = "linear", coordinate_transformation_mode = "align_corners">(x, , s) }"""
    before, after = rewritten(case_model(Case(graph)), tmp_path / "model.onnx")
    feeds = [{"x": np.random.default_rng(0).standard_normal((n, 3, 4, 4)).astype(np.float32)} for n in (1, 3)]
    assert compare_documents(runtime, before, after, feeds, 16, exact=True, seeds=(0,), kinds="test").verdict == "equal"
