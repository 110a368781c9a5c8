"""A part of a tensor that is written in place, as Concat of what stays and what is new."""

import torch
from torch import Tensor, nn

SHAPE = (1, 8, 16, 12)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU101", "ScatterND"),)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y[:, :, 4:, 4:] = x[:, :, 4:, 4:]
        return y


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()
        self.conv = old.conv

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        below = torch.cat((y[:, :, 4:, :4], x[:, :, 4:, 4:]), 3)
        return torch.cat((y[:, :, :4], below), 2)
