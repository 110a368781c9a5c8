"""A network over sequences is one over maps that are one row high."""

import torch
from torch import Tensor, nn

SHAPE = (1, 8, 12)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU105", "Conv"),)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(8, 16, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x))


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 16, (1, 5), padding=(0, 2))
        self.conv.load_state_dict({"weight": old.conv.weight.unsqueeze(2), "bias": old.conv.bias})

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x.unsqueeze(2))).squeeze(2)  # better: [B, 8, 1, L] all along
