"""ResNet-50 with a dilated last stage, separable ASPP and low-level fusion, as a classifier.

Image `[1, 3, 512, 512]`; ResNet-50 to 2048 channels at stride 16; ASPP of depthwise-separable conv3x3 at rates 6, 12, 18, no
batch norm on its pooled branch; four times up (bilinear, half-pixel centres) and joined with 48 channels from stride 4 to
304, two conv3x3; global mean, flatten, linear to 5 classes.

Verdict: as deeplabv3-drn. Both upsamplings (the pooled pixel over the map, and by four) are linear at a whole scale with
half-pixel centres, which the profile has. Flatten and Gemm leave the feature map, and five outputs are no whole block.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks import aspp, dilated
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "D3"


def build(size: str = "full") -> torch.nn.Module:
    """The classifier in eval mode; forward gives logits."""
    if size == "tiny":
        tiny = (dilated.TINY_RESNET_WIDTHS, dilated.TINY_RESNET_DEPTHS)
        return seeded(lambda: aspp.FusedClassifier(dilated.DilatedResNet(*tiny), 32, 64, 8, 16, aspp.TINY_RATES, 5), seed=403)
    return seeded(lambda: aspp.FusedClassifier(dilated.DilatedResNet(), 256, 2048, 48, 256, aspp.RESNET_RATES, 5), seed=403)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """An image, normalised."""
    return {"image": signed((1, 3, 128, 128) if size == "tiny" else (1, 3, 512, 512), seed=23)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU104", "warning", count=2),
        Expect("NPU401", "error", measured=5, allowed=8, scope="classifier"),
    )
}

FIXED = {"aimotive-aiware": Fixed(substitutions=("flattened-head-to-conv",))}
