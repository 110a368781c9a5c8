"""Each run of 16 samples becomes 16 channels; of 64 taps with stride 16 there remain 4 with stride 1."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHAPE = (1, 1, 1, 320)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU201", "Conv"),)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transform = nn.Conv2d(1, 16, (1, 64), stride=(1, 16), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.transform(x)


class After(nn.Module):
    fold: Tensor

    def __init__(self, old: Before) -> None:
        super().__init__()
        self.register_buffer("fold", torch.eye(16).reshape(16, 1, 1, 16))
        self.transform = nn.Conv2d(16, 16, (1, 4), bias=False)
        self.transform.load_state_dict({"weight": old.transform.weight.reshape(16, 4, 16).transpose(1, 2).reshape(16, 16, 1, 4)})

    def forward(self, x: Tensor) -> Tensor:
        return self.transform(F.conv2d(x, self.fold, stride=(1, 16)))
