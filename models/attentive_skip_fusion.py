"""Skip fusion with channel attention.

Encoder and decoder maps of 256 channels are concatenated, re-weighted by SE (reduction 8), and mixed by conv1x1, batch
norm, ReLU.

Verdict: clean. Concat over channels is supported, and all widths are multiples of 8.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks.attention import AttentiveSkipFusion
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "A9"


def build(size: str = "full") -> torch.nn.Module:
    """The block in eval mode; forward gives the fused map."""
    return seeded(lambda: AttentiveSkipFusion(16, 16, 16) if size == "tiny" else AttentiveSkipFusion(256, 256, 256), seed=109)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """Encoder and decoder maps at stride 16 of a 384x640 image."""
    shape = (1, 16, 4, 6) if size == "tiny" else (1, 256, 24, 40)
    return {"encoder": signed(shape, seed=10), "decoder": signed(shape, seed=11)}


EXPECTED: dict[str, tuple[Expect, ...]] = {"aimotive-aiware": ()}

FIXED = {"aimotive-aiware": Fixed(EXPECTED["aimotive-aiware"])}
