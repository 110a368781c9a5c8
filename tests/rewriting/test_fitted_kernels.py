"""Deformable convolutions and channel attention as what comes closest: on features with structure, judged on held-out ones."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from npu_guard.checking import registry
from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case
from npu_guard.commands.fix import _substitutions
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.fixing.driver import FixReport
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.rewriting import deformable
from npu_guard.rewriting.fitting import fit_parts
from npu_guard.rewriting.sampling import Geometry, Sample
from npu_guard.rewriting.substitution import Refused

DEFORM, BOTTLENECK = "deformable-to-conv", "eca-to-bottleneck-se"
DEFORMABLE = """g (float[1,6,13,19] x) => (y)
    <float[18,6,3,3] v, float[18] shift, float near, float[8,6,3,3] w, float[8] b> {
        c = Conv<pads = [1,1,1,1]>(x, v)  n = Mul(c, near)  o = Add(n, Reshaped)
        y = DeformConv<pads = [1,1,1,1]>(x, w, o, b) }""".replace("float[18] shift", "float[1,18,1,1] Reshaped")


def smooth(count: int, shape: tuple[int, ...], causes: int = 4, seed: int = 0) -> NDArray[np.float32]:
    """Maps of a few smooth causes, mixed over the channels alike in every sample."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((shape[1], causes))
    rows, columns = np.fft.fftfreq(shape[2])[:, None], np.fft.rfftfreq(shape[3])[None]
    spectrum = np.fft.rfft2(rng.standard_normal((count, shape[0], causes, *shape[2:]))) / (0.08 + rows**2 + columns**2) ** 0.75
    maps = np.fft.irfft2(spectrum, s=shape[2:])
    maps = maps / maps.std((3, 4), keepdims=True) + rng.standard_normal((*maps.shape[:3], 1, 1))
    return np.einsum("cr,nbrhw->nbchw", mix, maps).astype(np.float32)


def fix(model: onnx.ModelProto, folder: Path, x: NDArray[np.float32], *names: str) -> FixReport:
    path = folder / "model.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    np.savez(path.with_suffix(".npz"), x=x)
    chosen = [s for s in catalog.substitutions() if s.name in names]
    profile = registry.profile("aimotive-aiware")
    return fix_model(str(path), profile, Config(), chosen, calibration=path.with_suffix(".npz"), seeds=(0,))


def deform(near: float) -> onnx.ModelProto:
    """Offsets that are the same everywhere, but for `near` times what a convolution makes of the map."""
    model = case_model(Case(DEFORMABLE))
    (scale,) = (t for t in model.graph.initializer if t.name == "near")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.asarray(near, np.float32), "near"))
    return model


def ratios(text: str) -> list[float]:
    return [float(n) for n in re.findall(r"-?\d+\.\d", text)]


def test_offsets_that_do_not_change_are_exact(tmp_path: Path) -> None:
    report = fix(deform(0.0), tmp_path, smooth(3, (1, 6, 13, 19)), DEFORM)
    (applied,) = report.applied
    assert "exact as offsets and mask do not change" in applied.note
    assert min(o.snr_db for o in report.verification.outputs) >= 100
    assert [n.op_type for n in report.document.proto.graph.node] == ["Conv"]  # what computed the offsets is gone
    target = tmp_path / "fixed.onnx"
    save_document(report.document, target)
    assert not [i for i in onnx.load(target).graph.initializer if i.name in ("v", "near")]


def test_offsets_that_change_a_little_come_close(tmp_path: Path) -> None:
    found = []
    for near in (0.004, 0.02):
        report = fix(deform(near), tmp_path, smooth(9, (1, 6, 13, 19)), DEFORM)
        held_out, unmoved = ratios(report.applied[0].note)
        assert held_out > unmoved + 1
        assert report.verification.verdict == "close"
        found.append(held_out)
    assert found[0] > found[1] + 6


def test_offsets_that_point_anywhere_are_refused(tmp_path: Path) -> None:
    report = fix(deform(100.0), tmp_path, smooth(6, (1, 6, 13, 19)), DEFORM)
    assert not report.applied
    (refused,) = report.refused
    assert "more than the 17 of the longest kernel" in refused.reason


def test_what_is_fitted_is_the_mean_of_the_samples() -> None:
    """One tap at random among two pixels, on noise: half of each, and nothing else, whatever was fitted to it."""
    rng = np.random.default_rng(0)
    geometry = Geometry((40, 40), (40, 40), (1, 1), (1, 1), (0, 0), (1, 1), 1, 1)
    samples = []
    for _ in range(6):
        x = rng.standard_normal((1, 2, 40, 40))
        right = rng.integers(0, 2, (1, 1, 40, 40))
        offset = np.concatenate([np.zeros((1, 1, 40, 40)), right], 1)
        moved = np.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1)))[:, :, :, 1:]
        y = np.where(right, moved, x).sum(1, keepdims=True)
        samples.append(Sample(x, offset, None, y))
    found = deformable.fit_deformable(samples, np.ones((1, 2, 1, 1)), np.zeros(1), geometry, 17)
    assert found.window.extent[1] == 2
    np.testing.assert_allclose(found.weight[0, :, 0], 0.5, atol=0.03)
    assert found.held_out == pytest.approx(3.0, abs=0.3)  # half of the power is what a constant kernel can tell
    assert not found.constant


def test_a_kernel_that_would_be_too_long_is_refused() -> None:
    geometry = Geometry((40, 40), (40, 40), (1, 1), (1, 1), (0, 0), (1, 1), 1, 1)
    x = np.random.default_rng(0).standard_normal((1, 1, 40, 40))
    far = np.broadcast_to(np.array([0.0, 20.0]).reshape(1, 2, 1, 1), (1, 2, 40, 40))
    with pytest.raises(Refused, match="further than a kernel of 17 reaches"):
        deformable.fit_deformable([Sample(x, far, None, x)] * 3, np.ones((1, 1, 1, 1)), np.zeros(1), geometry, 17)


ECA = """g (float[1,{c},5,7] x) => (y)
    <float[1,1,1,5] w, int64[4] row = {{1,1,1,{c}}}, int64[4] map = {{1,{c},1,1}}>
    {{ p = GlobalAveragePool(x)  r = Reshape(p, row)  c = Conv<pads = [0,2,0,2]>(r, w)
      s = Sigmoid(c)  m = Reshape(s, map)  y = Mul(x, m) }}"""


def test_bottleneck_of_features_with_few_causes(tmp_path: Path) -> None:
    x = smooth(18, (1, 48, 5, 7))
    report = fix(case_model(Case(ECA.format(c=48))), tmp_path, x, BOTTLENECK)
    held_out, constant = ratios(report.applied[0].note)
    assert held_out > constant + 20  # four causes go through a bottleneck of eight, and relu passes them whole
    assert "48 -> 8 -> 48" in report.applied[0].note
    assert not [f for f in report.after.findings if f.severity.value == "error"]
    weights = {t.name: tuple(t.dims) for t in report.document.proto.graph.initializer}
    assert sum(int(np.prod(d)) for d in weights.values() if len(d) == 4) == 2 * 8 * 48


def test_too_few_samples_are_refused(tmp_path: Path) -> None:
    """Two pooled maps, of which one would be held out: nothing is left to choose with. Three are enough."""
    model = case_model(Case(ECA.format(c=48)))
    report = fix(model, tmp_path, smooth(2, (1, 48, 5, 7)), BOTTLENECK)
    assert [r.reason for r in report.refused] == ["there are too few samples to fit it on"]
    report = fix(model, tmp_path, smooth(3, (1, 48, 5, 7)), BOTTLENECK)
    assert "too few" not in " ".join(r.reason for r in report.refused)
    for count in (0, 1, 2):
        with pytest.raises(Refused, match="too few samples"):
            fit_parts([1] * count)
    assert fit_parts([1, 1, 1]) == (0, 1, 2, 3)


def test_exact_goes_first_unless_another_is_preferred(tmp_path: Path) -> None:
    names = [s.name for s in _substitutions(True, ())]
    assert names.index("eca-to-se") < names.index(BOTTLENECK)
    assert _substitutions(True, (BOTTLENECK,))[0].name == BOTTLENECK
    assert BOTTLENECK not in {s.name for s in _substitutions(False, ())}


def test_noise_does_not_go_through_a_bottleneck(tmp_path: Path) -> None:
    """Of 200 directions that count alike a bottleneck of 16 passes a few: hardly better than none, and so it says."""
    x = np.random.default_rng(0).standard_normal((6, 1, 200, 5, 7)).astype(np.float32)
    report = fix(case_model(Case(ECA.format(c=200))), tmp_path, x, BOTTLENECK)
    if report.applied:
        held_out, constant = ratios(report.applied[0].note)
        assert held_out < constant + 3
    else:
        assert "does not beat a gate that does not change" in report.refused[0].reason


@pytest.mark.parametrize("seed", range(8))
def test_constant_offsets_are_exact_in_every_geometry(seed: int) -> None:
    """Kernels, strides, dilations, paddings and groups at random: the plain convolution is DeformConv."""
    rng = np.random.default_rng(seed)
    kernel, strides, dilations = ([int(n) for n in rng.integers(low, 4, 2)] for low in (1, 1, 1))
    pads = [int(n) for n in rng.integers(0, 3, 4)]
    groups, offset_groups = int(rng.choice([1, 2])), int(rng.choice([1, 2]))
    x = rng.standard_normal((1, 4, 7, 9))
    weight, bias = rng.standard_normal((2, 4 // groups, *kernel)), rng.standard_normal(2)
    extents = zip(x.shape[2:], pads[:2], pads[2:], kernel, dilations, strides, strict=True)
    out = [(n + a + b - (k - 1) * d - 1) // s + 1 for n, a, b, k, d, s in extents]
    taps = offset_groups * kernel[0] * kernel[1]
    offset = np.broadcast_to(rng.uniform(-2.5, 2.5, (1, 2 * taps, 1, 1)), (1, 2 * taps, *out)).copy()
    mask = np.broadcast_to(rng.uniform(0, 1, (1, taps, 1, 1)), (1, taps, *out)).copy()
    attributes = {"kernel_shape": kernel, "strides": strides, "group": groups}
    given = {"x": x, "w": weight, "o": offset, "b": bias, "m": mask}
    y = run("DeformConv", given, **attributes, dilations=dilations, pads=pads, offset_group=offset_groups)
    geometry = Geometry(
        (7, 9), (out[0], out[1]), (kernel[0], kernel[1]), (strides[0], strides[1]), (pads[0], pads[1]),
        (dilations[0], dilations[1]), groups, offset_groups,
    )  # fmt: skip
    found = deformable.fit_deformable([Sample(x, offset, mask, y)], weight, bias, geometry, 17)
    window, around = found.window.padded(geometry)
    plain = {"x": x, "w": found.weight, "b": bias}
    made = run("Conv", plain, kernel_shape=list(window.extent), strides=strides, group=groups, pads=around)
    assert found.constant
    np.testing.assert_allclose(made, y, rtol=0, atol=2e-5)  # the evaluator places its samples in single precision


def run(op_type: str, given: dict[str, NDArray[np.float64]], **attributes: object) -> NDArray[np.float64]:
    node = onnx.helper.make_node(op_type, list(given), ["y"], **attributes)
    return ReferenceEvaluator(node, opsets={"": 19}).run(None, given)[0]  # type: ignore[return-value]
