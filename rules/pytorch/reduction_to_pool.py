"""A maximum over space is a pool whose window is the map."""

import torch.nn.functional as F
from torch import Tensor, nn

SHAPE = (1, 8, 4, 6)
DEVICE = "amd-dpu:DPUCZDX8G"
FINDINGS = (("NPU301", "ReduceMax"),)


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.amax((2, 3), keepdim=True)


class After(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, (4, 6))
