"""ResNet-18: the encoder with its five feature maps, and the classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

WIDTHS = (64, 64, 128, 256, 512)
"""Channels at strides 2, 4, 8, 16 and 32."""

TINY_WIDTHS = (8, 8, 16, 24, 32)
"""The same for fast tests: distinct where it matters, all multiples of 8."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut (conv1x1 where stride or width change)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        result: Tensor = self.relu(y + self.shortcut(x))
        return result


class ResNetEncoder(nn.Module):
    """Image `[B, 3, H, W]` -> feature maps at strides 2, 4, 8, 16, 32; H and W multiples of 32.

    `attention` gives, by layer number 1 to 4, what to apply to that layer's output of so many channels.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = WIDTHS,
        attention: Mapping[int, Callable[[int], nn.Module]] | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False)
        self.norm1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layers = nn.ModuleList()
        self.attention = nn.ModuleList()
        for layer in range(1, 5):
            inputs, outputs = widths[layer - 1], widths[layer]
            stride = 1 if layer == 1 else 2
            self.layers.append(nn.Sequential(BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)))
            attend = (attention or {}).get(layer)
            self.attention.append(attend(outputs) if attend else nn.Identity())

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = [self.relu(self.norm1(self.conv1(image)))]
        x = self.pool(features[0])
        for layer, attend in zip(self.layers, self.attention, strict=True):
            x = attend(layer(x))
            features.append(x)
        return tuple(features)


class ResNetClassifier(nn.Module):
    """ResNet-18 with the usual tail: global mean, flatten to `[B, C]`, linear to `[B, classes]`."""

    def __init__(
        self,
        widths: tuple[int, ...] = WIDTHS,
        classes: int = 1000,
        attention: Mapping[int, Callable[[int], nn.Module]] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = ResNetEncoder(widths, attention)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, image: Tensor) -> Tensor:
        pooled = self.pool(self.encoder(image)[-1])
        result: Tensor = self.fc(torch.flatten(pooled, 1))
        return result
