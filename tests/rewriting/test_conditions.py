"""Conditions as numbers: at the numbers next to each bound, at zeros of both signs, at the smallest and largest numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from npu_guard.analysis.analyze import analyze
from npu_guard.checking import registry
from npu_guard.checking.context import Context
from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case
from npu_guard.file.document import Document
from npu_guard.file.load import load
from npu_guard.file.save import save_document
from npu_guard.file.value_names import names_in
from npu_guard.fixing import catalog
from npu_guard.rewriting import edit
from npu_guard.rewriting.substitution import Builder, Match, Refused
from npu_guard.verification.compare import run_document
from npu_guard.verification.runtime import Runtime

(FORM,) = [s for s in catalog.substitutions() if s.name == "comparison-to-clip"]
NUMBERS = (0.5, -1.0, 20.0, 1e-40, 3e38)


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime() as running:
        yield running


def edges(dtype: type, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Bounds, the numbers next to them, extremes, and numbers between."""
    near: np.ndarray = np.asarray(np.clip(NUMBERS, -6e4, 6e4) if dtype is np.float16 else NUMBERS, dtype)
    least = np.finfo(dtype).smallest_subnormal
    edge = [*near, *np.nextafter(near, dtype(-np.inf)), *np.nextafter(near, dtype(np.inf)), *-near, 0.0, -0.0, least, -least]
    random = np.random.default_rng(seed)
    return random.choice(np.asarray([*edge, *random.standard_normal(20)], dtype), shape)


@pytest.mark.parametrize("dtype", ["float", "float16"])
@pytest.mark.parametrize(
    "nodes",
    [
        "m = Equal(x, u)  y = Cast<to = TYPE>(m)",
        "m = Equal(c, x)  y = Cast<to = TYPE>(m)",
        "m = LessOrEqual(x, u)  y = Where(m, u, x)",
        "m = GreaterOrEqual(x, u)  n = Not(m)  y = Where(n, u, x)",
        "a = Greater(x, c)  b = GreaterOrEqual(u, d)  m = Xor(a, b)  y = Where(m, x, z)",
        "a = Less(x, v)  b = Less(u, d)  m = And(a, b)  n = Or(m, a)  y = Where(n, z, u)",
        "a = Greater(v, c)  m = Transpose<perm = [0,1,3,2]>(a)  y = Where(m, x, u)",
        "a = Greater(x, c)  b = Less(u, d)  k = Where(a, x, u)  y = Where(b, k, z)",
        "a = Greater(x, c)  k = Where(a, x, u)  b = Less(k, d)  n = And(a, b)  y = Where(n, k, v)",
        "m = Greater(x, c)  a = And(mask, m)  y = Where(a, x, d)",
        "a = Equal(u, z)  q = Div(x, u)  y = Where(a, z, q)",
        "a = Greater(x, z)  l = Log(x)  k = Mul(l, x)  y = Where(a, k, u)",
        "a = GreaterOrEqual(x, z)  l = Sqrt(x)  n = Neg(x)  r = Sqrt(n)  y = Where(a, l, r)",
        "a = Greater(x, z)  r = Reciprocal(x)  e = Sqrt(r)  y = Where(a, e, d)",
    ],
)
def test_choices_are_those_of_the_original_at_every_number(nodes: str, dtype: str, tmp_path: Path, runtime: Runtime) -> None:
    kind, code = {"float": (np.float32, 1), "float16": (np.float16, 10)}[dtype]
    c, d = ("0.5", "-1.0") if kind is np.float32 else ("14336", "48128")  # the text has the bits of halves
    graph = f"""g ({dtype}[1,4,6,6] x, {dtype}[1,4,6,6] u, {dtype}[1,1,6,6] v) => ({dtype}["N",4,6,6] y)
        <{dtype} c = {{{c}}}, {dtype} d = {{{d}}}, {dtype} z = {{0}}, bool[6] mask = {{1,0,0,1,1,0}}> {{
        {nodes.replace("TYPE", str(code))} }}"""
    path = tmp_path / "model.onnx"
    path.write_bytes(case_model(Case(graph)).SerializeToString())
    skeleton = load(path)
    document, analysis = Document.of(skeleton), analyze(skeleton)
    ctx, taken = Context(analysis, registry.profile("aimotive-aiware")), names_in(document.proto.graph)
    edits: list[edit.Edit] = []
    for root in [n for n in analysis.nodes() if n.output.dtype == 9]:
        if not any(root in e.match.nodes for e in edits):
            match = FORM.match(root, ctx)
            assert isinstance(match, Match)
            build = Builder(match, document, taken, lambda values: [])
            edits.append(edit.Edit(match, build, FORM.rewrite(match, build)))
    after = edit.replace_matches(document, analysis.model.graph.nodes, edits)
    left = {n.op_type for n in after.proto.graph.node}
    assert not left & {"Where", "And", "Or", "Xor", "Not", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Cast"}
    shapes = {"x": (1, 4, 6, 6), "u": (1, 4, 6, 6), "v": (1, 1, 6, 6)}
    used = {i.name for i in after.proto.graph.input}
    session = onnxruntime.InferenceSession(str(path))
    for seed in range(4):
        fed = {n: edges(kind, s, 10 * seed + i) for i, (n, s) in enumerate(shapes.items()) if n in used}
        (wanted,) = session.run(None, fed)
        found = run_document(runtime, after, [fed])[0]["y"]
        np.testing.assert_array_equal(found, wanted)
    save_document(after, tmp_path / "after.onnx")
    onnx.checker.check_model(str(tmp_path / "after.onnx"), full_check=True)


def test_a_guard_takes_no_branch_that_somebody_else_reads(tmp_path: Path) -> None:
    """What is guarded is 1 where it is left out, and somebody else wants it there."""
    for tail, told in (("", ""), ("  k = Relu(l)", "may be infinite")):
        graph = f"""g (float[1,4,6,6] x) => (y{", k" if tail else ""}) <float z = {{0.0}}> {{
            a = Greater(x, z)  l = Log(x)  y = Where(a, l, z){tail} }}"""
        path = tmp_path / "model.onnx"
        path.write_bytes(case_model(Case(graph)).SerializeToString())
        analysis = analyze(load(path))
        root = next(n for n in analysis.nodes() if n.op_type == "Greater")
        ctx = Context(analysis, registry.profile("aimotive-aiware"))
        if told:
            with pytest.raises(Refused, match=told):
                FORM.match(root, ctx)
        else:
            assert isinstance(FORM.match(root, ctx), Match)
