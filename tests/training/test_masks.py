"""Modules of which some weights are structure: they are what torch's own are, and training leaves the structure alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from npu_guard.training.layout import IMPORTS, helper_text

CASES: dict[str, tuple[tuple[int, ...], dict[str, Any], tuple[int, ...]]] = {
    "Linear": ((6, 4), {}, (3, 6)),
    "Conv1d": ((6, 4, 3), {"padding": 1, "groups": 2}, (3, 6, 9)),
    "Conv2d": ((6, 4, 3), {"stride": 2, "bias": False}, (3, 6, 9, 7)),
    "Conv3d": ((6, 4, 3), {"dilation": 2}, (3, 6, 5, 7, 6)),
    "ConvTranspose1d": ((6, 4, 3), {"stride": 2, "padding": 1, "output_padding": 1}, (3, 6, 5)),
    "ConvTranspose2d": ((6, 4, (3, 2)), {"stride": (2, 1), "groups": 2, "bias": False}, (3, 6, 5, 4)),
    "ConvTranspose3d": ((6, 4, 2), {"dilation": 2, "padding": 1}, (3, 6, 4, 5, 3)),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_masked_module_is_the_plain_one_and_keeps_its_structure(kind: str) -> None:
    torch.manual_seed(0)
    code: dict[str, Any] = {}
    exec("\n".join(["from typing import Any", *IMPORTS, helper_text(f"Masked{kind}")]), code)
    sizes, options, shape = CASES[kind]
    masked, plain = code[f"Masked{kind}"](*sizes, **options), getattr(nn, kind)(*sizes, **options)
    masked.load_state_dict({**plain.state_dict(), "mask": torch.rand(plain.weight.shape) < 0.5})
    x = torch.randn(shape)
    for module in (masked.train(), masked.eval()):
        assert torch.equal(module(x), plain(x))
    before = masked.weight.detach().clone()
    optimizer = torch.optim.SGD(masked.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        masked.train()(x).square().mean().backward()
        optimizer.step()
    moved = masked.weight != before
    assert torch.equal(moved, masked.mask)
    assert 0 < int(moved.sum()) < moved.numel()
