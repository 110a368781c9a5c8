"""Depth network: ResNet-18 encoder, five-level decoder, two heads per scale.

Image `[1, 3, 384, 640]`; encoder maps of 64, 64, 128, 256, 512 channels at strides 2 to 32; decoder levels of
256, 128, 64, 32, 16 channels, each conv3x3 + ELU, nearest 2x upsample, concat with the encoder's map, conv3x3 + ELU;
at scales 0 to 3 an integer and a fractional head (conv3x3 to one channel, sigmoid);
depth = 15.0 x integer + 1.0 x fractional. Convolutions pad with zeros: reflection would be a property of the
training recipe, not of the structure, and adds nothing at these extents.

Verdict: runs. The ten ELUs (two per level) are not documented for the device, and the eight heads have one
output channel, which the hardware pads to eight: warnings both. Every other width is a multiple of 8, the largest
kernel is 7, and nothing rearranges or multiplies feature maps.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks import decoder, resnet
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "A1"


def build(size: str = "full") -> torch.nn.Module:
    """The network in eval mode; forward gives depth in metres, `[1, 1, H, W]` at strides 1, 2, 4, 8."""
    encoder, widths = (resnet.TINY_WIDTHS, decoder.TINY_WIDTHS) if size == "tiny" else (resnet.WIDTHS, decoder.WIDTHS)
    return seeded(lambda: decoder.DepthNet(resnet.ResNetEncoder(encoder), decoder.DepthDecoder(encoder, widths)), seed=101)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """An image, normalised."""
    return {"image": signed((1, 3, 64, 96) if size == "tiny" else (1, 3, 384, 640), seed=1)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU101", "warning", scope="decoder.levels", count=10),
        Expect("NPU401", "warning", measured=1, allowed=8, scope="decoder.heads", count=8),
    )
}

FIXED = {
    "aimotive-aiware": Fixed(
        findings=(Expect("NPU401", "warning", measured=1, allowed=8, scope="decoder.heads", count=8),),
        substitutions=("elu-to-tanh",),
    )
}
