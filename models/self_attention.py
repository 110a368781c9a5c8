"""Self-attention over all positions of a feature map.

Q and K are 1x1 convolutions to C/8 channels, V to C; each is reshaped to `[B, C', H W]`, softmax(Q K^T / sqrt d) is
applied to V, reshaped back, scaled by gamma and added to the input. Here on `[1, 512, 12, 20]`, stride 32 of 384x640,
where the attention map has 240 x 240 values; at full resolution it would have 245,760^2, about 60 GB as int8.

Verdict: refused. Six nodes rearrange channels and space (reshapes of Q, K, V and of the result, the transposes of Q and
of the attention map), and both matrix products take two computed operands. A softmax over positions is not documented, only
one over channels.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks.refused import SelfAttention
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "A3"


def build(size: str = "full") -> torch.nn.Module:
    """The block in eval mode; forward gives a map of the input's shape."""
    return seeded(lambda: SelfAttention(64 if size == "tiny" else 512), seed=103)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """A feature map at stride 32 of a 384x640 image."""
    return {"x": signed((1, 64, 4, 6) if size == "tiny" else (1, 512, 12, 20), seed=3)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU101", "warning", count=1),
        Expect("NPU102", "error", count=6),
        Expect("NPU103", "error", count=2),
    )
}

FIXED = {"aimotive-aiware": Fixed(substitutions=("self-attention-to-position-maps",))}
