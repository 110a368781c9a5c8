"""Bounds by ReLU: clip(x, l, h) = h - relu((h - l) - relu(x - l))."""

import torch
from torch import Tensor, nn

SHAPE = (1, 8, 4, 6)
DEVICE = "ort-nnapi"
FINDINGS = (("NPU701", "Clip"),)


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(-0.5, 1.5)


class After(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 1.5 - torch.relu(2.0 - torch.relu(x + 0.5))
