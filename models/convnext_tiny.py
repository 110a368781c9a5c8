"""ConvNeXt-Tiny image classifier.

Image `[1, 3, 224, 224]`; conv4x4 with stride 4 to 96 channels; 18 blocks in stages of 96, 192, 384 and 768 channels, each
depthwise 7x7, and on `[B, H, W, C]` LayerNorm, linear to four times the width, GELU, linear, scale for each channel, and
back; LayerNorm behind the stem, in front of the three strided convolutions between the stages and behind the global mean;
flatten, linear to 1000 classes.

Verdict: refused as it is written, and all of it can be removed exactly by staying in `[B, C, H, W]`. To channels last and
back: 36 Transposes in the blocks, 10 around the other five LayerNorms; 36 linear layers over positions; 23 LayerNorms and 18
GELUs that are not documented. Flatten and Gemm leave the feature map.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks import convnext
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "D7"


def build(size: str = "full") -> torch.nn.Module:
    """The classifier in eval mode; forward gives logits. The tiny size is as deep, and narrow."""
    if size == "tiny":
        return seeded(lambda: convnext.ConvNeXt(convnext.TINY_WIDTHS, classes=16), seed=407)
    return seeded(convnext.ConvNeXt, seed=407)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """An image, normalised."""
    return {"image": signed((1, 3, 64, 96) if size == "tiny" else (1, 3, 224, 224), seed=28)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU101", "warning", count=41),
        Expect("NPU102", "error", count=46),
        Expect("NPU103", "error", scope="stages", count=36),
        Expect("NPU104", "warning", count=2),
    )
}

SIMPLIFIED: dict[str, tuple[Expect, ...]] = {
    # Linear with a bias is then Reshape, Gemm, Reshape; of the four in a block, the two in the middle undo each other.
    "aimotive-aiware": (Expect("NPU102", "error", count=36),)
}

FIXED = {
    "aimotive-aiware": Fixed(
        findings=(Expect("NPU101", "warning", scope="stages", count=18),),
        substitutions=("flattened-head-to-conv", "tensors-to-maps"),
    )
}

FIXED_FULL = {
    "aimotive-aiware": Fixed(
        findings=(Expect("NPU101", "warning", scope="stages", count=18),),
        substitutions=("flattened-head-to-conv", "tensors-to-maps", "tokens-to-maps"),
    )
}
