"""Softplus without the comparison in PyTorch's own: log(1 + exp(x)) = max(x, 0) - log(sigmoid(|x|)). Not every device has Log."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHAPE = (1, 8, 4, 4)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU404", "Greater"), ("NPU101", "Softplus"))
EXPORTER = "dynamo"


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x)


class After(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) - torch.log(torch.sigmoid(torch.maximum(x, -1.0 * x)))
