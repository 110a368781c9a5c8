"""Deformable 3x3 convolution (DeformConv of opset 19).

A 3x3 convolution predicts an offset in y and x for each of the nine taps (18 channels); the second one samples its input
there. 256 channels at stride 16.

Verdict: refused. Sampling at computed places has no form on the device, and 18 offset channels are not a multiple
of 8.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks.deform import DeformableConv
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "A12"


def build(size: str = "full") -> torch.nn.Module:
    """The block in eval mode; forward gives a map of the input's shape."""
    return seeded(lambda: DeformableConv(16, 16) if size == "tiny" else DeformableConv(256, 256), seed=112)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """A feature map at stride 16 of a 384x640 image."""
    return {"x": signed((1, 16, 4, 6) if size == "tiny" else (1, 256, 24, 40), seed=15)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU106", "error"),
        Expect("NPU401", "error", measured=18, allowed=8, scope="offset"),
    )
}

FIXED = {"aimotive-aiware": Fixed(findings=(Expect("NPU106", "error"),), substitutions=("channels-to-aligned",))}
