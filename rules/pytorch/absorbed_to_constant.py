"""A number of a mode times 0 is 0, so it need not be read at all."""

import torch
from torch import Tensor, nn

SHAPE = (1, 8, 4, 4)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU404", "Mul"), ("NPU404", "Cast"))


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + (x.to(torch.int64) * 0).to(x.dtype)


class After(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0
