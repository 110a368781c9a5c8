"""Frames of a short clip as channels: a kernel along depth is a convolution over the frames that it reads."""

import torch
from torch import Tensor, nn

SHAPE = (1, 8, 2, 6, 6)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU402", "Conv"),)


def arranged(x: Tensor) -> Tensor:
    """The input of the network behind."""
    return x.transpose(1, 2).flatten(1, 2)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(8, 8, (2, 3, 3), padding=(0, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x))


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 8, 3, padding=1)
        weight = old.conv.weight.transpose(1, 2).flatten(1, 2)  # [O, I, T, 3, 3] to [O, T I, 3, 3]
        self.conv.load_state_dict({"weight": weight, "bias": old.conv.bias})

    def forward(self, x: Tensor) -> Tensor:  # [B, T C, H, W], frame by frame
        return torch.relu(self.conv(x))
