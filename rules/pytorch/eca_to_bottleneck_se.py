"""ECA as SE with a bottleneck, to be trained or healed: it is another function. `npu_guard.torch.blocks.SE` has it."""

import torch
from torch import Tensor, nn

SHAPE = (1, 64, 4, 4)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU102", "Unsqueeze"), ("NPU102", "Transpose"), ("NPU105", "Conv"))
DIFFERENCE = None


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 5, padding=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.conv(x.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(-1)
        return x * torch.sigmoid(gate)


class After(nn.Module):
    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        reduced = max(8, channels // 16)
        self.reduce, self.expand = nn.Conv2d(channels, reduced, 1), nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.expand(torch.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(gate)
