"""A substitution on a small graph, held against ONNX's reference implementation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.checking.context import Context
from npu_guard.checking.examples import case_model, profile_for
from npu_guard.checking.rule import Case
from npu_guard.file.document import Document
from npu_guard.file.load import load
from npu_guard.file.save import save_document
from npu_guard.file.value_names import names_in
from npu_guard.fixing import catalog
from npu_guard.rewriting import edit
from npu_guard.rewriting.substitution import Builder, Match


@functools.cache
def substitutions() -> dict[str, Any]:
    return {s.name: s for s in catalog.substitutions()}


@pytest.fixture
def rewrite(tmp_path: Path) -> Callable[..., list[str]]:
    """`rewrite(substitution, graph, limits)`: operators after it; the models are `before.onnx` and `after.onnx`."""
    return functools.partial(rewritten, tmp_path)


@pytest.fixture
def by_form(tmp_path: Path) -> Callable[..., Callable[..., Any]]:
    """`by_form(form, match, document, analysis)`: the model with the match replaced, once ONNX's checker has found it valid."""

    def replaced(form: Any, match: Match, document: Document, analysis: Analysis) -> onnx.ModelProto:
        build = Builder(match, document, names_in(document.proto.graph), lambda values: [])
        entries = [edit.Edit(match, build, form.rewrite(match, build))]
        save_document(edit.replace_matches(document, analysis.model.graph.nodes, entries), tmp_path / "after.onnx")
        onnx.checker.check_model(str(tmp_path / "after.onnx"), full_check=True)
        return onnx.load(tmp_path / "after.onnx")

    return replaced


def rewritten(folder: Path, name: str, graph: str, limits: dict[str, Any], own: Sequence[Any] = (), opset: int = 20) -> list[str]:
    """Operators after the substitution, once the reference implementation has found both models equal."""
    model = case_model(Case(graph, opset=opset))
    (folder / "before.onnx").write_bytes(model.SerializeToString())
    skeleton = load(folder / "before.onnx")
    document, analysis, substitution = Document.of(skeleton), analyze(skeleton), substitutions()[name]
    ctx = Context(analysis, profile_for(Case("", limits=limits)))
    edits: list[edit.Edit] = []
    taken = names_in(document.proto.graph)
    for node in analysis.nodes():
        match = substitution.match(node, ctx) if node.op_type in substitution.roots else None
        if match is None:
            continue
        first = match if isinstance(match, Match) else match[0]
        if not any(set(first.nodes) & set(other.match.nodes) for other in edits):
            build = Builder(first, document, taken, lambda values: [])
            edits.append(edit.Edit(first, build, substitution.rewrite(first, build)))
    assert edits
    save_document(edit.replace_matches(document, analysis.model.graph.nodes, edits), folder / "after.onnx")
    after = onnx.load(folder / "after.onnx")
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    feeds = {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    wanted, found = (ReferenceEvaluator(m, new_ops=list(own)).run(None, feeds) for m in (model, after))
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-3, atol=1e-3)
    return [node.op_type for node in after.graph.node]
