"""Small networks with blocks that do not fit, as users write them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ECA(nn.Module):
    """Efficient channel attention: a convolution along the channels."""

    def __init__(self, taps: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, taps, padding=taps // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        w = self.conv(x.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(-1)
        return x * torch.sigmoid(w)


class Attention(nn.Module):
    """Self-attention between all positions, scaled by a parameter of one element."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.q = nn.Conv2d(channels, channels // 4, 1)
        self.k = nn.Conv2d(channels, channels // 4, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.full((1,), 0.7))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.q(x).flatten(2).transpose(1, 2), self.k(x).flatten(2), self.v(x).flatten(2)
        a = torch.softmax(q @ k / (c // 4) ** 0.5, -1)
        return x + self.gamma * (v @ a.transpose(1, 2)).view(b, c, h, w)


class TokenBlock(nn.Module):
    """19 taps, LayerNorm and linear layers on tokens, with dropout."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 19, padding=9, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, 2 * channels)
        self.drop = nn.Dropout(0.1)
        self.fc2 = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(x).permute(0, 2, 3, 1)
        y = self.fc2(self.drop(functional.gelu(self.fc1(self.norm(y)))))
        return x + y.permute(0, 3, 1, 2)


class Net(nn.Module):
    """All of them, with norms behind convolutions and a flattened head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.eca = ECA()
        self.attention = Attention(16)
        self.tokens = TokenBlock(16)
        self.wide = nn.Conv2d(16, 16, 19, padding=9, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.down = nn.Conv2d(16, 20, 3, 2, 1)
        self.fc = nn.Linear(20 * 2 * 2, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.tokens(self.attention(self.eca(self.stem(image))))
        x = self.down(functional.relu(self.bn(self.wide(x))))
        return self.fc(torch.flatten(x, 1))


class Pair(nn.Module):
    """Takes a list of maps and a dict, and gives a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(8, 8, 19, padding=9, groups=8)

    def forward(self, maps: list[Tensor], more: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sum": functional.hardswish(self.wide(maps[0])) + maps[1], "more": more["z"] * torch.sigmoid(maps[1])}


class Holder(nn.Module):
    """Calls a module that takes a list and a dict, and one that stands at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()
        self.first = nn.Sequential(nn.Conv2d(8, 8, 13, padding=6, groups=8))
        self.again = self.first

    def forward(self, x: Tensor) -> Tensor:
        y = self.pair([x, x + 1.0], {"z": x * 2.0})
        return self.again(self.first(y["sum"])) + y["more"]


class Volume(nn.Module):
    """Over volumes, with a norm that the exporter folds and one that it leaves, as the operator before it is no convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv3d(2, 8, 3, padding=1, bias=False), nn.BatchNorm3d(8)
        self.before, self.last = nn.BatchNorm3d(8), nn.Conv3d(8, 8, 3, stride=2, padding=1)

    def forward(self, clip: Tensor) -> Tensor:
        return self.last(torch.relu(self.before(torch.relu(self.norm(self.conv(clip))))))


def build(kind: type[nn.Module] = Net, seed: int = 0) -> nn.Module:
    """A network whose norms have statistics, as after training."""
    torch.manual_seed(seed)
    network = kind()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.normal_(module.bias)
    return network.eval()


def inputs(kind: type[nn.Module] = Net) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    if kind is Holder:
        return {"x": torch.randn(1, 8, 12, 10, generator=generator)}
    if kind is Volume:
        return {"clip": torch.randn(1, 2, 4, 6, 6, generator=generator)}
    return {"image": torch.randn(1, 3, 8, 8, generator=generator)}
