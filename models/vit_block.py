"""Vision tower of a vision-language model: patch embedding and one block with fused attention.

Image `[1, 3, 224, 224]`; conv16x16 with stride 16 to 768 channels, whose 14 x 14 positions are the tokens; learned positions;
LayerNorm, attention in 12 heads by `scaled_dot_product_attention`, LayerNorm, linear to 3072, GELU, linear. Gives tokens
`[1, 196, 768]`, as the language model wants them.

Verdict: refused. To tokens, a reshape and a transpose; heads are split off Q, K and V and merged again (four reshapes, four
transposes: that of K is one with the one in front of the product); both attention products have computed operands, and the
four linear layers (Q, K and V are one) act on tokens. LayerNorm (twice), GELU (or the Erf that it is written with) and a
softmax over the last axis are not documented.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.models.blocks.vit import VisionTower
from npu_guard.zoo.system import Expect, Fixed

ID = "D11"


def build(size: str = "full") -> torch.nn.Module:
    """The tower in eval mode; forward gives tokens."""
    if size == "tiny":
        return seeded(lambda: VisionTower(32, heads=2, patch=16, positions=6), seed=411)
    return seeded(lambda: VisionTower(768, heads=12, patch=16, positions=196), seed=411)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """An image, normalised."""
    return {"image": signed((1, 3, 32, 48) if size == "tiny" else (1, 3, 224, 224), seed=31)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU101", "warning", scope="block", count=4),
        Expect("NPU102", "error", count=10),
        Expect("NPU103", "error", scope="block.attention", count=4),
        Expect("NPU103", "error", scope="block.mlp", count=2),
    )
}

FIXED = {
    "aimotive-aiware": Fixed(
        findings=(Expect("NPU101", "warning", scope="block.mlp"),),
        substitutions=("tensors-to-maps",),
    )
}

FIXED_FULL = {
    "aimotive-aiware": Fixed(
        findings=(Expect("NPU101", "warning", scope="block.mlp"),),
        substitutions=("tensors-to-maps",),
    )
}
