"""A pool of norms is a mean of squares, and its root: torch exports it with Sign and Abs, which the device leaves to the host."""

from torch import Tensor, nn
from torch.nn import functional as F

SHAPE = (1, 4, 9, 12)
DEVICE = "kneron:KL720"
FINDINGS = (("NPU101", "Sign"),)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.LPPool2d(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x)


class After(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (9 * F.avg_pool2d(x * x, 3)).sqrt()
