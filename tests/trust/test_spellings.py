"""`make ecosystem` excuses a difference between two exporters' spellings only where somebody has explained that very one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).parents[2] / "bench" / "spellings.py"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, which is in no package."""
    spec = importlib.util.spec_from_file_location("spellings", PATH)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "spellings", made)
    spec.loader.exec_module(made)
    return made


def test_each_explanation_is_for_one_difference(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "REASONS", {("net", "dynamo alone: 1 NPU101 error"): "a reason"})
    same = {"NPU101 error": 2, "NPU402 error (5)": 1}
    found = bench.pairs({
        "net.dynamo.onnx": same | {"NPU101 error": 3}, "net.ts.onnx": same, "other.dynamo.onnx": same, "other.ts.onnx": same,
        "alone.dynamo.onnx": same, "alone.onnx": same,
    })  # fmt: skip
    assert [(p.name, p.difference, p.reason) for p in found] == [
        ("net", "dynamo alone: 1 NPU101 error", "a reason"), ("other", "", ""),
    ]  # fmt: skip
    more = bench.pairs({"net.dynamo.onnx": same | {"NPU101 error": 4}, "net.ts.onnx": same | {"NPU402 error (5)": 2}})
    assert [(p.difference, p.reason) for p in more] == [
        ("dynamo alone: 2 NPU101 error; the older exporter alone: 1 NPU402 error (5)", "")
    ]
    assert (
        "1 networks are there in both spellings: 0 have the same findings, 0 differ for a reason, 1 without one."
        in bench.table(more)
    )
    assert "**not explained**" in bench.table(more)
