"""CBAM at 512 channels, which is too many for the spatial gate.

As cbam, at the last stage of a ResNet-18. The tiny size keeps the 512 channels, because they are the point.

Verdict: refused. The spatial gate's maximum over channels is over 512, the device does 256. (The channel gate's
maximum is over space and is fine at any width.) SE alone is the team's replacement; a maximum of maxima over groups
of 256 computes the same.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks.attention import CBAM
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "A5b"


def build(size: str = "full") -> torch.nn.Module:
    """The block in eval mode; forward gives a map of the input's shape."""
    return seeded(lambda: CBAM(512), seed=1052)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """A feature map at stride 32 of a 384x640 image."""
    return {"x": signed((1, 512, 4, 6) if size == "tiny" else (1, 512, 12, 20), seed=6)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU302", "error", measured=512, allowed=256, scope="spatial"),
        Expect("NPU401", "warning", measured=1, allowed=8, scope="spatial.conv"),
    )
}

FIXED = {
    "aimotive-aiware": Fixed(
        findings=(Expect("NPU401", "warning", measured=1, allowed=8, scope="spatial.conv"),),
        substitutions=("wide-reduce-max-to-groups",),
    )
}
