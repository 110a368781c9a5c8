"""What is plain arithmetic, written as such."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHAPE = (1, 8, 4, 4)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU101", "Abs"), ("NPU101", "Pow"))


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.abs() + x**2 - F.softsign(x)


class After(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        size = torch.maximum(x, -1.0 * x)
        return size + x * x - x / (1.0 + size)
