"""A kernel at a rate that the device lacks, as one 1x1 convolution for each of its taps."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHAPE = (1, 8, 40, 36)
DEVICE = "drobotics-bpu:X5"
FINDINGS = (("NPU202", "Conv"),)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=24, dilation=24)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()
        self.rate = 24
        self.taps = nn.ModuleList(nn.Conv2d(8, 8, 1, bias=tap == 4) for tap in range(9))
        with torch.no_grad():
            for tap, conv in enumerate(self.taps):
                conv.weight.copy_(old.conv.weight[:, :, tap // 3, tap % 3, None, None])
            self.taps[4].bias.copy_(old.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        result = self.taps[4](x)
        for tap in (0, 1, 2, 3, 5, 6, 7, 8):
            down, right = self.rate * (tap // 3 - 1), self.rate * (tap % 3 - 1)
            result = result + F.pad(self.taps[tap](x), (-right, right, -down, down))
        return result
