"""Attention without softmax by long convolutions, to be trained or healed: it is another function."""

import torch
from torch import Tensor, nn

SHAPE = (1, 16, 6, 8)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU103", "MatMul"),)
DIFFERENCE = None


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 8, 1), nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = torch.relu(self.q(x)).flatten(2), torch.relu(self.k(x)).flatten(2), self.v(x).flatten(2)
        return x + (v @ k.transpose(1, 2) @ q / 48).view(x.shape)


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()
        self.v = old.v
        self.rows = nn.Conv2d(16, 16, (17, 1), padding=(8, 0), groups=16, bias=False)
        self.columns = nn.Conv2d(16, 16, (1, 17), padding=(0, 8), groups=16, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        v = self.v(x)
        return x + self.rows(v) + self.columns(v) + v.mean((2, 3), keepdim=True)
