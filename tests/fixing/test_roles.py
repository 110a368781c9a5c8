"""What `fix` says of new constants: which weights they follow from, which elements follow from none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import npu_guard
from npu_guard.rewriting import roles

NORM = """<ir_version: 8, opset_import: ["" : 20]> g (float[1, 6, 4, 4] x) => (float[1, 6, 4, 4] y)
<float[6] gain = {1, 1, 1, 1, 1, 1}, float[6] shift = {0, 0, 0, 0, 0, 0}>
{ t = Transpose <perm = [0, 2, 3, 1]> (x)  n = LayerNormalization (t, gain, shift)  y = Transpose <perm = [0, 3, 1, 2]> (n) }"""


def fixed_constants(text: str, folder: Path) -> dict[str, roles.Role | None]:
    model = onnx.parser.parse_model(text)
    onnx.save(model, folder / "model.onnx")
    npu_guard.fix(folder / "model.onnx", folder / "fixed.onnx")
    old = {t.name for t in model.graph.initializer}
    return {
        t.name: roles.read(t)
        for t in onnx.load(folder / "fixed.onnx").graph.initializer
        if t.name not in old and t.data_type == 1
    }


def test_ones_of_a_fresh_norm_are_trained(tmp_path: Path) -> None:
    """Ones and zeros, from which nobody could tell."""
    found = fixed_constants(NORM, tmp_path)
    sources = {role.sources for role in found.values() if role is not None and role.kind == roles.TRAINED}
    assert sources == {("gain",), ("shift",)}
    assert None not in found.values()


def test_channels_that_were_added_are_padding(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 20]> g (float[1, 8, 4, 4] x) => (float[1, 5] y)
    <float[5, 8, 1, 1] w = {%s}, float[5] b = {0, 0, 0, 0, 0}>
    { c = Conv (x, w, b)  r = Relu (c)  m = GlobalAveragePool (r)  y = Flatten (m) }"""
    values = ", ".join(str(v / 7 - 2) for v in range(40))
    found = fixed_constants(text % values, tmp_path)
    made = {role.sources: role.padding for role in found.values() if role is not None and role.kind == roles.TRAINED}
    if not made:
        pytest.skip("the default device takes five channels")
    assert made[("w",)] == ((0, 5, 8),)
    assert made[("b",)] == ((0, 5, 8),)


@pytest.mark.parametrize("seed", range(30))
def test_a_role_says_which_elements_are_fixed(seed: int) -> None:
    draw = np.random.default_rng(seed)
    a, b, c = draw.integers(1, 6, 3)
    changed = draw.random((a, b, c)) < draw.choice([0.0, 0.6, 0.95, 1.0])
    changed[: draw.integers(0, a + 1)] &= bool(seed % 2)
    tensor = onnx.numpy_helper.from_array(np.zeros((a, b, c), np.float32), "t")
    roles.write(tensor, roles.role_of(changed, ("w", "v")))
    role = roles.read(tensor)
    assert role is not None
    assert np.array_equal(role.fixed((a, b, c)), ~changed)
    assert role.kind == (roles.TRAINED if changed.any() else roles.FIXED)


def test_equal_constants_of_two_roles_stay_two(tmp_path: Path) -> None:
    """Two fresh norms must not become one: training would tie them."""
    text = NORM.replace("y = Transpose <perm = [0, 3, 1, 2]> (n) }", "k = Relu (n)  m = LayerNormalization (k, gain2, shift2)"
                        "  y = Transpose <perm = [0, 3, 1, 2]> (m) }")  # fmt: skip
    text = text.replace(
        "<float[6] gain", "<float[6] gain2 = {1, 1, 1, 1, 1, 1}, float[6] shift2 = {0, 0, 0, 0, 0, 0}, float[6] gain"
    )
    found = fixed_constants(text, tmp_path)
    sources = [role.sources for role in found.values() if role is not None and role.kind == roles.TRAINED]
    assert sorted(sources) == [("gain",), ("gain2",), ("shift",), ("shift2",)]
