"""ECA as squeeze-and-excitation: the convolution along channels is a band in a matrix, and that is a 1x1 convolution."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHAPE = (1, 16, 4, 4)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU102", "Unsqueeze"), ("NPU102", "Transpose"), ("NPU105", "Conv"))


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 5, padding=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.conv(x.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(-1)
        return x * torch.sigmoid(gate)


class After(nn.Module):
    def __init__(self, old: Before, channels: int = 16) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1, bias=False)
        band = F.conv1d(torch.eye(channels).unsqueeze(1), old.conv.weight, padding=2)  # row i: what channel i is read by
        self.mix.load_state_dict({"weight": band.squeeze(1).T[:, :, None, None]})

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.mix(x.mean((2, 3), keepdim=True)))
