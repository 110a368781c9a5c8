"""Channels last: LayerNorm and Linear of `[B, H, W, C]` are a norm over axis 1 and a 1x1 convolution of `[B, C, H, W]`."""

import torch
from torch import Tensor, nn

SHAPE = (1, 4, 6, 16)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU102", "Transpose"), ("NPU103", "MatMul"))


def arranged(x: Tensor) -> Tensor:
    """The input of the network behind."""
    return x.permute(0, 3, 1, 2)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(16), nn.Linear(16, 32)
        self.conv = nn.Conv2d(32, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(self.norm(x))
        return self.conv(y.permute(0, 3, 1, 2))


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()
        self.scale, self.shift = (nn.Parameter(t.detach()[:, None, None]) for t in (old.norm.weight, old.norm.bias))
        self.fc, self.conv = nn.Conv2d(16, 32, 1), old.conv
        self.fc.load_state_dict({"weight": old.fc.weight[:, :, None, None], "bias": old.fc.bias})

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        x = x - x.mean(1, keepdim=True)
        x = x / torch.sqrt((x * x).mean(1, keepdim=True) + 1e-5)
        return self.conv(self.fc(x * self.scale + self.shift))
