"""Running sums over columns, as a product with a triangle of ones."""

import torch
from torch import Tensor, nn

SHAPE = (1, 8, 16, 12)
DEVICE = "ort-nnapi"
FINDINGS = (("NPU101", "CumSum"),)
DIFFERENCE = 1e-5


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(x, 3)


class After(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("triangle", torch.triu(torch.ones(12, 12)))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.triangle
