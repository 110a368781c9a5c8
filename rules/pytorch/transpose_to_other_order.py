"""Channels last in another order of axes: rows and columns stay neighbours, so they move as one axis of positions."""

from torch import Tensor, nn

SHAPE = (1, 8, 4, 6)
DEVICE = "ethos-u55-legacy"
FINDINGS = (("NPU702", "Transpose"),)


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class After(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(1, 1, 8, 24).permute(0, 1, 3, 2).reshape(1, 4, 6, 8)
