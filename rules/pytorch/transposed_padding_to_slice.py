"""The padding of a transposed convolution only cuts its result."""

from torch import Tensor, nn

SHAPE = (1, 8, 4, 4)
DEVICE = "nvidia-dla"
FINDINGS = (("NPU205", "ConvTranspose"),)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(x)


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(8, 8, 4, stride=2)
        self.up.load_state_dict(old.up.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        return self.up(x)[:, :, 1:-1, 1:-1]
