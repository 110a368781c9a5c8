"""An axis of extent 1 goes by a reshape where the device has no Squeeze."""

from torch import Tensor, nn

SHAPE = (1, 8, 1, 6)
DEVICE = "kneron:KL720"
FINDINGS = (("NPU101", "Squeeze"),)


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.squeeze(2)


class After(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(1, 8, 6)
