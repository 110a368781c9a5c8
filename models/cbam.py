"""CBAM: channel gate, then spatial gate, at 256 channels.

The channel gate adds what one bottleneck of conv1x1 makes of the average and of the maximum over space, sigmoid, product;
the spatial gate makes one map of the mean and the maximum over channels (concat, conv7x7 2 -> 1, sigmoid), product.

Verdict: runs. The maximum over channels is over 256, exactly what the device can do, and the gate's single map is padded
by the hardware, hence a warning.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks.attention import CBAM
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "A5"


def build(size: str = "full") -> torch.nn.Module:
    """The block in eval mode; forward gives a map of the input's shape."""
    return seeded(lambda: CBAM(32 if size == "tiny" else 256), seed=105)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """A feature map at stride 16 of a 384x640 image."""
    return {"x": signed((1, 32, 4, 6) if size == "tiny" else (1, 256, 24, 40), seed=5)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (Expect("NPU401", "warning", measured=1, allowed=8, scope="spatial.conv"),)
}

FIXED = {"aimotive-aiware": Fixed(EXPECTED["aimotive-aiware"])}
