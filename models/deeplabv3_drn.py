"""DeepLabv3 classifier on DRN-D-54, for images of batteries.

Image `[1, 3, 512, 512]`; DRN-D-54 to 512 channels at stride 8 (bottlenecks of up to 2048 channels, dilation 2 and 4); ASPP
with conv1x1, conv3x3 at rates 12, 24 and 36, and a pooled branch that is spread over the map; global mean, flatten, linear
to 5 classes. The tiny size has rates 2, 4 and 6, because its maps have 8 x 8 positions.

Verdict: the trunk runs. At rate 36 a kernel of three taps spans 73 pixels; whether 17 bounds that too is open with the
vendor, and the profile bounds the taps alone. To spread the pooled pixel, Expand is not documented: a sum with zeros does
the same. Flatten and the Gemm behind it leave the feature map, and the Gemm has five outputs, which is no whole block.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks import aspp, dilated
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "D1"


def build(size: str = "full") -> torch.nn.Module:
    """The classifier in eval mode; forward gives logits."""
    if size == "tiny":
        tiny = (dilated.TINY_DRN_WIDTHS, dilated.TINY_DRN_DEPTHS)
        return seeded(lambda: aspp.DeepLabClassifier(dilated.DRN(*tiny), 32, 16, aspp.TINY_RATES, 5), seed=401)
    return seeded(lambda: aspp.DeepLabClassifier(dilated.DRN(), 512, 256, aspp.DRN_RATES, 5), seed=401)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """An image, normalised."""
    return {"image": signed((1, 3, 64, 64) if size == "tiny" else (1, 3, 512, 512), seed=21)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU101", "warning", scope="aspp"),
        Expect("NPU104", "warning", count=2),
        Expect("NPU401", "error", measured=5, allowed=8, scope="classifier"),
    )
}

FIXED = {"aimotive-aiware": Fixed(substitutions=("expand-to-broadcast", "flattened-head-to-conv"))}
