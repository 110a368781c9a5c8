"""Cross-attention between two feature maps.

Both maps become tokens `[B, H W, C]` and are normalised; `x` asks, `context` answers, in eight heads; the result becomes a map
again and is added to `x`.

Verdict: refused. To tokens and back: three reshapes and three transposes; heads: four reshapes and four transposes. Both
attention products have computed operands and the three linear layers (K and V are one) act on tokens. The two LayerNorms
and a softmax over the last axis are not documented for the device.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.models.blocks.transformer import CrossAttention
from npu_guard.zoo.system import Expect, Fixed

ID = "A11b"


def build(size: str = "full") -> torch.nn.Module:
    """The block in eval mode; forward gives a map of `x`'s shape."""
    return seeded(lambda: CrossAttention(32, heads=2) if size == "tiny" else CrossAttention(256, heads=8), seed=1112)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """A decoder map at stride 16 and an encoder map at stride 32 of a 384x640 image."""
    shapes = ((1, 32, 4, 6), (1, 32, 2, 3)) if size == "tiny" else ((1, 256, 24, 40), (1, 256, 12, 20))
    return {"x": signed(shapes[0], seed=13), "context": signed(shapes[1], seed=14)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU101", "warning", count=3),
        Expect("NPU102", "error", count=14),
        Expect("NPU103", "error", scope="attention", count=5),
    )
}

FIXED = {"aimotive-aiware": Fixed(substitutions=("tensors-to-maps",))}

FIXED_FULL = {"aimotive-aiware": Fixed(substitutions=("self-attention-to-position-maps",))}
