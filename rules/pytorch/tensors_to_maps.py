"""Merged patches: the axes of 2 x 2 blocks, moved behind the channels for a Linear, are a 2x2 convolution with stride 2."""

from torch import Tensor, nn

SHAPE = (1, 8, 4, 6)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU102", "Reshape"), ("NPU102", "Transpose"), ("NPU103", "MatMul"))
OPERATORS = ("Add", "MatMul", "Reshape", "Transpose")


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.merge = nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        blocks = x.reshape(1, 8, 2, 2, 3, 2).permute(0, 2, 4, 3, 5, 1)
        return self.merge(blocks.reshape(1, 2, 3, 32)).permute(0, 3, 1, 2)


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()
        self.merge = nn.Conv2d(8, 16, 2, stride=2)
        weight = old.merge.weight.reshape(16, 2, 2, 8).permute(0, 3, 1, 2)
        self.merge.load_state_dict({"weight": weight, "bias": old.merge.bias})

    def forward(self, x: Tensor) -> Tensor:
        return self.merge(x)
