"""The depth decoder alone, with SE after every skip fusion.

Five encoder maps at strides 2 to 32 in; per level conv3x3 + ReLU, nearest 2x upsample, concat, conv3x3 + ReLU, SE; two
one-channel heads at scales 0 to 3. ReLU in place of the baseline's ELU, as in resnetsan01_attention.

Verdict: runs. The eight heads have one output channel, which the hardware pads to eight: warnings.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks import decoder, resnet
from npu_guard.models.blocks.attention import SE
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "A10"


def build(size: str = "full") -> torch.nn.Module:
    """The decoder in eval mode; forward gives depth in metres, `[1, 1, H, W]` at strides 1, 2, 4, 8."""
    encoder, widths = (resnet.TINY_WIDTHS, decoder.TINY_WIDTHS) if size == "tiny" else (resnet.WIDTHS, decoder.WIDTHS)
    return seeded(lambda: decoder.DepthDecoder(encoder, widths, activation=torch.nn.ReLU, attention=SE), seed=110)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """Encoder maps; names give the stride."""
    widths, height, width = (resnet.TINY_WIDTHS, 64, 96) if size == "tiny" else (resnet.WIDTHS, 384, 640)
    return {
        f"f{stride}": signed((1, channels, height // stride, width // stride), seed=stride)
        for channels, stride in zip(widths, (2, 4, 8, 16, 32), strict=True)
    }


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (Expect("NPU401", "warning", measured=1, allowed=8, scope="heads", count=8),)
}

FIXED = {"aimotive-aiware": Fixed(EXPECTED["aimotive-aiware"])}
