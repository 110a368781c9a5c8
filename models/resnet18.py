"""ResNet-18 image classifier, flatten and linear at the tail.

Image `[1, 3, 224, 224]`; conv7x7, max pool, eight basic blocks up to 512 channels, global mean, flatten to `[1, 512]`,
linear to 1000 classes.

Verdict: the trunk is what the device was made for. Flatten and the Gemm behind it leave the feature map, a
warning each: as a 1x1 convolution on the pooled map they would not.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks import resnet
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "D9"


def build(size: str = "full") -> torch.nn.Module:
    """The classifier in eval mode; forward gives logits."""
    widths, classes = (resnet.TINY_WIDTHS, 16) if size == "tiny" else (resnet.WIDTHS, 1000)
    return seeded(lambda: resnet.ResNetClassifier(widths, classes), seed=409)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """An image, normalised."""
    return {"image": signed((1, 3, 64, 64) if size == "tiny" else (1, 3, 224, 224), seed=9)}


EXPECTED: dict[str, tuple[Expect, ...]] = {"aimotive-aiware": (Expect("NPU104", "warning", count=2),)}

FIXED = {"aimotive-aiware": Fixed(substitutions=("flattened-head-to-conv",))}
