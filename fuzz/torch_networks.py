"""Random networks in PyTorch by a seed: layers as users write them, in modules, lists and forwards of their own.

Widths are odd for devices, maps have odd sides, some modules are called twice, and results are tensors, tuples or dicts.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (6, 8, 10, 12, 16, 20)
SIDES = (6, 7, 8, 9, 12)
ACTIVATIONS = (nn.ReLU, nn.SiLU, nn.Hardswish, nn.GELU, nn.Sigmoid, nn.LeakyReLU)


class Residual(nn.Module):
    """A branch beside the map, where the extents agree."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class ECA(nn.Module):
    def __init__(self, taps: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, taps, padding=taps // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv(x.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(-1))


class SE(nn.Module):
    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.pool, self.gate = nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.Linear(channels, reduced), nn.ReLU())
        self.back = nn.Linear(reduced, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.back(self.gate(self.pool(x).flatten(1))))[:, :, None, None]


class Attention(nn.Module):
    """Between positions, with heads in one matrix product."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.qkv, self.out, self.heads = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels), heads

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(x.flatten(2).transpose(1, 2)).reshape(b, h * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        a = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1) @ v
        return self.out(a.transpose(1, 2).reshape(b, h * w, c)).transpose(1, 2).reshape(b, c, h, w)


class Tokens(nn.Module):
    """LayerNorm and linear layers with channels last, dropout in between."""

    def __init__(self, channels: int, functional_dropout: bool) -> None:
        super().__init__()
        self.norm, self.fc1, self.fc2 = (
            nn.LayerNorm(channels),
            nn.Linear(channels, 2 * channels),
            nn.Linear(2 * channels, channels),
        )
        self.drop = nn.Dropout(0.1)
        self.functional_dropout = functional_dropout

    def forward(self, x: Tensor) -> Tensor:
        y = functional.gelu(self.fc1(self.norm(x.permute(0, 2, 3, 1))))
        y = functional.dropout(y, 0.2, self.training) if self.functional_dropout else self.drop(y)
        return self.fc2(y).permute(0, 3, 1, 2)


class Spatial(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))


class Ghost(nn.Module):
    """Two maps of half the width behind each other, cut where the width is odd, and a norm over both."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = -(-outputs // 2)
        self.one = nn.Sequential(nn.Conv2d(inputs, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU())
        self.cheap = nn.Sequential(nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False), nn.BatchNorm2d(half), nn.ReLU())
        self.mix, self.norm, self.outputs = nn.Conv2d(outputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x)
        y = torch.cat([y, self.cheap(y)], 1)[:, : self.outputs]
        return self.norm(self.mix(y))


class Shuffle(nn.Module):
    """Channels of groups among each other, by two views."""

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.reshape(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


class Split(nn.Module):
    """Halves on ways of their own, joined again."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sizes = [channels // 3, channels - channels // 3]
        self.ways = nn.ModuleList(nn.Conv2d(n, n, (1, 3), padding=(0, 1)) for n in self.sizes)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([way(part) for way, part in zip(self.ways, x.split(self.sizes, 1), strict=True)], 1)


class Several(nn.Module):
    """A list and a dict as arguments, a dict as result."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(channels, channels, 13, padding=6, groups=channels)

    def forward(self, maps: list[Tensor], more: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sum": self.wide(maps[0]) + maps[1], "gate": torch.sigmoid(more["z"])}


class Giver(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.several = Several(channels)

    def forward(self, x: Tensor) -> Tensor:
        found = self.several([x, x * 0.5], {"z": x})
        return found["sum"] * found["gate"]


Made = tuple[nn.Module, int]


class Random(nn.Module):
    """A stem, some layers, an end; `forward` has operators of its own between them."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        dice = random.Random(seed)
        torch.manual_seed(seed)
        width = dice.choice(WIDTHS)
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, dice.choice((1, 2)), 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        layers: list[nn.Module] = []
        for _ in range(dice.randint(2, 4)):
            made, wide = dice.choice(LAYERS)(dice, width)
            layers.append(Residual(made) if wide == width and dice.random() < 0.4 else made)
            width = wide
        self.layers = nn.Sequential(*layers) if dice.random() < 0.5 else nn.ModuleList(layers)
        self.twice = nn.Conv2d(width, width, 3, padding=1) if dice.random() < 0.25 else None
        self.between = dice.choice(("", "mean", "swish", "shuffle", "dropout"))
        self.end, self.gives = dice.choice(("linear", "map", "up", "tokens")), dice.choice(("one", "pair", "dict"))
        self.head = nn.Linear(width, 10) if self.end in ("linear", "tokens") else nn.Conv2d(width, dice.choice((1, 5, 8)), 1)

    def forward(self, image: Tensor) -> Any:
        x = self.stem(image)
        for layer in self.layers:
            x = layer(x)
        if self.twice is not None:
            x = self.twice(torch.relu(self.twice(x)))
        if self.between == "mean":
            x = x - x.mean((2, 3), keepdim=True)
        elif self.between == "swish":
            x = x * torch.sigmoid(1.702 * x)
        elif self.between == "shuffle":
            b, c, h, w = x.shape
            x = x.reshape(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        elif self.between == "dropout":
            x = functional.dropout(x, 0.3, self.training)
        return self._given(x, self._ended(x))

    def _ended(self, x: Tensor) -> Tensor:
        if self.end == "linear":
            return self.head(x.mean((2, 3)))
        if self.end == "tokens":
            return self.head(x.flatten(2).transpose(1, 2))
        y = self.head(x)
        return functional.interpolate(y, scale_factor=2.0, mode="bilinear") if self.end == "up" else y

    def _given(self, x: Tensor, y: Tensor) -> Any:
        return {"one": y, "pair": (y, x), "dict": {"logits": y, "map": x}}[self.gives]


def _convolution(dice: random.Random, width: int) -> Made:
    wide = dice.choice(WIDTHS)
    kernel = dice.choice((1, 3, 5, (1, 5), (3, 1)))
    padding = tuple(k // 2 for k in kernel) if isinstance(kernel, tuple) else kernel // 2
    made = nn.Conv2d(width, wide, kernel, padding=padding, bias=dice.random() < 0.5)
    return nn.Sequential(made, nn.BatchNorm2d(wide), dice.choice(ACTIVATIONS)()), wide


def _wide(dice: random.Random, width: int) -> Made:
    kernel, groups = dice.choice((11, 13, 19)), dice.choice((width, width, 1))
    made = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(made, nn.BatchNorm2d(width)), width


def _transposed(dice: random.Random, width: int) -> Made:
    wide = dice.choice(WIDTHS)
    return nn.Sequential(nn.ConvTranspose2d(width, wide, 2, 2, bias=False), nn.BatchNorm2d(wide), nn.AvgPool2d(2)), wide


def _pixels(dice: random.Random, width: int) -> Made:
    return nn.Sequential(nn.Conv2d(width, 4 * width, 1), nn.PixelShuffle(2), nn.MaxPool2d(2)), width


def _normed(dice: random.Random, width: int) -> Made:
    kind = dice.choice(
        (lambda: nn.GroupNorm(2, width), lambda: nn.InstanceNorm2d(width, affine=True), lambda: nn.BatchNorm2d(width))
    )
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1, groups=2), kind(), nn.PReLU(width)), width


def _ghost(dice: random.Random, width: int) -> Made:
    wide = dice.choice(WIDTHS)
    return Ghost(width, wide), wide


LAYERS: tuple[Callable[[random.Random, int], Made], ...] = (
    _convolution, _convolution, _wide, _transposed, _pixels, _normed, _ghost,
    lambda dice, width: (ECA(dice.choice((3, 5))), width),
    lambda dice, width: (SE(width, dice.choice((2, 4, 8))), width),
    lambda dice, width: (Attention(width, dice.choice((1, 2))), width),
    lambda dice, width: (Tokens(width, dice.random() < 0.5), width),
    lambda dice, width: (Spatial(), width),
    lambda dice, width: (Shuffle(), width),
    lambda dice, width: (Split(width), width),
    lambda dice, width: (Giver(width), width),
)  # fmt: skip


def network(seed: int, weights: int = 0) -> nn.Module:
    """The network of a seed, its norms as after training; `weights` draws others."""
    made = Random(seed)
    generator = torch.Generator().manual_seed(1000 * weights + seed)
    with torch.no_grad():
        for parameter in made.parameters():
            if weights:
                spread = float(parameter.std()) if parameter.numel() > 1 else 1.0
                parameter.add_(0.3 * spread * torch.randn(parameter.shape, generator=generator))
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(std=0.1, generator=generator)
    return made.eval()


def inputs(seed: int) -> dict[str, Tensor]:
    """An image for it."""
    dice = random.Random(seed + 7)
    return {"image": torch.randn(1, 3, dice.choice(SIDES), dice.choice(SIDES), generator=torch.Generator().manual_seed(seed))}
