"""PyTorch before and after: the first class has the findings, the second has not, and both come to the same."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

import pytest
import torch
from msgspec.structs import replace

import npu_guard.rules
from npu_guard.checking import registry
from npu_guard.checking.pairs import Pair, at_finding, pair_for, pairs
from npu_guard.fixing import catalog
from npu_guard.pipeline.check import check_models
from npu_guard.project.config import Config
from npu_guard.project.export import export
from npu_guard.results.findings import Finding, Location, Outcome, Remedy, Severity

FOLDER = Path(next(iter(npu_guard.rules.__path__)), "pytorch")
NO_SUBSTITUTION = {"detector-decode"}
"""What is written otherwise in PyTorch, and which `fix` leaves."""


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"pair_{name}", FOLDER / f"{name.replace('-', '_')}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("pair", pairs(), ids=lambda pair: pair.name)
def test_a_pair_removes_its_findings_and_comes_to_the_same(pair: Pair, tmp_path: Path) -> None:
    code = loaded(pair.name)
    torch.manual_seed(0)
    before = code.Before().eval()
    after = code.After(*([before] if "old" in inspect.signature(code.After).parameters else [])).eval()
    x = torch.randn(code.SHAPE)
    given = getattr(code, "arranged", lambda x: x)(x)
    wanted, result = before(x), after(given)
    allowed = getattr(code, "DIFFERENCE", 1e-6)
    if allowed is not None:
        result = code.decode(result) if hasattr(code, "decode") else result
        for a, b in zip(*(t if isinstance(t, tuple) else (t,) for t in (wanted, result)), strict=True):
            assert (a.reshape(-1) - b.reshape(-1)).abs().max() <= allowed * max(1, a.abs().max())
    found = []
    for name, module, example in (("before", before, x), ("after", after, given)):
        export(module, {"x": example}, tmp_path / f"{name}.onnx", exporter=getattr(code, "EXPORTER", "legacy"))
        (model,) = check_models([str(tmp_path / f"{name}.onnx")], Config(profile=code.DEVICE), remedies=False).models
        found.append({(f.rule, f.location.op_type) for f in model.findings})
    assert set(code.FINDINGS) <= found[0]
    assert not set(code.FINDINGS) & found[1]


def test_each_substitution_has_a_pair_about_rules() -> None:
    assert {p.name for p in pairs()} - NO_SUBSTITUTION == {s.name for s in catalog.substitutions()}
    codes = {rule.code for rule in registry.rules()}
    assert all(code in codes for pair in pairs() for code, _ in pair.findings)


@pytest.mark.parametrize(
    ("rule", "op", "substitution", "name"),
    [
        ("NPU101", "Erf", "gelu-to-tanh", "gelu-to-tanh"),
        ("NPU101", "TopK", None, "detector-decode"),
        ("NPU404", "Greater", "comparison-to-clip", "comparison-to-clip"),
        ("NPU102", "Transpose", "tokens-to-maps", "tokens-to-maps"),
    ],
)
def test_what_is_shown_is_about_the_operator_at_hand(rule: str, op: str, substitution: str | None, name: str) -> None:
    found = pair_for(rule, op, substitution)
    assert found is not None
    assert found.name == name
    assert pair_for("NPU101", "NoSuchOperator", None) is None


@pytest.mark.parametrize("name", ["tensors-to-maps", "resize-to-fixed-conv-transpose"])
def test_a_pair_about_a_kind_of_block_is_shown_at_that_block(name: str, tmp_path: Path) -> None:
    code = loaded(name)
    export(code.Before().eval(), {"x": torch.randn(code.SHAPE)}, tmp_path / "net.onnx", exporter="legacy")
    (model,) = check_models([str(tmp_path / "net.onnx")], Config(profile=code.DEVICE), remedies=True).models
    shown = {found.name for f in model.findings if (found := at_finding(f)) is not None}
    assert shown == {name}
    merged = [f for f in model.findings if f.remedy is not None and f.remedy.operators]
    for other in (replace(f, remedy=replace(f.remedy, operators=(*f.remedy.operators, "Softmax"))) for f in merged if f.remedy):
        assert (at_finding(other) is None) == (name == "tensors-to-maps"), "a window attention merges no patches"


def test_a_pair_about_another_block_is_not_shown() -> None:
    """Cubic resizing is not four times the size, a Softplus alone is no Mish, and an Unsqueeze alone no channel attention."""
    place = Location("n", "Resize", "y")
    remedy = Remedy("resize-to-fixed-conv-transpose", "exact", "")
    cubic = Finding("NPU501", "resize-mode", Severity.ERROR, Outcome.FAIL, place, "resizes by cubic x2 half_pixel", remedy=remedy)
    assert at_finding(cubic) is None
    assert at_finding(replace(cubic, message="resizes by nearest x4 asymmetric")) is not None
    softplus = pair_for("NPU101", "Softplus", None)
    assert softplus is not None
    assert softplus.name == "softplus-to-exponential", "not the pair of Mish"
    assert pair_for("NPU102", "Unsqueeze", None) is None
    assert pair_for("NPU101", "Softmax", None) is None
    assert pair_for("NPU103", "MatMul", None) is None
