"""A stride that the device has not: the convolution with a divisor of it, and every second of its results."""

from torch import Tensor, nn

SHAPE = (1, 3, 16, 24)
DEVICE = "ethos-u55-legacy"
FINDINGS = (("NPU203", "Conv"),)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)

    def forward(self, x: Tensor) -> Tensor:
        return self.patches(x)


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=2)
        self.patches.load_state_dict(old.patches.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        return self.patches(x)[:, :, ::2, ::2]
