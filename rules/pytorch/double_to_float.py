"""What comes from float32 is no finer in float64, which the device does not have."""

from torch import Tensor, nn

SHAPE = (1, 4, 9)
DEVICE = "qualcomm-htp"
FINDINGS = (("NPU404", "Cast"), ("NPU404", "Softmax"))


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.double().softmax(-1).float()


class After(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(-1)
