"""Softmax over an axis that the device takes, between two transpositions."""

from torch import Tensor, nn

SHAPE = (1, 8, 4, 6)
DEVICE = "drobotics-bpu:X5"
FINDINGS = (("NPU702", "Softmax"),)
EXPORTER = "dynamo"


class Before(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(1)


class After(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 3).softmax(3).transpose(1, 3)
