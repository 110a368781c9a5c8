"""Backbones that keep resolution by dilation: DRN-D and a ResNet of bottlenecks. Both give a low-level map at stride 4 too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

DRN_WIDTHS = (16, 16, 32, 256, 512, 1024, 2048, 512, 512)
"""Channels of DRN-D's nine levels: three convolutions, four stages of bottlenecks, two convolutions."""

DRN_DEPTHS = (3, 4, 6, 3)
"""Bottlenecks in the stages of DRN-D-54."""

TINY_DRN_WIDTHS = (8, 8, 16, 32, 32, 64, 64, 32, 32)
TINY_DRN_DEPTHS = (2, 1, 1, 1)

RESNET_WIDTHS = (64, 256, 512, 1024, 2048)
"""Channels of the stem and of the four stages of ResNet-50 and -101."""

RESNET50_DEPTHS = (3, 4, 6, 3)
TINY_RESNET_WIDTHS = (8, 32, 32, 64, 64)
TINY_RESNET_DEPTHS = (2, 1, 1, 1)


def conv_norm_act(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution that keeps the extent but for the stride, batch norm, ReLU."""
    pad = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=pad, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Bottleneck(nn.Module):
    """conv1x1 to a quarter of the width, conv3x3, conv1x1, and a shortcut (conv1x1 where stride or width change)."""

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.reduce = conv_norm_act(inputs, outputs // 4, 1)
        self.conv = conv_norm_act(outputs // 4, outputs // 4, 3, stride, dilation)
        self.expand = nn.Conv2d(outputs // 4, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.relu(self.norm(self.expand(self.conv(self.reduce(x)))) + self.shortcut(x))
        return result


def stage(inputs: int, outputs: int, depth: int, stride: int, dilation: int) -> nn.Sequential:
    """`depth` bottlenecks, of which the first has the stride."""
    return nn.Sequential(
        *(Bottleneck(inputs if i == 0 else outputs, outputs, stride if i == 0 else 1, dilation) for i in range(depth))
    )


class DRN(nn.Module):
    """Dilated residual network, variant D: image `[B, 3, H, W]` -> maps at strides 4 and 8.

    Yu, Koltun, Funkhouser: Dilated Residual Networks (CVPR 2017). The convolutions at the end, with less dilation and no
    shortcuts, smooth the grid that the dilated stages leave.
    """

    def __init__(self, widths: tuple[int, ...] = DRN_WIDTHS, depths: tuple[int, ...] = DRN_DEPTHS) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv_norm_act(3, widths[0], 7),
            conv_norm_act(widths[0], widths[1], 3),
            conv_norm_act(widths[1], widths[2], 3, stride=2),
        )
        self.low = stage(widths[2], widths[3], depths[0], stride=2, dilation=1)
        self.stages = nn.Sequential(
            stage(widths[3], widths[4], depths[1], stride=2, dilation=1),
            stage(widths[4], widths[5], depths[2], stride=1, dilation=2),
            stage(widths[5], widths[6], depths[3], stride=1, dilation=4),
        )
        self.smooth = nn.Sequential(
            conv_norm_act(widths[6], widths[7], 3, dilation=2), conv_norm_act(widths[7], widths[8], 3, dilation=1)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        low = self.low(self.stem(image))
        return low, self.smooth(self.stages(low))


class DilatedResNet(nn.Module):
    """ResNet of bottlenecks whose last stage is dilated: image `[B, 3, H, W]` -> maps at strides 4 and 16."""

    def __init__(self, widths: tuple[int, ...] = RESNET_WIDTHS, depths: tuple[int, ...] = RESNET50_DEPTHS) -> None:
        super().__init__()
        self.stem = conv_norm_act(3, widths[0], 7, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.low = stage(widths[0], widths[1], depths[0], stride=1, dilation=1)
        self.stages = nn.Sequential(
            stage(widths[1], widths[2], depths[1], stride=2, dilation=1),
            stage(widths[2], widths[3], depths[2], stride=2, dilation=1),
            stage(widths[3], widths[4], depths[3], stride=1, dilation=2),
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        low = self.low(self.pool(self.stem(image)))
        return low, self.stages(low)


def pooled(x: Tensor) -> Tensor:
    """Global mean `[B, C]` by pool and flatten, as classifiers have it."""
    return torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1)
