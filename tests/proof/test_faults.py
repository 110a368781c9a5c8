"""Every substitution's examples with a subtle fault in them: the field calls none proved that is not the same bit by bit."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

from npu_guard.file.document import Document
from npu_guard.file.load import load
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog, driver, proving
from npu_guard.proof.prove import prove
from npu_guard.results.findings import Verification
from npu_guard.results.proof import LABELS, PROVED, ROUNDING, Proof
from npu_guard.rewriting.substitution import EXACT, Example, Substitution
from npu_guard.verification.compare import run_document
from npu_guard.verification.feeds import input_specs, seeded_feeds
from npu_guard.verification.runtime import CannotRun, Runtime


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"proof_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


faults = _module(Path(__file__).with_name("faults.py"))
harness = _module(Path(__file__).parents[1] / "rewriting" / "test_substitutions.py")
EXACT_ONES = [s for s in catalog.substitutions() if s.exactness == EXACT]
EXAMPLES = [pytest.param(s, e, id=f"{s.name}-{i}") for s in EXACT_ONES for i, e in enumerate(s.good)]


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime() as running:
        yield running


@pytest.fixture
def as_written(monkeypatch: pytest.MonkeyPatch) -> list[Proof]:
    """The driver keeps whatever is written; what is known of it lands here."""
    found: list[Proof] = []

    def keep(self: Any, edits: Any, dear: Any) -> dict[Any, Verification]:
        state, budget = self.state, self._settings.budget
        found.extend(proving.prove_edits(state.document, state.analysis, edits, budget))
        return {e.match: Verification("equal", "", (), "", "", ()) for e in edits}

    monkeypatch.setattr(driver._Driver, "_prove", keep)
    return found


def same_bits(runtime: Runtime, before: Document, after: Document) -> bool:
    """Whether both give the same numbers, to the last bit, on inputs of all kinds."""
    analysis = harness.analyze(before.skeleton())
    feeds = [feed for seed in (0, 1) for feed in seeded_feeds(input_specs(analysis.model.graph.inputs), seed)]
    try:
        one, other = (run_document(runtime, d, feeds) for d in (before, after))
    except CannotRun:
        return False
    names = [o.name for o in before.proto.graph.output]
    return all(
        np.array_equal(a[n], b[n], equal_nan=a[n].dtype.kind == "f") for a, b in zip(one, other, strict=True) for n in names
    )


@pytest.mark.parametrize(("substitution", "example"), EXAMPLES)
def test_faults_are_seen(
    substitution: Substitution, example: Example, tmp_path: Path, runtime: Runtime, as_written: list[Proof]
) -> None:
    fixed, before = harness.fix(substitution, example, tmp_path, runtime)
    assert fixed.applied
    assert max((p.label for p in as_written), key=LABELS.index) == example.label
    save_document(fixed.document, tmp_path / "fixed.onnx")
    right = Document.of(load(tmp_path / "fixed.onnx"))
    for number, fault in enumerate((*faults.FAULTS, faults.weight_moved_by_an_ulp)):
        model = onnx.load(tmp_path / "fixed.onnx")
        if not fault(model, np.random.default_rng(0)):
            continue
        path = tmp_path / f"fault{number}.onnx"
        onnx.save(model, path)
        after = Document.of(load(path))
        label = prove(before, after).label
        allowed = (ROUNDING,) if fault is faults.weight_moved_by_an_ulp else ()
        if label in (PROVED, ROUNDING) and label not in allowed:
            assert same_bits(runtime, right, after), f"{fault.__name__} is called {label}"


@pytest.mark.parametrize("substitution", EXACT_ONES, ids=lambda s: s.name)
def test_mutant_is_not_proved(substitution: Substitution, tmp_path: Path, runtime: Runtime, as_written: list[Proof]) -> None:
    class Mutant(type(substitution)):  # type: ignore[misc]
        rewrite = type(substitution).mutant

    for example in substitution.good[:2]:
        as_written.clear()
        harness.fix(Mutant(), example, tmp_path, runtime)
        assert as_written
        assert not {p.label for p in as_written} & {PROVED, ROUNDING}, as_written
