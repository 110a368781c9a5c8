"""Fixed offsets on average: a dilated convolution, to be trained or healed, as it is another function."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHAPE = (1, 8, 6, 6)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU101", "GridSample"),)
DIFFERENCE = None


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.offsets, self.conv = nn.Conv2d(8, 2, 3, padding=1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        at = F.affine_grid(torch.eye(2, 3).unsqueeze(0), list(x.shape), align_corners=False)
        moved = F.grid_sample(x, at + 0.1 * self.offsets(x).permute(0, 2, 3, 1), align_corners=False)
        return self.conv(moved)


class After(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)
