"""Three times the size: the nine phases of a transposed convolution are channels of a plain one, which PixelShuffle lays out."""

from torch import Tensor, nn

SHAPE = (1, 8, 4, 6)
DEVICE = "ti-tidl:AM68A"
FINDINGS = (("NPU201", "ConvTranspose"),)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(8, 4, 3, stride=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(x)


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()
        self.up, self.lay_out = nn.Conv2d(8, 36, 1), nn.PixelShuffle(3)
        weight = old.up.weight.permute(1, 2, 3, 0).reshape(36, 8, 1, 1)  # phase (i, j) of channel c is 9 c + 3 i + j
        self.up.load_state_dict({"weight": weight, "bias": old.up.bias.repeat_interleave(9)})

    def forward(self, x: Tensor) -> Tensor:
        return self.lay_out(self.up(x))
