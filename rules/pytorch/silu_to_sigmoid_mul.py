"""Mish without softplus, where n = sigmoid(-x)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHAPE = (1, 8, 4, 4)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU101", "Softplus"),)
OPERATORS = ("Mul", "Softplus", "Tanh")


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.mish(x)


class After(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        n = torch.sigmoid(-1.0 * x)
        return x * torch.sigmoid(x) * (1.0 + n) / (1.0 + n * n)
