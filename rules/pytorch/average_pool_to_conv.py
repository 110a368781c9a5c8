"""A mean over long windows, as a depthwise convolution whose weights are all equal."""

import torch
from torch import Tensor, nn

SHAPE = (1, 8, 24, 24)
DEVICE = "nvidia-dla"
FINDINGS = (("NPU204", "AveragePool"),)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x)


class After(nn.Module):
    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.mean = nn.Conv2d(channels, channels, 9, stride=3, groups=channels, bias=False)
        self.mean.weight = nn.Parameter(torch.full((channels, 1, 9, 9), 1 / 81), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.mean(x)
