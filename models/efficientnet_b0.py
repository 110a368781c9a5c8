"""EfficientNet-B0 image classifier: MBConv with squeeze-and-excitation and SiLU.

Image `[1, 3, 224, 224]`; 16 MBConv blocks up to 320 channels, conv1x1 to 1280, global mean, flatten, linear to 1000 classes.
The tiny size is the whole network on a smaller image: its widths are the point.

Verdict: SiLU is a sigmoid and a product, which run. A squeeze has a quarter of the channels of its block's input: 8, 4, 6, 6,
10, 10, 20, 20, 20, 28, 28, 28, 48, 48, 48, 48; eleven of them are no multiple of 8. All other widths are. Flatten and Gemm
leave the feature map.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks.efficientnet import EfficientNet
from npu_guard.models.blocks.seeding import seeded, settled, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "D8"


def build(size: str = "full") -> torch.nn.Module:
    """The classifier in eval mode; forward gives logits.

    Its gates are soft, and its statistics those of images between 1 and 100: where gates saturate, a network of sixteen of
    them turns on the last bit of its input, and nothing can be told from its results.
    """
    network = seeded(lambda: EfficientNet(classes=16 if size == "tiny" else 1000), seed=408)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if ".squeeze." in name:
                weight.mul_(0.25)
    return settled(network, 8 * signed((8, 3, 64, 64), seed=4080))


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """An image, normalised."""
    return {"image": signed((1, 3, 64, 64) if size == "tiny" else (1, 3, 224, 224), seed=29)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU104", "warning", count=2),
        Expect("NPU401", "error", measured=4, allowed=8, scope="blocks.1.squeeze"),
        Expect("NPU401", "error", measured=6, allowed=8, scope="blocks", count=2),
        Expect("NPU401", "error", measured=10, allowed=8, scope="blocks", count=2),
        Expect("NPU401", "error", measured=20, allowed=8, scope="blocks", count=3),
        Expect("NPU401", "error", measured=28, allowed=8, scope="blocks", count=3),
    )
}

FIXED = {"aimotive-aiware": Fixed(substitutions=("channels-to-aligned", "flattened-head-to-conv"))}
