"""Padding further than the device can, as an operator in front of the convolution."""

import torch.nn.functional as F
from torch import Tensor, nn

SHAPE = (1, 8, 24, 24)
DEVICE = "rockchip-rk3588"
EXPORTER = "dynamo"
FINDINGS = (("NPU205", "Conv"),)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=16)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3)
        self.conv.load_state_dict(old.conv.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        # Not 0: torch's exporter would put zeros into the convolution again.
        return self.conv(F.pad(x, (16, 16, 16, 16), value=1e-30))
