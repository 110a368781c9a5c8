"""The Linear behind a flatten is a convolution as large as the map."""

import torch
from torch import Tensor, nn

SHAPE = (1, 8, 4, 4)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU104", "Gemm"), ("NPU102", "Flatten"))


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8 * 4 * 4, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(x, 1))


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()
        self.fc = nn.Conv2d(8, 16, 4)
        self.fc.load_state_dict({"weight": old.fc.weight.unflatten(1, (8, 4, 4)), "bias": old.fc.bias})

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.fc(x), 1)  # the view at the output; return self.fc(x) where the reader takes [B, 16, 1, 1]
