"""Even and odd taps of a kernel that is too long, each a kernel with dilation 2; the longer one has fewer columns of padding."""

from torch import Tensor, nn

SHAPE = (1, 8, 20, 20)
DEVICE = "aimotive-aiware"
FINDINGS = (("NPU201", "Conv"),)


class Before(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(8, 8, (1, 19), padding=(0, 9), groups=8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wide(x)


class After(nn.Module):
    def __init__(self, old: Before) -> None:
        super().__init__()
        self.even = nn.Conv2d(8, 8, (1, 10), padding=(0, 9), dilation=2, groups=8, bias=False)
        self.odd = nn.Conv2d(8, 8, (1, 9), padding=(0, 8), dilation=2, groups=8, bias=False)
        self.even.load_state_dict({"weight": old.wide.weight[..., 0::2]})
        self.odd.load_state_dict({"weight": old.wide.weight[..., 1::2]})

    def forward(self, x: Tensor) -> Tensor:
        return self.even(x) + self.odd(x)
