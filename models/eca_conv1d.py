"""Efficient channel attention as published: Conv1d on squeeze and transpose.

Global average pool, squeeze to `[B, C, 1]`, transpose to `[B, 1, C]`, Conv1d of 5 taps, transpose and unsqueeze back, sigmoid,
channel-wise product; 512 channels.

Verdict: refused. Both transposes move channels into space or back (squeeze and unsqueeze only drop an axis of extent 1),
the convolution is one-dimensional, and its single output channel is a warning.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks.refused import ECAConv1d
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "A8b"


def build(size: str = "full") -> torch.nn.Module:
    """The block in eval mode; forward gives a map of the input's shape."""
    return seeded(lambda: ECAConv1d(kernel=5), seed=1082)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """A feature map at stride 32 of a 384x640 image."""
    return {"x": signed((1, 32, 4, 6) if size == "tiny" else (1, 512, 12, 20), seed=9)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU102", "error", count=2),
        Expect("NPU105", "error", measured=3, allowed=4, scope="conv"),
        Expect("NPU401", "warning", measured=1, allowed=8, scope="conv"),
    )
}

FIXED = {"aimotive-aiware": Fixed(substitutions=("eca-to-se",))}
