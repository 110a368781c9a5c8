"""MobileNetV2 image classifier: inverted residuals, ReLU6, flatten and linear at the tail.

Image `[1, 3, 224, 224]`; stem of 32 channels, 17 inverted residuals up to 320, conv1x1 to 1280, global mean,
flatten, (dropout,) linear to 1000 classes. Not from the table of systems: a second trunk on which no rule may speak.

Verdict: all widths are multiples of 8, depthwise kernels are 3x3, ReLU6 is a Clip. Flatten and the Gemm behind it
leave the feature map, a warning each.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks import mobilenet
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "X1"


def build(size: str = "full") -> torch.nn.Module:
    """The classifier in eval mode; forward gives logits."""
    if size == "tiny":
        return seeded(lambda: mobilenet.MobileNetV2(8, mobilenet.TINY_STAGES, last=32, classes=16), seed=501)
    return seeded(mobilenet.MobileNetV2, seed=501)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """An image, normalised."""
    return {"image": signed((1, 3, 32, 32) if size == "tiny" else (1, 3, 224, 224), seed=10)}


EXPECTED: dict[str, tuple[Expect, ...]] = {"aimotive-aiware": (Expect("NPU104", "warning", count=2),)}

FIXED = {"aimotive-aiware": Fixed(substitutions=("flattened-head-to-conv",))}
