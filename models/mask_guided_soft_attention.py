"""Mask-guided 3-D ResNet-18: mean of the features under a sharpened mask.

Volume and mask `[1, 1, 16, 64, 64]`; ResNet-18 in 3-D with 512 channels at 1/32; mask resized to the features by
trilinear interpolation (half-pixel centres); the head gates the features by sigmoid(10 m) and takes the global mean,
flatten and linear follow.

Verdict: refused. A map of rank 5 at each of its 51 operators: 46 in the backbone, the trilinear Resize of the mask,
and the head's four. Flatten and Gemm leave the maps.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks import mask_guided
from npu_guard.models.blocks.seeding import seeded
from npu_guard.zoo.system import Expect, Fixed

ID = "B3"

FORMS = "nearest x2; linear x integer (half_pixel, pytorch_half_pixel, asymmetric)"


def build(size: str = "full") -> torch.nn.Module:
    """The classifier in eval mode; forward gives logits."""
    return seeded(lambda: mask_guided.network(mask_guided.SoftAttention(), size), seed=204)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """A volume, normalised, and a soft mask."""
    return mask_guided.example(size, seed=34)


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU104", "warning", count=2),
        Expect("NPU402", "error", measured=5, allowed=4, scope="backbone", count=46),
        Expect("NPU402", "error", measured=5, allowed=4),  # the Resize
        Expect("NPU402", "error", measured=5, allowed=4, scope="head", count=4),
        Expect("NPU501", "error", measured="linear x0.0625 x0.03125 x0.03125 half_pixel", allowed=FORMS),
    )
}

# The clip and its mask stay inputs of rank 5, which the host cuts into frames.
FIXED = {
    "aimotive-aiware": Fixed(
        findings=(Expect("NPU402", "error", measured=5, allowed=4, count=2),),
        substitutions=("flattened-head-to-conv", "rank5-to-rank4"),
    )
}
