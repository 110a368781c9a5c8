"""Transformer encoder block on a feature map.

`[1, 384, 14, 14]`, whose 196 positions are the tokens: LayerNorm, six-headed self-attention, residual, LayerNorm, linear to
1536, GELU, linear back, residual, and a map again.

Verdict: refused. To tokens and back: two reshapes and two transposes; heads are split off Q, K, V and merged again (four
reshapes, four transposes); both attention products have computed operands, and the four linear layers (Q, K and V are one)
act on tokens. LayerNorm (twice), GELU (or the Erf that it is written with) and a softmax over the last axis are not
documented for the device.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.models.blocks.transformer import TransformerBlock
from npu_guard.zoo.system import Expect, Fixed

ID = "A11a"


def build(size: str = "full") -> torch.nn.Module:
    """The block in eval mode; forward gives a map of the input's shape."""
    return seeded(lambda: TransformerBlock(32, heads=2) if size == "tiny" else TransformerBlock(384, heads=6), seed=1111)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """A map of 14x14 positions."""
    return {"x": signed((1, 32, 3, 4) if size == "tiny" else (1, 384, 14, 14), seed=12)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU101", "warning", count=4),
        Expect("NPU102", "error", count=12),
        Expect("NPU103", "error", scope="attention", count=4),
        Expect("NPU103", "error", scope="mlp", count=2),
    )
}

FIXED = {"aimotive-aiware": Fixed(findings=(Expect("NPU101", "warning", scope="mlp"),), substitutions=("tensors-to-maps",))}

FIXED_FULL = {
    "aimotive-aiware": Fixed(
        findings=(Expect("NPU101", "warning", scope="mlp"),), substitutions=("self-attention-to-position-maps",)
    )
}
