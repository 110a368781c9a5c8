"""Depth decoder with skip connections and two heads per scale, and the depth network around it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from npu_guard.models.blocks.resnet import ResNetEncoder

WIDTHS = (16, 32, 64, 128, 256)
"""Channels of decoder levels 0 (full resolution) to 4."""

TINY_WIDTHS = (8, 8, 16, 16, 24)

Factory = Callable[[int], nn.Module]
"""Number of channels -> module that keeps `[B, C, H, W]`."""


class ConvAct(nn.Module):
    """3x3 convolution with zero padding, and an activation."""

    def __init__(self, inputs: int, outputs: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.act(self.conv(x))
        return result


class DecoderLevel(nn.Module):
    """conv3x3, nearest 2x upsample, concat with the skip where there is one, conv3x3, then what refines the result."""

    def __init__(self, inputs: int, skip: int, outputs: int, activation: type[nn.Module], refine: tuple[Factory, ...]) -> None:
        super().__init__()
        self.reduce = ConvAct(inputs, outputs, activation)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.fuse = ConvAct(outputs + skip, outputs, activation)
        self.refine = nn.Sequential(*(make(outputs) for make in refine))

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = self.upsample(self.reduce(x))
        if skip is not None:
            x = torch.cat([x, skip], dim=1)
        result: Tensor = self.refine(self.fuse(x))
        return result


class DualHead(nn.Module):
    """Depth `[B, 1, H, W]` in metres as a coarse and a fine part, each conv3x3 to one channel and a sigmoid."""

    def __init__(self, channels: int, max_depth: float, fraction: float) -> None:
        super().__init__()
        self.max_depth = max_depth
        self.fraction = fraction
        self.integer = ConvAct(channels, 1, nn.Sigmoid)
        self.fractional = ConvAct(channels, 1, nn.Sigmoid)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.integer(x) * self.max_depth + self.fractional(x) * self.fraction
        return result


class DepthDecoder(nn.Module):
    """Feature maps at strides 2, 4, 8, 16, 32 -> depth at strides 1, 2, 4 and 8 (scales 0 to 3).

    `attention` refines the result of each skip fusion (levels 4 to 1); `axial` refines level 2 after that.
    """

    def __init__(
        self,
        encoder: tuple[int, ...],
        widths: tuple[int, ...] = WIDTHS,
        activation: type[nn.Module] = nn.ELU,
        attention: Factory | None = None,
        axial: Factory | None = None,
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        for level, width in enumerate(widths):
            inputs = encoder[-1] if level == len(widths) - 1 else widths[level + 1]
            skip = encoder[level - 1] if level > 0 else 0
            refine = [attention] if attention and level > 0 else []
            if axial and level == 2:
                refine.append(axial)
            self.levels.append(DecoderLevel(inputs, skip, width, activation, tuple(refine)))
        self.heads = nn.ModuleList(DualHead(width, max_depth=15.0, fraction=1.0) for width in widths[:4])

    def forward(self, f2: Tensor, f4: Tensor, f8: Tensor, f16: Tensor, f32: Tensor) -> tuple[Tensor, ...]:
        skips = (None, f2, f4, f8, f16)
        x = f32
        depths: list[Tensor] = []
        for level in range(4, -1, -1):
            x = self.levels[level](x, skips[level])
            if level < 4:
                depths.append(self.heads[level](x))
        return tuple(reversed(depths))


class DepthNet(nn.Module):
    """Image `[B, 3, H, W]` -> depth in metres at scales 0 to 3."""

    def __init__(self, encoder: ResNetEncoder, decoder: DepthDecoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        depths: tuple[Tensor, ...] = self.decoder(*self.encoder(image))
        return depths
