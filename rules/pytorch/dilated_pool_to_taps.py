"""A pool whose taps lie apart, as the largest of shifted maps; padding is never the largest."""

import torch
from torch import Tensor, nn

SHAPE = (1, 8, 20, 24)
DEVICE = "ort-nnapi"
FINDINGS = (("NPU204", "MaxPool"),)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(3, stride=1, padding=1, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x)


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        for axis in (2, 3):
            size = x.shape[axis]

            first = torch.maximum(x.narrow(axis, 1, 1), x.narrow(axis, 3, 1))
            last = torch.maximum(x.narrow(axis, size - 4, 1), x.narrow(axis, size - 2, 1))
            inner = torch.maximum(x.narrow(axis, 0, size - 4), x.narrow(axis, 2, size - 4))
            inner = torch.maximum(inner, x.narrow(axis, 4, size - 4))
            x = torch.cat((first, inner, last), axis)
        return x
