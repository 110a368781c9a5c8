"""MobileNetV2: inverted residuals with linear bottlenecks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""(expansion, channels, repeats, stride of the first) per stage."""

TINY_STAGES = ((1, 8, 1, 1), (2, 16, 2, 2), (2, 24, 2, 2))


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution that keeps the extent but for the stride, and batch norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class InvertedResidual(nn.Module):
    """conv1x1 to the hidden width, depthwise 3x3, conv1x1 back; added to the input where shapes agree."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [conv_norm(inputs, hidden, 1), nn.ReLU6()]
        layers += [conv_norm(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6(), conv_norm(hidden, outputs, 1)]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """Image `[B, 3, H, W]` -> `[B, classes]`, by global mean, flatten and linear."""

    def __init__(
        self,
        stem: int = 32,
        stages: tuple[tuple[int, int, int, int], ...] = STAGES,
        last: int = 1280,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_norm(3, stem, 3, stride=2), nn.ReLU6()]
        inputs = stem
        for expansion, outputs, repeats, stride in stages:
            for index in range(repeats):
                layers.append(InvertedResidual(inputs, outputs, expansion, stride if index == 0 else 1))
                inputs = outputs
        self.features = nn.Sequential(*layers, conv_norm(inputs, last, 1), nn.ReLU6())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(last, classes)

    def forward(self, image: Tensor) -> Tensor:
        pooled = self.pool(self.features(image))
        result: Tensor = self.classifier(self.dropout(torch.flatten(pooled, 1)))
        return result
