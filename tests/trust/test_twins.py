"""Some of `make twins`: what means the same has the same findings, and a twin that means something else is noticed."""

from __future__ import annotations

import importlib.util
import itertools
import math
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

DEVICES = ("aimotive-aiware", "qualcomm-htp")
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
    some = itertools.islice(twins.examples(), 7, None, 60)
    compared, different = twins.differences(some, 6, DEVICES, twins=4)
    more, others = twins.differences(twins.networks(9000), 6, DEVICES, twins=4)
    assert (compared + more).total() > 20
    assert different + others == []


def test_every_rewriting_has_graphs_of_its_kind(twins: Any) -> None:
    with_own = {
        "from_the_end",
        "swapped",
        "products",
        "integers",
        "without_keepdims",
        "newer",
        "older",
        "dequantized",
        "quantized",
    }
    names = set(twins.TWINS)
    assert with_own < names
    for number in range(60):
        for name in sorted(names):
            model = twins.network(number)
            list(twins.labels(model))
            if twins.TWINS[name](model):
                names.discard(name)
                onnx.checker.check_model(model) if name not in ("own_name", "taken") else None
    assert not names


def test_mutants_have_the_finding_of_the_limit(twins: Any) -> None:
    assert twins.escaped(2) == []


def test_limits_of_device_files_are_told_one_step_beyond_and_no_earlier(twins: Any) -> None:
    """Also at operators of which the documents leave open whether the device has them, such as Neg on this one."""
    count, found = twins.unseen(("rockchip-rk3588",))
    assert (count > 20, found) == (True, [])


def test_limits_with_guards_and_alternatives(twins: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = ("ti-tidl:AM62A", "ethos-u55-legacy", "amd-dpu:DPUCADF8H")
    count, found = twins.guarded(devices)
    assert (count > 10, found) == (True, [])
    # Where no guard ever holds and every alternative suffices, the limits beyond which nothing is said are told.
    module = sys.modules["npu_guard.device.requirement"]
    monkeypatch.setattr(module.Requirement, "_alternatives", lambda *_: None)
    monkeypatch.setattr(module.Clause, "holds", lambda clause, node, ctx: module.Judged(False))
    _, silent = twins.guarded(devices)
    assert len(silent) > 5
    assert all("[]]" in line for line in silent)


def test_a_rewriting_that_means_something_else_is_noticed(twins: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that lengthens kernels is no twin."""

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
    _, different = twins.differences(itertools.islice(twins.examples(), 0, None, 10), 30, DEVICES[:1])
    assert different


def test_every_reason_belongs_to_a_rewriting_and_a_rule(twins: Any) -> None:
    codes = {rule.code for rule in twins.registry.rules()}
    assert {twin for twin, _ in twins.REASONS} <= set(twins.TWINS)
    assert {rule for _, rule in twins.REASONS} | set(twins.OF_ADDED) <= codes
