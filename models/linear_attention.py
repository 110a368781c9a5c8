"""Linear attention: phi(Q) (phi(K)^T V) with phi = elu + 1.

Q and K are 1x1 convolutions to C/8 channels, V to C. Without softmax the product of K and V comes first, so cost is linear
in the number of positions; a 1x1 convolution projects the result, which is added to the input.

Verdict: refused. Five nodes rearrange channels and space (reshapes of Q, K, V and of the result, the transpose of
K), and both matrix products take two computed operands. The two ELUs are not documented for the device. The
denominator is a mean over space and a sum over channels, which the device runs.
"""

from __future__ import annotations

import torch

from npu_guard.models.blocks.refused import LinearAttention
from npu_guard.models.blocks.seeding import seeded, signed
from npu_guard.zoo.system import Expect, Fixed

ID = "A6"


def build(size: str = "full") -> torch.nn.Module:
    """The block in eval mode; forward gives a map of the input's shape."""
    return seeded(lambda: LinearAttention(64 if size == "tiny" else 512), seed=106)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """A feature map at stride 32 of a 384x640 image."""
    return {"x": signed((1, 64, 4, 6) if size == "tiny" else (1, 512, 12, 20), seed=7)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        Expect("NPU101", "warning", count=2),
        Expect("NPU102", "error", count=5),
        Expect("NPU103", "error", count=2),
    )
}

FIXED = {"aimotive-aiware": Fixed(substitutions=("elu-to-tanh", "tensors-to-maps"))}

# Real maps have too many positions for the whole product as a convolution.
FIXED_FULL = {
    "aimotive-aiware": Fixed(
        findings=(Expect("NPU102", "error", count=5), Expect("NPU103", "error", count=2)), substitutions=("elu-to-tanh",)
    )
}
