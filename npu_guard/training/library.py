"""Blocks for new networks that fit a device by construction, each made for the limits of a device file.

Maps are `[B, C, H, W]`. Where a limit is not stated by the device, the block is as published.
"""

from __future__ import annotations

import math
import tempfile
from functools import cache
from pathlib import Path

import onnx
import onnx.parser
import torch
from torch import Tensor, nn

from npu_guard.base.errors import UsageError
from npu_guard.checking import registry
from npu_guard.device import Profile
from npu_guard.pipeline.check import check_models
from npu_guard.project.config import DEFAULT_PROFILE, Config
from npu_guard.results.findings import Severity

WIDTH = 8
"""Channels of a bottleneck at the least: the granularity of the first device, and little enough for others."""
MOST_POSITIONS = 64
"""Positions of a map up to which attention is written out position by position."""


def device(profile: str) -> Profile:
    """The device of a name or file. Raises UsageError."""
    return registry.profile(profile)


def aligned(channels: int, profile: str = DEFAULT_PROFILE) -> int:
    """The channels that the device has at least that many of: the next multiple of what it takes."""
    multiple = device(profile).limit("channels.multiple_of") or 1
    return math.ceil(channels / multiple) * multiple


def longest(kernel: int, profile: str = DEFAULT_PROFILE) -> int:
    """The longest odd kernel up to `kernel` that the device has."""
    known = device(profile)
    bounds = [known.limit(key) for key in ("conv.kernel_max", "conv.dilated_extent_max")]
    most: int = min(
        [kernel, *(b for b in bounds if b is not None), *(2 * p + 1 for p in [known.limit("pad.max")] if p is not None)]
    )
    return most if most % 2 else most - 1


_POOLED = """<ir_version: 8, opset_import: ["" : 18]> pooled (float[1,%d,16,16] x) => (float[1,2,16,16] y)
<int64[1] axis = {1}> { mean = ReduceMean (x, axis)  peak = ReduceMax (x, axis)  y = Concat <axis = 1> (mean, peak) }"""


_ECA = """<ir_version: 8, opset_import: ["" : 18]> eca (float[1,%d,16,16] x) => (y)
<int64[1] last = {-1}, float[1,1,%d] w = {%s}> {
    p = GlobalAveragePool (x)  s = Squeeze (p, last)  r = Transpose <perm = [0,2,1]> (s)  c = Conv <pads = [%d,%d]> (r, w)
    t = Transpose <perm = [0,2,1]> (c)  u = Unsqueeze (t, last)  g = Sigmoid (u)  y = Mul (x, g) }"""


@cache
def reduces(channels: int, profile: str = DEFAULT_PROFILE) -> bool:
    """Whether the device takes mean and maximum over so many channels: the rules are asked about a model that does just that."""
    return _fits(_POOLED % channels, profile)


@cache
def mixes_channels(channels: int, taps: int, profile: str = DEFAULT_PROFILE) -> bool:
    """Whether the device takes a Conv1d along the channels: the rules are asked about ECA as published."""
    return _fits(_ECA % (channels, taps, ", ".join("1" * taps), taps // 2, taps // 2), profile)


def _fits(text: str, profile: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="npu-guard-") as folder:
        file = Path(folder, "block.onnx")
        file.write_bytes(onnx.parser.parse_model(text).SerializeToString())
        (model,) = check_models([str(file)], Config(profile=profile)).models
    return not any(f.severity is Severity.ERROR for f in model.findings)


class SE(nn.Module):
    """Squeeze and excitation (Hu et al., 2018): channels scaled by a gate made of their means. `[B, C, H, W]` to the same.

    The bottleneck has at least 8 channels, and a number that the device takes; 2 C R weights.
    """

    def __init__(self, channels: int, reduction: int = 16, profile: str = DEFAULT_PROFILE) -> None:
        super().__init__()
        reduced = aligned(max(WIDTH, channels // reduction), profile)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce, self.expand = nn.Conv2d(channels, reduced, 1), nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The map, its channels scaled."""
        gate: Tensor = self.expand(torch.relu(self.reduce(self.pool(x))))
        return x * torch.sigmoid(gate)


class BandConv2d(nn.Conv2d):
    """A 1x1 convolution in which channel i reads channels i - r to i + r only; the other weights stay zero in training."""

    mask: Tensor

    def __init__(self, channels: int, reach: int) -> None:
        super().__init__(channels, channels, 1, bias=False)
        index = torch.arange(channels)
        band = (index[:, None] - index[None, :]).abs() <= reach
        self.register_buffer("mask", band[:, :, None, None])
        with torch.no_grad():
            self.weight.mul_(self.mask)

    def forward(self, input: Tensor) -> Tensor:
        """The map, each channel mixed with its neighbours."""
        weight = self.weight
        if self.training:
            weight = torch.where(self.mask, weight, weight.detach())
        result: Tensor = self._conv_forward(input, weight, self.bias)
        return result


class ECA(nn.Module):
    """Efficient channel attention (Wang et al., 2020). `[B, C, H, W]` to the same.

    As published, one Conv1d of `taps` weights along the channels, where the device takes that. Elsewhere as SE: the convolution
    is a band in a matrix of C^2 weights, no channel moves into space, and each channel has taps of its own. Raises UsageError.
    """

    def __init__(self, channels: int, taps: int = 5, profile: str = DEFAULT_PROFILE) -> None:
        super().__init__()
        if taps < 1 or taps % 2 == 0:
            raise UsageError(f"ECA: taps={taps}; an odd number has a middle")
        self.pool = nn.AdaptiveAvgPool2d(1)
        published = mixes_channels(channels, taps, profile)
        self.mix = nn.Conv1d(1, 1, taps, padding=taps // 2, bias=False) if published else BandConv2d(channels, taps // 2)

    def forward(self, x: Tensor) -> Tensor:
        """The map, its channels scaled."""
        pooled: Tensor = self.pool(x)
        if isinstance(self.mix, nn.Conv1d):
            gate: Tensor = self.mix(pooled.squeeze(-1).transpose(1, 2)).transpose(1, 2).unsqueeze(-1)
        else:
            gate = self.mix(pooled)
        return x * torch.sigmoid(gate)


class CBAM(nn.Module):
    """Channel gate and spatial gate (Woo et al., 2018). `[B, C, H, W]` to the same.

    The spatial gate is off (`spatial` is None) where the device cannot reduce so many channels.
    """

    def __init__(self, channels: int, reduction: int = 16, kernel: int = 7, profile: str = DEFAULT_PROFILE) -> None:
        super().__init__()
        reduced = aligned(max(WIDTH, channels // reduction), profile)
        self.mean, self.peak = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)
        self.reduce, self.expand = nn.Conv2d(channels, reduced, 1), nn.Conv2d(reduced, channels, 1)
        size = longest(kernel, profile)
        self.spatial = nn.Conv2d(2, 1, size, padding=size // 2) if reduces(channels, profile) else None

    def forward(self, x: Tensor) -> Tensor:
        """The map, its channels scaled, and its positions where the device allows it."""
        means, peaks = (self.expand(torch.relu(self.reduce(p))) for p in (self.mean(x), self.peak(x)))
        x = x * torch.sigmoid(means + peaks)
        if self.spatial is None:
            return x
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.spatial(both))


class AxialConv(nn.Module):
    """A long reach without attention: depthwise (k, 1) and (1, k) added to the map, norm, ReLU. `[B, C, H, W]` to the same.

    k is the longest odd kernel up to `kernel` that the device has; 2 C k weights, 2 C k H W MACs.
    """

    def __init__(self, channels: int, kernel: int = 17, profile: str = DEFAULT_PROFILE) -> None:
        super().__init__()
        size = longest(kernel, profile)
        self.vertical = nn.Conv2d(channels, channels, (size, 1), padding=(size // 2, 0), groups=channels, bias=False)
        self.horizontal = nn.Conv2d(channels, channels, (1, size), padding=(0, size // 2), groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """The map, each position with those in its row and column."""
        mixed: Tensor = self.norm(x + self.vertical(x) + self.horizontal(x))
        return torch.relu(mixed)


class AttentiveSkipFusion(nn.Module):
    """Encoder and decoder maps joined, weighted by SE and mixed: `[B, E, H, W]` and `[B, D, H, W]` to `[B, C, H, W]`."""

    def __init__(self, encoder: int, decoder: int, channels: int, reduction: int = 8, profile: str = DEFAULT_PROFILE) -> None:
        super().__init__()
        self.se = SE(encoder + decoder, reduction, profile)
        self.mix, self.norm = nn.Conv2d(encoder + decoder, channels, 1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, encoder: Tensor, decoder: Tensor) -> Tensor:
        """The fused map."""
        fused: Tensor = self.norm(self.mix(self.se(torch.cat([encoder, decoder], 1))))
        return torch.relu(fused)


class SmallMapAttention(nn.Module):
    """Self-attention between all positions of a small map, written position by position: no Reshape, Transpose or MatMul.

    `[B, C, H, W]` to the same, in a residual; H W at most 64, as about six operators stand for each position. Scores of a query
    against one key are a product and a sum over channels; a softmax over the maps of all keys weighs their values.
    """

    def __init__(self, channels: int, height: int, width: int, reduction: int = 4, profile: str = DEFAULT_PROFILE) -> None:
        super().__init__()
        if height * width > MOST_POSITIONS:
            raise UsageError(f"SmallMapAttention: {height} x {width} are more than {MOST_POSITIONS} positions; take AxialConv")
        inner = aligned(max(WIDTH, channels // reduction), profile)
        self.size, self.scale = (height, width), inner**-0.5
        self.query, self.key = nn.Conv2d(channels, inner, 1), nn.Conv2d(channels, inner, 1)
        self.value, self.output = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The map, and what each position takes from all others."""
        query, key, value = self.query(x) * self.scale, self.key(x), self.value(x)
        at = [(i, j) for i in range(self.size[0]) for j in range(self.size[1])]
        scores = [(query * key[:, :, i : i + 1, j : j + 1]).sum(1, keepdim=True) for i, j in at]
        weights = torch.cat(scores, 1).softmax(1)
        taken = [weights[:, n : n + 1] * value[:, :, i : i + 1, j : j + 1] for n, (i, j) in enumerate(at)]
        result: Tensor = x + self.output(sum(taken[1:], taken[0]))
        return result
