"""A pool over 13 x 13 elements, as in spatial pyramid pooling, as three of 5 x 5 behind each other."""

from torch import Tensor, nn

SHAPE = (1, 8, 20, 20)
DEVICE = "nvidia-dla"
FINDINGS = (("NPU204", "MaxPool"),)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(13, stride=1, padding=6)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x)


class After(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.pool(self.pool(x)))
