"""Four times as large by twice two times."""

import torch.nn.functional as F
from torch import Tensor, nn

SHAPE = (1, 8, 4, 4)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU501", "Resize"),)
SAYS = "nearest x4"


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=4.0)


class After(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(F.interpolate(x, scale_factor=2.0), scale_factor=2.0)
