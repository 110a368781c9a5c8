"""Approximate substitutions on the zoo's blocks: fitted to features with structure, judged on samples that were held out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from npu_guard.checking import registry
from npu_guard.fixing import catalog
from npu_guard.fixing.driver import FixReport
from npu_guard.fixing.report import FixResult
from npu_guard.models import linear_attention, self_attention
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.project.export import export
from npu_guard.rewriting import axial
from npu_guard.rewriting.fitting import fit_parts
from npu_guard.rewriting.substitution import EXACT, Refused

ROOT = Path(__file__).parents[2]
SHAPE = (1, 64, 4, 6)
SELF, LINEAR, GATE = "self-attention-to-axial-conv", "linear-attention-to-axial-conv", "spatial-gate-removal"


def features(count: int, shape: tuple[int, ...], causes: int, seed: int = 0) -> NDArray[np.float32]:
    """Smooth maps of a few causes, mixed over the channels alike in every sample, as in a trained network."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((shape[1], causes)) / causes**0.5
    rows, columns = np.fft.fftfreq(shape[2])[:, None], np.fft.rfftfreq(shape[3])[None]
    spectrum = np.fft.rfft2(rng.standard_normal((count, shape[0], causes, *shape[2:]))) / (0.08 + rows**2 + columns**2) ** 0.75
    maps = np.fft.irfft2(spectrum, s=shape[2:])
    maps = maps / maps.std((3, 4), keepdims=True) + 0.5 * rng.standard_normal((*maps.shape[:3], 1, 1))
    noise = 0.1 * rng.standard_normal((count, *shape))
    return (np.einsum("cr,nbrhw->nbchw", mix, maps) + noise).astype(np.float32)


def exported(module: torch.nn.Module, path: Path, exporter: str = "dynamo", shape: tuple[int, ...] = SHAPE) -> Path:
    export(module, {"x": torch.zeros(shape)}, path, exporter=exporter, root=ROOT)
    return path


def attention(sharpness: float) -> torch.nn.Module:
    """The zoo's block with scores scaled."""
    module = self_attention.build("tiny")
    with torch.no_grad():
        module.query.weight.mul_(sharpness)
        module.query.bias.mul_(sharpness)
    return module


def fix(path: Path, samples: NDArray[np.float32], *names: str) -> FixReport:
    calibration = path.with_suffix(".npz")
    np.savez(calibration, x=samples)
    chosen = [s for s in catalog.substitutions() if s.name in names]
    return fix_model(str(path), registry.profile("aimotive-aiware"), Config(), chosen, calibration=calibration, seeds=(0,))


def ratios(text: str) -> list[float]:
    return [float(n) for n in re.findall(r"-?\d+\.\d", text)]


@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
def test_self_attention_comes_closer_than_trivial_fits(tmp_path: Path, exporter: str) -> None:
    report = fix(exported(attention(0.3), tmp_path / "m.onnx", exporter), features(9, SHAPE, 6), SELF)
    assert [a.substitution for a in report.applied] == [SELF]
    assert report.applied[0].exactness != EXACT
    assert not [f for f in report.after.findings if f.rule in ("NPU101", "NPU102", "NPU103")]
    held_out, mean, value = ratios(report.applied[0].note)
    assert held_out > max(mean, value)
    assert held_out > 7
    # V, gamma and the residual stay: one convolution 1x1 is left of three, and two depthwise ones are new.
    kernels = [tuple(n.attribute[i].ints) for n in report.document.proto.graph.node if n.op_type == "Conv"
               for i, a in enumerate(n.attribute) if a.name == "kernel_shape"]  # fmt: skip
    assert sorted(kernels) == [(1, 1), (1, 11), (7, 1)]
    assert f"approximate: {report.applied[0].note}; needs fine-tuning" in registry.renderer("text", "fix")(FixResult(report))


def test_linear_attention_comes_closer_than_trivial_fits(tmp_path: Path) -> None:
    report = fix(exported(linear_attention.build("tiny"), tmp_path / "m.onnx"), features(30, SHAPE, 3), LINEAR)
    assert [a.substitution for a in report.applied] == [LINEAR], report.refused
    assert not [f for f in report.after.findings if f.rule in ("NPU102", "NPU103")]
    held_out, mean, value = ratios(report.applied[0].note)
    assert held_out > max(mean, value)


def test_the_same_samples_give_the_same_model(tmp_path: Path) -> None:
    path = exported(attention(0.3), tmp_path / "m.onnx")
    first, second = (
        fix(path, features(9, SHAPE, 6), SELF).document.proto.SerializeToString(deterministic=True) for _ in range(2)
    )
    assert first == second


def test_peaked_attention_is_refused_with_its_numbers(tmp_path: Path) -> None:
    report = fix(exported(attention(3.0), tmp_path / "m.onnx"), features(9, SHAPE, 64), SELF)
    assert not report.applied
    (refused,) = report.refused
    assert "does not beat the trivial fits: held-out" in refused.reason
    assert len(ratios(refused.reason)) == 3


def test_nothing_approximate_without_being_asked(tmp_path: Path) -> None:
    from npu_guard.commands.fix import _substitutions

    assert not {SELF, LINEAR, GATE} & {s.name for s in _substitutions(False, ())}
    allowed = [s.name for s in _substitutions(True, ())]
    assert allowed.index("self-attention-to-position-maps") < allowed.index(SELF)
    assert allowed.index("wide-reduce-max-to-groups") < allowed.index(GATE)
    names = [s.name for s in _substitutions(False, ())]
    report = fix(exported(attention(0.3), tmp_path / "m.onnx"), features(3, SHAPE, 6), *names)
    assert {a.exactness for a in report.applied} <= {EXACT}


def test_wide_spatial_gate_becomes_a_factor(tmp_path: Path) -> None:
    from npu_guard.models.blocks.attention import SpatialGate
    from npu_guard.models.blocks.seeding import seeded

    shape = (1, 264, 4, 6)
    path = exported(seeded(SpatialGate, seed=1), tmp_path / "m.onnx", shape=shape)
    report = fix(path, features(9, shape, 6), GATE)
    assert [a.substitution for a in report.applied] == [GATE]
    assert not [f for f in report.after.findings if f.rule == "NPU302"]
    held_out, untouched = ratios(report.applied[0].note)
    assert held_out > max(untouched, 0)
    exact = fix(path, features(3, shape, 6), GATE, "wide-reduce-max-to-groups")
    assert [a.substitution for a in exact.applied] == ["wide-reduce-max-to-groups"]


def test_fit_finds_what_is_an_axial_convolution() -> None:
    rng = np.random.default_rng(0)
    values = [rng.standard_normal((2, 3, 9, 8)) for _ in range(9)]

    def target(v: NDArray[Any]) -> NDArray[Any]:
        padded = np.pad(v, ((0, 0), (0, 0), (2, 2), (2, 2)))
        return 0.5 * padded[:, :, :-4, 2:-2] - 0.25 * padded[:, :, 2:-2, 3:-1] + 2 * v + 3 * v.mean((2, 3), keepdims=True)

    found = axial.fit_axial(values, [target(v) for v in values], (5, 5))
    assert np.allclose(found.down, [0.5, 0, 2, 0, 0], atol=2e-2)
    assert np.allclose(found.across, [0, 0, 0, -0.25, 0], atol=2e-2)
    assert np.allclose(found.mean, 3, atol=0.1)
    assert found.held_out > 40
    assert max(found.mean_alone, found.value_alone) < 20


def test_fit_of_one_sample_holds_positions_out() -> None:
    assert fit_parts([30]) == (0, 10, 20, 30)
    assert fit_parts([10] * 9) == (0, 30, 60, 90)
    assert fit_parts([10, 10]) == (0, 5, 10, 20)


def test_fit_refuses_what_is_not_finite() -> None:
    array = np.full((1, 2, 3, 3), np.nan)
    with pytest.raises(Refused, match="not finite"):
        axial.fit_axial([array], [array], (3, 3))
    with pytest.raises(Refused, match="no samples"):
        axial.fit_axial([], [], (3, 3))
