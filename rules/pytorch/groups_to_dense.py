"""A dense convolution with zeros between the groups."""

import torch
from torch import Tensor, nn

SHAPE = (1, 8, 4, 4)
DEVICE = "amd-dpu:DPUCZDX8G"
FINDINGS = (("NPU206", "Conv"),)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 3, padding=1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 3, padding=1)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.bias.copy_(old.conv.bias)
            self.conv.weight[:8, :4], self.conv.weight[8:, 4:] = old.conv.weight.chunk(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)
