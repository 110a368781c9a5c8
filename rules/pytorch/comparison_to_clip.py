"""A mask as a number. `steep` is the steepness of the step; `fix` takes the one that is exact for every number."""

from torch import Tensor, nn

SHAPE = (1, 8, 4, 4)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU404", "Greater"), ("NPU101", "Greater"))


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (x > 0.5)


class After(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        steep = 2.0**24
        return x * ((x - 0.5) * steep).clamp(0, 1)
