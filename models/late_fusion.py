"""Image features and metadata, joined late.

Image `[1, 3, 224, 224]` through ResNet-18 to 512 features; a vector of 8 metadata values through two linear layers of 32; both
joined to 544, a linear layer of 128, and one to 5 classes.

Verdict: the trunk runs. Its flatten and the four Gemms work on vectors `[1, C]`, a warning each; the Concat between them has
channels to join and no rule against it. The last Gemm has five outputs, which is no whole block.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks import fusion, resnet
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "D4"


def build(size: str = "full") -> torch.nn.Module:
    """The classifier in eval mode; forward gives logits."""
    widths, hidden, head = (resnet.TINY_WIDTHS, 16, 24) if size == "tiny" else (resnet.WIDTHS, 32, 128)
    return seeded(lambda: fusion.LateFusion(widths, 8, hidden, head, 5), seed=404)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """An image and a row of metadata, both normalised."""
    image = signed((1, 3, 64, 64) if size == "tiny" else (1, 3, 224, 224), seed=24)
    return {"image": image, "metadata": signed((1, 8), seed=25)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU104", "warning", count=3),
        Expect("NPU104", "warning", scope="metadata", count=2),
        Expect("NPU401", "error", measured=5, allowed=8, scope="head"),
    )
}

FIXED = {"aimotive-aiware": Fixed(substitutions=("flattened-head-to-conv",))}
