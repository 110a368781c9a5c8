"""ConvNeXt: depthwise 7x7 convolutions, and the rest of a transformer block on the channels of each position.

Liu et al., A ConvNet for the 2020s (CVPR 2022). Linear layers have their biases, as published.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTHS = (96, 192, 384, 768)
TINY_WIDTHS = (8, 16, 24, 32)
DEPTHS = (3, 3, 9, 3)
"""Blocks in the stages of ConvNeXt-Tiny."""


class MapNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map `[B, C, H, W]`, by way of `[B, H, W, C]`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, then on `[B, H, W, C]` LayerNorm, linear to 4 C, GELU, linear, scale for each channel; residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, 4 * channels)
        self.act = nn.GELU()
        self.reduce = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gamma * self.reduce(self.act(self.expand(y)))
        result: Tensor = x + y.permute(0, 3, 1, 2)
        return result


class ConvNeXt(nn.Module):
    """Image `[B, 3, H, W]` -> `[B, classes]`; H and W multiples of 32."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS, depths: tuple[int, ...] = DEPTHS, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, stride=4), MapNorm(widths[0], eps=1e-6))
        stages: list[nn.Module] = []
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if index:
                before = widths[index - 1]
                stages += [MapNorm(before, eps=1e-6), nn.Conv2d(before, width, 2, stride=2)]
            stages += [ConvNeXtBlock(width) for _ in range(depth)]
        self.stages = nn.Sequential(*stages)
        self.norm = MapNorm(widths[-1], eps=1e-6)
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, image: Tensor) -> Tensor:
        features = self.norm(self.stages(self.stem(image)).mean(dim=(2, 3), keepdim=True))
        result: Tensor = self.fc(torch.flatten(features, 1))
        return result
