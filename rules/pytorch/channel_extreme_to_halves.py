"""A maximum over channels, half against half."""

import torch
from torch import Tensor, nn

SHAPE = (1, 8, 4, 4)
DEVICE = "ort-nnapi"
FINDINGS = (("NPU101", "ReduceMax"),)


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.amax(1, keepdim=True)


class After(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        while x.shape[1] > 1:  # a power of two; else keep the odd channel for later
            x = torch.maximum(*x.chunk(2, 1))
        return x
