"""An activation that a device has no kernel for, by the operators that define it."""

import torch
from torch import Tensor, nn

SHAPE = (1, 8, 16, 12)
DEVICE = "ort-nnapi"
FINDINGS = (("NPU101", "Selu"),)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.act = nn.SELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()
        self.conv = old.conv

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        below = 1.6732632423543772 * (torch.exp(torch.clamp(y, max=0.0)) - 1)
        return 1.0507009873554805 * (torch.relu(y) + below)
