"""A root is the power of one half."""

import torch
from torch import Tensor, nn

SHAPE = (1, 8, 4, 4)
DEVICE = "ethos-u85"
FINDINGS = (("NPU101", "Sqrt"),)


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sqrt(x * x + 0.1)


class After(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(0.5 * torch.log(x * x + 0.1))
