"""Attention on feature maps `[B, C, H, W]` by pooling, convolution and gating only: what the first device runs."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def reduced_width(channels: int, reduction: int) -> int:
    """Channels of a gate's bottleneck: at least 8, because 8 is the device's channel granularity."""
    return max(8, channels // reduction)


class SE(nn.Module):
    """Squeeze and excitation: `[B, C, H, W]` scaled per channel by a gate made of its global mean."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        reduced = reduced_width(channels, reduction)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, reduced, 1, bias=False)
        self.relu = nn.ReLU()
        self.expand = nn.Conv2d(reduced, channels, 1, bias=False)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x * self.gate(self.expand(self.relu(self.reduce(self.pool(x)))))
        return result


class ChannelGate(nn.Module):
    """CBAM's first half: one bottleneck for the mean and the maximum over space, their sum gates the channels."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        reduced = reduced_width(channels, reduction)
        self.reduce = nn.Conv2d(channels, reduced, 1, bias=False)
        self.relu = nn.ReLU()
        self.expand = nn.Conv2d(reduced, channels, 1, bias=False)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3), keepdim=True)
        peak = x.amax(dim=(2, 3), keepdim=True)
        result: Tensor = x * self.gate(self.shared(mean) + self.shared(peak))
        return result

    def shared(self, pooled: Tensor) -> Tensor:
        """The two-layer perceptron, as 1x1 convolutions on `[B, C, 1, 1]`."""
        result: Tensor = self.expand(self.relu(self.reduce(pooled)))
        return result


class SpatialGate(nn.Module):
    """CBAM's second half: mean and maximum over channels, a conv to one map, which gates the positions."""

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=1, keepdim=True)
        peak = x.amax(dim=1, keepdim=True)
        result: Tensor = x * self.gate(self.conv(torch.cat([mean, peak], dim=1)))
        return result


class CBAM(nn.Module):
    """Convolutional block attention module: channel gate, then spatial gate."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.channel = ChannelGate(channels, reduction)
        self.spatial = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.spatial(self.channel(x))
        return result


class AxialConv(nn.Module):
    """Large receptive field without attention: depthwise (k, 1) and (1, k) summed with the input, BN, ReLU."""

    def __init__(self, channels: int, kernel: int = 17) -> None:
        super().__init__()
        pad = kernel // 2
        self.vertical = nn.Conv2d(channels, channels, (kernel, 1), padding=(pad, 0), groups=channels, bias=False)
        self.horizontal = nn.Conv2d(channels, channels, (1, kernel), padding=(0, pad), groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.relu(self.norm(x + self.vertical(x) + self.horizontal(x)))
        return result


class AttentiveSkipFusion(nn.Module):
    """Concatenation of encoder and decoder maps, re-weighted by SE, then conv1x1, BN, ReLU to `channels` maps."""

    def __init__(self, encoder: int, decoder: int, channels: int, reduction: int = 8) -> None:
        super().__init__()
        self.se = SE(encoder + decoder, reduction)
        self.conv = nn.Conv2d(encoder + decoder, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, encoder: Tensor, decoder: Tensor) -> Tensor:
        result: Tensor = self.relu(self.norm(self.conv(self.se(torch.cat([encoder, decoder], dim=1)))))
        return result
