"""Hierarchical classifier: coarse and fine heads on a shared trunk.

Image `[1, 3, 224, 224]`; the first three stages of a ResNet-18 as trunk; five branches of the fourth stage, global mean,
flatten, linear and softmax: one to 4 coarse classes, and for each of these one to all 16 fine classes. The result is the
average of the fine probabilities, weighted by the coarse ones.

Verdict: the trunk and the branches run. In each of the five, flatten and Gemm leave the feature map, and the four coarse
outputs are no whole block. Stacking four vectors moves their channels into space, an error each; the average over the stack
is a product and a sum over channels. All of that has next to no MACs: a tail for the host, or a sum of gated maps.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks import fusion, resnet
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "D5"


def build(size: str = "full") -> torch.nn.Module:
    """The classifier in eval mode; forward gives probabilities."""
    return seeded(lambda: fusion.HDCNN(resnet.TINY_WIDTHS if size == "tiny" else resnet.WIDTHS, coarse=4, fine=16), seed=405)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """An image, normalised."""
    return {"image": signed((1, 3, 64, 64) if size == "tiny" else (1, 3, 224, 224), seed=26)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU102", "error", count=4),
        Expect("NPU104", "warning", count=10),
        Expect("NPU401", "error", measured=4, allowed=8, scope="coarse"),
    )
}

FIXED = {"aimotive-aiware": Fixed(substitutions=("tensors-to-maps",))}
