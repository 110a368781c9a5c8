"""Softplus without a logarithm: relu(x) + e P(e) with e = exp(-|x|), and a polynomial P for log(1 + e) / e."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHAPE = (1, 8, 4, 4)
DEVICE = "ethos-u85"
FINDINGS = (("NPU101", "Softplus"),)


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x)


class After(nn.Module):
    p = (1.0, -0.49999904, 0.33330004, -0.24954559, 0.19678117, -0.15311863, 0.10614265, -0.0570642, 0.01990716, -0.00325638)

    def forward(self, x: Tensor) -> Tensor:
        e = torch.exp(-1.0 * torch.abs(x))
        series = e * self.p[-1]
        for c in self.p[-2:0:-1]:
            series = (series + c) * e
        return torch.relu(x) + e * (series + self.p[0])
