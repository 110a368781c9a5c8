"""An average whose padding counts, times what that is short of at the edges."""

import torch
from torch import Tensor, nn

SHAPE = (1, 8, 6, 6)
DEVICE = "rockchip-rk3588"
FINDINGS = (("NPU701", "AveragePool"),)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x)


class After(nn.Module):
    edges: Tensor

    def __init__(self, height: int = 6, width: int = 6) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(3, 1, 1)
        self.register_buffer("edges", 1 / self.pool(torch.ones(1, 1, height, width)))

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x) * self.edges
