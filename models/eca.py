"""Efficient channel attention, spelled with Conv2d on a `[B, 1, 1, C]` view.

Global average pool, reshape to `[B, 1, 1, C]`, convolution (1, 5) over the channels, sigmoid, reshape back, channel-wise product;
512 channels.

Verdict: refused. Both reshapes move channels into space or back. The convolution itself is only warned about, for its
single output channel. SE form replaces it: as a banded 1x1 convolution it is even the same function.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks.refused import ECA
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "A8a"


def build(size: str = "full") -> torch.nn.Module:
    """The block in eval mode; forward gives a map of the input's shape."""
    return seeded(lambda: ECA(kernel=5), seed=1081)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """A feature map at stride 32 of a 384x640 image."""
    return {"x": signed((1, 32, 4, 6) if size == "tiny" else (1, 512, 12, 20), seed=9)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU102", "error", count=2),
        Expect("NPU401", "warning", measured=1, allowed=8, scope="conv"),
    )
}

FIXED = {"aimotive-aiware": Fixed(substitutions=("eca-to-se",))}
