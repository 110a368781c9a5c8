"""Axial convolution, 17 taps: what replaces self-attention.

Depthwise (17, 1) and (1, 17) convolutions, summed with the input, batch norm, ReLU; 64 channels at stride 4.

Verdict: clean. 17 is the largest kernel that the device has.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks.attention import AxialConv
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "A7"


def build(size: str = "full") -> torch.nn.Module:
    """The block in eval mode; forward gives a map of the input's shape."""
    return seeded(lambda: AxialConv(16 if size == "tiny" else 64, kernel=17), seed=107)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """A feature map at stride 4 of a 384x640 image."""
    return {"x": signed((1, 16, 20, 24) if size == "tiny" else (1, 64, 96, 160), seed=8)}


EXPECTED: dict[str, tuple[Expect, ...]] = {"aimotive-aiware": ()}

FIXED = {"aimotive-aiware": Fixed(EXPECTED["aimotive-aiware"])}
