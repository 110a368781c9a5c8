"""A depth network as it is written without a device in mind: ECA, a 19-tap block, self-attention, CBAM.

`npu-guard check depthnet:build` in this folder says what of it does not fit.
"""

from __future__ import annotations

import torch
from scenes import HEIGHT, WIDTH
from torch import Tensor, nn
from torch.nn import functional


class ECA(nn.Module):
    """Efficient channel attention: a convolution along the channels."""

    def __init__(self, taps: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, taps, padding=taps // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.conv(x.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(-1)
        return x * torch.sigmoid(gate)


class WideBlock(nn.Module):
    """Depthwise 19 x 19 and 1x1 in a residual, as ConvNeXt has them with 7."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(channels, channels, 19, padding=9, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.mix(self.norm(self.wide(x))))


class SelfAttention(nn.Module):
    """Attention between all positions, in a residual that starts at nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels, channels // 4, 1)
        self.value, self.out = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        query, key = self.query(x).flatten(2).transpose(1, 2), self.key(x).flatten(2)
        weights = torch.softmax(query @ key * (c // 4) ** -0.5, -1)
        taken = weights @ self.value(x).flatten(2).transpose(1, 2)
        return x + self.out(taken.transpose(1, 2).reshape(b, c, h, w))


class CBAM(nn.Module):
    """A gate for channels, then one for positions."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, channels // reduction, 1), nn.Conv2d(channels // reduction, channels, 1)
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = functional.adaptive_avg_pool2d(x, 1), functional.adaptive_max_pool2d(x, 1)
        mean, peak = (self.fc2(torch.relu(self.fc1(p))) for p in pooled)
        x = x * torch.sigmoid(mean + peak)
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.spatial(both))


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution with norm and ReLU."""
    made = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(made, nn.BatchNorm2d(outputs), nn.ReLU())


class DepthNet(nn.Module):
    """Image `[B, 3, 48, 64]` -> depth `[B, 1, 48, 64]` in metres."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.context = convolution(3, 16, 3, 2), WideBlock(16)
        self.down1, self.eca, self.down2 = convolution(16, 32, 3, 2), ECA(), convolution(32, 64, 3, 2)
        self.attention = SelfAttention(64)
        self.expand, self.cbam, self.squeeze = convolution(64, 320, 1), CBAM(320), convolution(320, 64, 1)
        self.up2, self.up1 = convolution(64 + 32, 32), convolution(32 + 16, 16)
        self.head = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        half = self.context(self.stem(image))
        quarter = self.eca(self.down1(half))
        x = self.attention(self.down2(quarter))
        x = self.squeeze(self.cbam(self.expand(x)))
        x = self.up2(torch.cat([functional.interpolate(x, scale_factor=2.0), quarter], 1))
        x = self.up1(torch.cat([functional.interpolate(x, scale_factor=2.0), half], 1))
        return 12.5 * torch.sigmoid(functional.interpolate(self.head(x), scale_factor=2.0, mode="bilinear"))


def build() -> nn.Module:
    """The network with fresh weights, in eval mode."""
    torch.manual_seed(0)
    return DepthNet().eval()


def inputs() -> dict[str, Tensor]:
    """An image's shape."""
    return {"image": torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))}
