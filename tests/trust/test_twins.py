"""Some of `make twins`: what means the same has the same findings, and a twin that means something else is noticed."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

PATH = Path(__file__).parents[2] / "fuzz" / "twins.py"


@pytest.fixture
def twins(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, which is in no package."""
    spec = importlib.util.spec_from_file_location("twins", PATH)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "twins", made)
    spec.loader.exec_module(made)
    return made


def test_twins_have_the_same_findings(twins: Any) -> None:
    compared, different = twins.differences(every=40, devices=("aimotive-aiware", "qualcomm-htp"))
    assert compared > 20
    assert different == []


def test_a_mutant_is_noticed(twins: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rewriting that lengthens kernels by two is no twin."""

    def longer(model: onnx.ModelProto) -> bool:
        weights = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
        grown = [t for t in model.graph.initializer if t.name in weights and len(t.dims) == 4]
        for tensor in grown:
            tensor.dims[2] += 18
            for field in ("float_data", "raw_data"):
                tensor.ClearField(field)
            tensor.raw_data = bytes(4 * math.prod(tensor.dims))
        return bool(grown)

    monkeypatch.setattr(twins, "TWINS", {"longer": longer})
    _, different = twins.differences(every=10, devices=("aimotive-aiware",))
    assert different
