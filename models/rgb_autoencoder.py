"""Autoencoder for colour images: what it cannot reconstruct is a defect.

Image `[1, 3, 256, 256]`; four conv3x3 with stride 2 to 32, 64, 128 and 256 channels; four transposed conv4x4 with stride 2 back
to 128, 64, 32 and 3, sigmoid.

Verdict: a transposed convolution is bound like another one, and its 4 taps are no problem; but the last one makes three
channels, which is no whole block.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks import autoencoder
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "D10"


def build(size: str = "full") -> torch.nn.Module:
    """The autoencoder in eval mode; forward gives an image in [0, 1]."""
    widths = autoencoder.TINY_WIDTHS if size == "tiny" else autoencoder.WIDTHS
    return seeded(lambda: autoencoder.AutoEncoder(widths), seed=410)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """An image, normalised."""
    return {"image": signed((1, 3, 48, 64) if size == "tiny" else (1, 3, 256, 256), seed=30)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (Expect("NPU401", "error", measured=3, allowed=8, scope="decoder"),)
}

FIXED = {"aimotive-aiware": Fixed(substitutions=("channels-to-aligned",))}
