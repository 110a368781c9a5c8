"""Attention on a small map, exact: a score map for each position, and softmax over channels."""

import torch
from torch import Tensor, nn

SHAPE = (1, 16, 2, 3)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU103", "MatMul"), ("NPU102", "Reshape"))


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 8, 1), nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x).flatten(2), self.k(x).flatten(2), self.v(x).flatten(2)
        weights = torch.softmax(q.transpose(1, 2) @ k * 8**-0.5, -1)
        return x + (v @ weights.transpose(1, 2)).view(x.shape)


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()
        self.q, self.k, self.v = old.q, old.k, old.v

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        at = [(slice(i, i + 1), slice(j, j + 1)) for i in range(x.shape[2]) for j in range(x.shape[3])]
        scores = torch.cat([(q * k[:, :, i, j]).sum(1, keepdim=True) for i, j in at], 1)
        weights = torch.softmax(scores * 8**-0.5, 1).split(1, 1)
        for weight, (i, j) in zip(weights, at, strict=True):
            x = x + weight * v[:, :, i, j]
        return x
