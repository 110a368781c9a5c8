"""Axial convolution, 19 taps: two more than the device has.

As axial_conv, with (19, 1) and (1, 19).

Verdict: refused, once for each of the two convolutions: the largest kernel axis is 19, the device has 17.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks.attention import AxialConv
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "A7b"


def build(size: str = "full") -> torch.nn.Module:
    """The block in eval mode; forward gives a map of the input's shape."""
    return seeded(lambda: AxialConv(16 if size == "tiny" else 64, kernel=19), seed=1072)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """A feature map at stride 4 of a 384x640 image."""
    return {"x": signed((1, 16, 20, 24) if size == "tiny" else (1, 64, 96, 160), seed=8)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU201", "error", measured=19, allowed=17, scope="vertical"),
        Expect("NPU201", "error", measured=19, allowed=17, scope="horizontal"),
    )
}

FIXED = {"aimotive-aiware": Fixed(substitutions=("large-kernel-to-phases",))}
