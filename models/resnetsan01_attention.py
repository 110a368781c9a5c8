"""The recommended depth network: resnetsan01 with gates and axial convolution.

The baseline with SE after encoder layers 1 and 2, CBAM after layer 3 (256 channels), SE after layer 4 (512), SE
(reduction 16, at least 8 channels, no bias) after each skip fusion in decoder levels 4 to 1, and an axial
convolution (17,1) + (1,17) at level 2. The decoder's activations are ReLU, not ELU: this is the design to ship, so it
uses only what the device documents.

Verdict: runs. One-channel maps are warnings: eight heads, and the one map of CBAM's spatial gate. CBAM's
maximum over channels is over 256, exactly what the device can do; at layer 4 it would be refused, hence SE there.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks import decoder, resnet
from npu_guard.models.blocks.attention import CBAM, SE, AxialConv
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "A2"


def build(size: str = "full") -> torch.nn.Module:
    """The network in eval mode; forward gives depth in metres, `[1, 1, H, W]` at strides 1, 2, 4, 8."""
    encoder, widths = (resnet.TINY_WIDTHS, decoder.TINY_WIDTHS) if size == "tiny" else (resnet.WIDTHS, decoder.WIDTHS)
    return seeded(
        lambda: decoder.DepthNet(
            resnet.ResNetEncoder(encoder, attention={1: SE, 2: SE, 3: CBAM, 4: SE}),
            decoder.DepthDecoder(encoder, widths, activation=torch.nn.ReLU, attention=SE, axial=AxialConv),
        ),
        seed=102,
    )


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """An image, normalised."""
    return {"image": signed((1, 3, 64, 96) if size == "tiny" else (1, 3, 384, 640), seed=2)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU401", "warning", measured=1, allowed=8, scope="decoder.heads", count=8),
        Expect("NPU401", "warning", measured=1, allowed=8, scope="encoder.attention.2.spatial", count=1),
    )
}

FIXED = {"aimotive-aiware": Fixed(EXPECTED["aimotive-aiware"])}
