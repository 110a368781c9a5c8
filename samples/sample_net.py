"""A small network in which several things do not fit a device, for the demo and the tests.

`python samples/make.py` exports it to sample_net.onnx; the weights come from a fixed seed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from npu_guard.models.blocks.seeding import seeded, signed

SEED = 2024


class ChannelAttention(nn.Module):
    """ECA: a convolution over the channel axis of a `[B, 1, 1, C]` view gates the channels."""

    def __init__(self, kernel: int = 5) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv2d(1, 1, (1, kernel), padding=(0, kernel // 2), bias=False)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        batch, channels = x.shape[:2]
        row = self.pool(x).reshape(batch, 1, 1, channels)
        scale = self.gate(self.conv(row))
        return x * scale.reshape(batch, channels, 1, 1)


class SpatialGate(nn.Module):
    """The largest of all channels at a position gates that position."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 7, padding=3)
        self.merge = nn.Conv2d(8, 1, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        peak = x.amax(dim=1, keepdim=True)
        return x * self.gate(self.merge(self.conv(peak)))


class Axial(nn.Module):
    """Depthwise convolutions along height and width, added to the input."""

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        self.vertical = nn.Conv2d(channels, channels, (taps, 1), padding=(taps // 2, 0), groups=channels)
        self.horizontal = nn.Conv2d(channels, channels, (1, taps), padding=(0, taps // 2), groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.vertical(x) + self.horizontal(x)


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(x + self.norm2(self.conv2(y)))


class SampleNet(nn.Module):
    """Image `[B, 3, 64, 96]` -> 16 scores."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.block = Residual(16)
        self.attention = ChannelAttention()
        self.context = Axial(16, taps=19)
        self.expand = nn.Conv2d(16, 320, 1)
        self.gate = SpatialGate()
        self.squeeze = nn.Conv2d(320, 20, 1)
        self.act = nn.ELU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(20, 16)

    def forward(self, image: Tensor) -> Tensor:
        x = self.block(torch.relu(self.stem(image)))
        x = self.context(self.attention(x))
        x = self.gate(torch.relu(self.expand(x)))
        x = self.act(self.squeeze(x))
        return self.head(torch.flatten(self.pool(x), 1))


def build() -> nn.Module:
    """The network in eval mode, every weight drawn from the seed."""
    return seeded(SampleNet, SEED)


def inputs() -> dict[str, Tensor]:
    """One image."""
    return {"image": signed((1, 3, 64, 96), seed=1)}
