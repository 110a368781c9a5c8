"""The blocks fit the devices that they are made for, compute what they are named after, and their fixed parts stay."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import npu_guard
from npu_guard.base.errors import UsageError
from npu_guard.torch import blocks

SHAPE = (1, 48, 12, 10)
MADE: dict[str, Callable[[str], nn.Module]] = {
    "se": lambda p: blocks.SE(48, profile=p),
    "eca": lambda p: blocks.ECA(48, profile=p),
    "cbam": lambda p: blocks.CBAM(48, profile=p),
    "axial": lambda p: blocks.AxialConv(48, 31, profile=p),
    "attention": lambda p: blocks.SmallMapAttention(48, 4, 5, profile=p),
}


@pytest.mark.parametrize(
    ("name", "profile"),
    [*((n, "aimotive-aiware") for n in MADE), ("se", "ethos-u85"), ("cbam", "ethos-u85"), ("eca", "ethos-u85")],
)
def test_blocks_have_no_errors(name: str, profile: str) -> None:
    torch.manual_seed(0)
    shape = (1, 48, 4, 5) if name == "attention" else SHAPE
    report = npu_guard.check(MADE[name](profile).eval(), inputs=torch.randn(shape), profile=profile)
    assert not report.errors, report


def test_kernels_and_widths_follow_the_device() -> None:
    assert blocks.AxialConv(8, 31).vertical.kernel_size == (17, 1)
    assert blocks.aligned(20) == 24
    assert blocks.SE(32, 16).reduce.out_channels == 8


def test_fusion_has_no_errors_and_odd_widths_are_rounded() -> None:
    block = blocks.AttentiveSkipFusion(40, 56, 24)
    report = npu_guard.check(block.eval(), inputs=(torch.randn(1, 40, 6, 5), torch.randn(1, 56, 6, 5)))
    assert not report.errors
    assert block.se.reduce.out_channels == 16


@pytest.mark.parametrize(("channels", "on"), [(256, True), (264, False)])
def test_the_spatial_gate_is_off_beyond_the_limit(channels: int, on: bool) -> None:
    block = blocks.CBAM(channels).eval()
    assert (block.spatial is not None) is on
    assert not npu_guard.check(block, inputs=torch.randn(1, channels, 4, 4)).errors


def test_the_nearest_block_that_does_not_fit_is_found() -> None:
    """So that a silent check says something."""
    wrong = blocks.CBAM(264, profile="aimotive-aiware")
    wrong.spatial = nn.Conv2d(2, 1, 7, padding=3)
    assert npu_guard.check(wrong.eval(), inputs=torch.randn(1, 264, 4, 4)).errors


def test_small_map_attention_is_attention() -> None:
    torch.manual_seed(1)
    block, x = blocks.SmallMapAttention(16, 3, 4), 3 * torch.randn(2, 16, 3, 4)
    q, k, v = (layer(x).flatten(2).transpose(1, 2) for layer in (block.query, block.key, block.value))
    taken = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
    assert torch.allclose(block(x), x + block.output(taken), atol=1e-5)
    with pytest.raises(UsageError, match="take AxialConv"):
        blocks.SmallMapAttention(16, 9, 8)


def test_eca_with_equal_taps_is_the_published_block() -> None:
    block, x = blocks.ECA(12, 5), torch.randn(2, 12, 3, 4)
    taps = torch.randn(5)
    with torch.no_grad():
        for i in range(12):
            for t in range(-2, 3):
                if 0 <= i + t < 12:
                    block.mix.weight[i, i + t] = taps[t + 2]
    gate = nn.functional.conv1d(x.mean((2, 3)).unsqueeze(1), taps.reshape(1, 1, 5), padding=2)
    assert torch.allclose(block(x), x * torch.sigmoid(gate).transpose(1, 2).unsqueeze(-1), atol=1e-5)
    optimizer = torch.optim.AdamW(block.parameters(), 0.1)
    block.train()(x).pow(2).sum().backward()
    optimizer.step()
    assert not block.mix.weight[~block.mix.mask].any()


def test_eca_is_the_published_block_where_the_device_takes_it() -> None:
    torch.manual_seed(2)
    published, band = blocks.ECA(12, 5, "ethos-u85"), blocks.ECA(12, 5, "aimotive-aiware")
    assert published.mix.weight.shape == (1, 1, 5)
    assert band.mix.weight.shape == (12, 12, 1, 1)
    taps, x = published.mix.weight.detach().reshape(5), torch.randn(2, 12, 3, 4)
    with torch.no_grad():
        for i in range(12):
            for t in range(max(-2, -i), min(3, 12 - i)):
                band.mix.weight[i, i + t] = taps[t + 2]
    assert torch.allclose(published(x), band(x), atol=1e-6)
    assert npu_guard.check(published.eval(), inputs=torch.randn(SHAPE[0], 12, 6, 5), profile="aimotive-aiware").errors
