"""DeepLabv3+ segmenter on DRN-D-54: the ASPP of the classifier with a decoder.

Image `[1, 3, 512, 512]`; backbone and ASPP as in deeplabv3-drn; the result is brought from stride 8 to stride 4 (bilinear, with
aligned corners), joined with 48 channels made of the 256 that the backbone has there, two conv3x3 with 256 channels, conv1x1
to 4 classes, and four times up (bilinear, with aligned corners) to scores at the image's size.

Verdict: the trunk runs. Aligned corners need weights for each pixel, so both upsamplings are refused; as both grids are
static, each is two fixed matrices. Four output channels are no whole block. Expand is not documented.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks import aspp, dilated
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "D2"


def build(size: str = "full") -> torch.nn.Module:
    """The segmenter in eval mode; forward gives scores `[1, 4, H, W]`."""
    if size == "tiny":
        tiny = (dilated.TINY_DRN_WIDTHS, dilated.TINY_DRN_DEPTHS)
        return seeded(lambda: aspp.DeepLabSegmenter(dilated.DRN(*tiny), 32, 32, 8, 16, aspp.TINY_RATES, 4), seed=402)
    return seeded(lambda: aspp.DeepLabSegmenter(dilated.DRN(), 256, 512, 48, 256, aspp.DRN_RATES, 4), seed=402)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """An image, normalised."""
    return {"image": signed((1, 3, 64, 64) if size == "tiny" else (1, 3, 512, 512), seed=22)}


FORMS = "nearest x2; linear x integer (half_pixel, pytorch_half_pixel, asymmetric)"

EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU101", "warning", scope="aspp"),
        Expect("NPU401", "error", measured=4, allowed=8, scope="classifier"),
        Expect("NPU501", "error", measured="linear x2 align_corners", allowed=FORMS, scope="decoder"),
        Expect("NPU501", "error", measured="linear x4 align_corners", allowed=FORMS),
    )
}

FIXED = {"aimotive-aiware": Fixed(substitutions=("channels-to-aligned", "expand-to-broadcast", "resize-to-fixed-conv-transpose"))}
