"""Maps above each other, joined as channels between two transpositions."""

import torch
from torch import Tensor, nn

SHAPE = (1, 8, 6, 10)
DEVICE = "nvidia-dla"
FINDINGS = (("NPU702", "Concat"),)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(x)], 2)


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()
        self.conv = old.conv

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.transpose(1, 2), self.conv(x).transpose(1, 2)], 1).transpose(1, 2)
