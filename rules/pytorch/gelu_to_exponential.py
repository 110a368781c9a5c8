"""GELU to the last digit without Erf: ReLU minus a tail, exp(-x^2 / 2) times a polynomial in t = 1 / (1 + |x| / sqrt 8)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHAPE = (1, 8, 4, 4)
DEVICE = "qualcomm-htp"
FINDINGS = (("NPU101", "Erf"),)


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x)


class After(nn.Module):
    tail = (0.2820948, 0.28209378, 0.24688388, 0.17532408, 0.09341475, -0.05905091)
    tail += (0.13185004, -0.45456372, 0.49338574, -0.23460549, 0.04317307)

    def forward(self, x: Tensor) -> Tensor:
        size = torch.abs(x)
        t = 1 / (1 + size * 8**-0.5)
        q = t * self.tail[-1]
        for c in self.tail[-2:0:-1]:
            q = (q + c) * t
        return torch.relu(x) - size * 0.5 * t * (q + self.tail[0]) * torch.exp(-0.5 * (x * x))
