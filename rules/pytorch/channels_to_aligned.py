"""Filters up to the next multiple; the reader takes as many. In new code, write 24 at once."""

import torch
from torch import Tensor, nn

SHAPE = (1, 8, 4, 4)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU401", "Conv"),)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(8, 20, 1), nn.Conv2d(20, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.expand(torch.relu(self.reduce(x)))


class After(Before):
    def __init__(self, old: Before) -> None:
        nn.Module.__init__(self)
        self.reduce, self.expand = nn.Conv2d(8, 24, 1), nn.Conv2d(24, 8, 1)
        with torch.no_grad():
            self.reduce.weight[:20], self.reduce.bias[:20] = old.reduce.weight, old.reduce.bias
            self.expand.weight[:, :20], self.expand.weight[:, 20:] = old.expand.weight, 0.0
            self.expand.bias.copy_(old.expand.bias)
