"""A new last axis comes in front and is moved, where the device takes maps of some extents only."""

from torch import Tensor, nn

SHAPE = (1, 172, 36)
DEVICE = "rockchip-rk3588"
FINDINGS = (("NPU405", "Unsqueeze"),)


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu().unsqueeze(-1)


class After(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu().unsqueeze(1).permute(0, 2, 3, 1)
