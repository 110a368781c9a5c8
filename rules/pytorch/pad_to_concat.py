"""Padding of ones, joined to the map as a stored row."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHAPE = (1, 8, 6, 10)
DEVICE = "qualcomm-htp"
FINDINGS = (("NPU701", "Pad"),)


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 1, 0), value=1.0)


class After(nn.Module):
    row: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("row", torch.ones(1, 8, 1, 10))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.row, x], 2)
