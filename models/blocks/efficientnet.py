"""EfficientNet: inverted residuals with squeeze-and-excitation and SiLU (Tan and Le, ICML 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from npu_guard.models.blocks.mobilenet import conv_norm

STAGES = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
"""(expansion, kernel, channels, repeats, stride of the first) per stage of B0."""


class Squeeze(nn.Module):
    """Squeeze and excitation with biases; its bottleneck is a quarter of the *block's* input, not of what it scales."""

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, reduced, 1)
        self.act = nn.SiLU()
        self.expand = nn.Conv2d(reduced, channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x * self.gate(self.expand(self.act(self.reduce(self.pool(x)))))
        return result


class MBConv(nn.Module):
    """conv1x1 to the hidden width, depthwise k x k, squeeze and excitation, conv1x1 back; residual where shapes agree."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        widen = [conv_norm(inputs, hidden, 1), nn.SiLU()] if expansion != 1 else []
        self.body = nn.Sequential(*widen, conv_norm(hidden, hidden, kernel, stride, groups=hidden), nn.SiLU())
        self.squeeze = Squeeze(hidden, inputs // 4)
        self.project = conv_norm(hidden, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.squeeze(self.body(x)))
        return x + y if self.residual else y


class EfficientNet(nn.Module):
    """Image `[B, 3, H, W]` -> `[B, classes]`, by global mean, flatten and linear."""

    def __init__(
        self, stem: int = 32, stages: tuple[tuple[int, ...], ...] = STAGES, last: int = 1280, classes: int = 1000
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_norm(3, stem, 3, stride=2), nn.SiLU())
        blocks: list[nn.Module] = []
        inputs = stem
        for expansion, kernel, outputs, repeats, stride in stages:
            for index in range(repeats):
                blocks.append(MBConv(inputs, outputs, expansion, kernel, stride if index == 0 else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(conv_norm(inputs, last, 1), nn.SiLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(last, classes)

    def forward(self, image: Tensor) -> Tensor:
        features = self.pool(self.last(self.blocks(self.stem(image))))
        result: Tensor = self.classifier(self.dropout(torch.flatten(features, 1)))
        return result
