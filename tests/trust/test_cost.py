"""What `check` costs, counted: start-up beside its record, growth by ratios. Nothing here is timed, so nothing can flake."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
needs_proc = pytest.mark.skipif(not os.access("/proc/self/io", os.R_OK), reason="the system does not count bytes read")

# Each makes `check` worse in one way, to see that it is noticed.
IMPORTS = "import jinja2"
AGAIN = """
from npu_guard.results import fingerprint
once = fingerprint.with_fingerprints
fingerprint.with_fingerprints = lambda findings: [once(findings) for _ in range(20)][-1]
"""
QUADRATIC = """
from npu_guard.analysis.validation import agreement
was = agreement.after_inference
def slow(model, *arguments, **options):
    for node in model.graph.nodes:
        for other in model.graph.nodes:
            if other.inputs is node.outputs:
                raise AssertionError
    return was(model, *arguments, **options)
agreement.after_inference = slow
"""
HOARDS = """
from npu_guard.analysis.validation import agreement
was = agreement.after_inference
def slow(model, *arguments, **options):
    model.kept = [list(model.graph.nodes) for _ in model.graph.nodes]
    return was(model, *arguments, **options)
agreement.after_inference = slow
"""
READS = """
from npu_guard.file import load
was = load.read_content
def slow(path, *arguments, **options):
    with open(path, "rb") as file:
        while file.read(1 << 24):
            pass
    return was(path, *arguments, **options)
load.read_content = slow
"""
TOUCHES = """
import mmap
from npu_guard.file import load
was = load.read_content
def slow(path, *arguments, **options):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        assert not any(data[at] > 255 for at in range(0, len(data), 4096))
    return was(path, *arguments, **options)
load.read_content = slow
"""


@pytest.fixture(scope="session")
def counts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("counts", ROOT / "bench" / "counts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def runs(counts: ModuleType) -> Mapping[str, Mapping[str, Any]]:
    return {model: counts.start(model) for model in (counts.CLEAN, counts.SAMPLE)}


@pytest.mark.parametrize("model", ["CLEAN", "SAMPLE"])
def test_check_costs_what_was_recorded(counts: ModuleType, runs: Mapping[str, Mapping[str, Any]], model: str) -> None:
    recorded, name = counts.recorded(), getattr(counts, model)
    if recorded is None:
        pytest.skip("nothing is recorded for this version of Python; python bench/counts.py --record")
    grown = counts.grown(runs[name], recorded[name])
    assert not grown, "\n".join(grown)


def test_start_up_beside_that_of_onnx(counts: ModuleType, runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Where nothing is recorded, this holds still."""
    for model, run in runs.items():
        assert counts.to_onnx(run) <= counts.TO_ONNX[model], model


def test_a_new_import_is_noticed_and_named(counts: ModuleType, runs: Mapping[str, Mapping[str, Any]]) -> None:
    grown = "\n".join(counts.grown(counts.start(counts.CLEAN, also=IMPORTS), runs[counts.CLEAN]))
    assert "modules imported" in grown
    assert "new: jinja2" in grown
    assert "--record" in grown


def test_more_work_is_noticed_and_named(counts: ModuleType, runs: Mapping[str, Mapping[str, Any]]) -> None:
    sample = runs[counts.SAMPLE]
    grown = "\n".join(counts.grown(counts.start(counts.SAMPLE, also=AGAIN), sample))
    assert "bytecodes in npu-guard" in grown
    assert "npu_guard/results/fingerprint.py: +" in grown
    assert not counts.grown(sample, sample)


@pytest.mark.parametrize("shape", ["chain", "findings", "fan", "passed_on", "rearranged", "nested"])
def test_work_is_linear_in_the_nodes(counts: ModuleType, shape: str) -> None:
    assert shape in counts.SHAPES
    grown = {form: ratio for form, ratio in counts.growth(shape).items() if ratio > counts.LINEAR[form]}
    assert not grown, f"twice as many nodes of {shape} cost so many times as much; see bench/grown.py for the shape"


def test_all_shapes_are_tried(counts: ModuleType) -> None:
    """The list above is written out, so that each is a test of its own."""
    (mark,) = (m for m in test_work_is_linear_in_the_nodes.pytestmark if m.name == "parametrize")  # type: ignore[attr-defined]
    assert mark.args[1] == list(counts.SHAPES)


def test_a_quadratic_walk_is_noticed(counts: ModuleType) -> None:
    found = counts.growth("chain", also=QUADRATIC)
    assert all(ratio > counts.LINEAR[form] for form, ratio in found.items()), found


def test_memory_is_linear_in_the_nodes(counts: ModuleType) -> None:
    assert counts.memory("findings") <= counts.LINEAR["text"]


def test_memory_that_is_quadratic_is_noticed(counts: ModuleType) -> None:
    assert counts.memory("findings", also=HOARDS) > counts.LINEAR["text"]


@needs_proc
@pytest.mark.parametrize("where", ["inside", "beside"])
def test_weights_are_never_read(counts: ModuleType, tmp_path: Path, where: str) -> None:
    found = counts.weights(tmp_path, where)
    assert max(found.values()) <= counts.WEIGHTS, found


@needs_proc
@pytest.mark.parametrize(("also", "what"), [(READS, "bytes read"), (TOUCHES, "kilobytes of memory")], ids=["read", "mapped"])
def test_reading_weights_is_noticed(counts: ModuleType, tmp_path: Path, also: str, what: str) -> None:
    assert counts.weights(tmp_path, "inside", 3, also=also)[what] > counts.WEIGHTS
