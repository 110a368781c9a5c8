"""Squeeze and excitation.

Global average pool, conv1x1 C -> C/16, ReLU, conv1x1 C/16 -> C, sigmoid, channel-wise product with the input; 512 channels,
so the bottleneck has 32.

Verdict: clean. Everything stays `[B, C, H, W]`, and all widths are multiples of 8.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks.attention import SE
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "A4"


def build(size: str = "full") -> torch.nn.Module:
    """The block in eval mode; forward gives a map of the input's shape."""
    return seeded(lambda: SE(32 if size == "tiny" else 512), seed=104)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """A feature map at stride 32 of a 384x640 image."""
    return {"x": signed((1, 32, 4, 6) if size == "tiny" else (1, 512, 12, 20), seed=4)}


EXPECTED: dict[str, tuple[Expect, ...]] = {"aimotive-aiware": ()}

FIXED = {"aimotive-aiware": Fixed(EXPECTED["aimotive-aiware"])}
