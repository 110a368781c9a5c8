"""ResNet-18 with CBAM behind all four stages, at 768 x 768.

Image `[1, 3, 768, 768]`; stages of 64, 128, 256 and 512 channels, each followed by CBAM; global mean, flatten, linear to 5
classes. The tiny size keeps the 512 channels of the last stage, because they are the point.

Verdict: the spatial gate's maximum over channels runs at 64, 128 and 256, and is refused at 512. Each of the four gates is
one channel, which the hardware pads. Flatten and Gemm leave the feature map, and five outputs are no whole block.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks.attention import CBAM
from npu_guard.models.blocks.resnet import WIDTHS, ResNetClassifier
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "D6"

TINY_WIDTHS = (8, 8, 16, 24, 512)


def build(size: str = "full") -> torch.nn.Module:
    """The classifier in eval mode; forward gives logits."""
    widths = TINY_WIDTHS if size == "tiny" else WIDTHS
    return seeded(lambda: ResNetClassifier(widths, 5, dict.fromkeys(range(1, 5), CBAM)), seed=406)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """An image, normalised."""
    return {"image": signed((1, 3, 96, 96) if size == "tiny" else (1, 3, 768, 768), seed=27)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU104", "warning", count=2),
        Expect("NPU302", "error", measured=512, allowed=256, scope="encoder.attention.3.spatial"),
        Expect("NPU401", "error", measured=5, allowed=8, scope="fc"),
        Expect("NPU401", "warning", measured=1, allowed=8, scope="encoder.attention", count=4),
    )
}

FIXED = {
    "aimotive-aiware": Fixed(
        findings=(Expect("NPU401", "warning", measured=1, allowed=8, scope="encoder.attention", count=4),),
        substitutions=("flattened-head-to-conv", "wide-reduce-max-to-groups"),
    )
}
