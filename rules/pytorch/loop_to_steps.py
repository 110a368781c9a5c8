"""A scripted loop over a known number of turns, as the turns one behind the other."""

import warnings

import torch
from torch import Tensor, nn

SHAPE = (1, 8, 16, 12)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU101", "Loop"),)


def _turns(x: Tensor, count: int) -> Tensor:
    for _ in range(count):
        x = torch.relu(x) * 0.5 + x
    return x


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # networks that are scripted are still there
    turns = torch.jit.script(_turns)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return turns(self.conv(x), 3)


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()
        self.conv = old.conv

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        for _ in range(3):  # an ordinary loop is written out when it is exported
            x = torch.relu(x) * 0.5 + x
        return x
