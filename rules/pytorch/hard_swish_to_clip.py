"""Hardswish is a clip by definition."""

import torch.nn.functional as F
from torch import Tensor, nn

SHAPE = (1, 8, 4, 4)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU101", "HardSwish"),)


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.hardswish(x)


class After(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (x / 6 + 0.5).clamp(0, 1)
