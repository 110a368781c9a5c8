"""Classification of a region of a volume: a 3-D backbone, a mask resized to its features, and five ways to use it.

Heads take features x `[B, C, D, H, W]` and the resized mask m `[B, 1, D, H, W]`, and give `[B, C]`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from npu_guard.models.blocks.resnet3d import TINY_WIDTHS, WIDTHS, ResNet3d

SPACE = (2, 3, 4)


class MaskGuided(nn.Module):
    """Volume and mask, both `[B, 1, D, H, W]` -> `[B, classes]`: backbone, trilinear mask, head, linear."""

    def __init__(self, head: nn.Module, widths: tuple[int, ...], classes: int = 8) -> None:
        super().__init__()
        self.backbone = ResNet3d(widths)
        self.head = head
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        x = self.backbone(image)
        m = functional.interpolate(mask, size=x.shape[2:], mode="trilinear", align_corners=False)
        result: Tensor = self.fc(self.head(x, m))
        return result


def network(head: nn.Module, size: str) -> MaskGuided:
    """The classifier with a head, at a size of the zoo."""
    return MaskGuided(head, TINY_WIDTHS if size == "tiny" else WIDTHS)


def example(size: str, seed: int) -> dict[str, Tensor]:
    """A normalised volume, and a soft ellipsoid off its centre as mask: about 1 inside, 0 outside."""
    # Resized by the same scales at either size: a depth of 16 by 1/16, as the backbone rounds up, the rest by 1/32.
    shape = (16, 64, 96) if size == "tiny" else (16, 64, 64)
    axes = [torch.linspace(-1.0, 1.0, extent) for extent in shape]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    distance = ((z - 0.1) / 0.9) ** 2 + ((y + 0.3) / 0.6) ** 2 + ((x + 0.2) / 0.7) ** 2
    mask = torch.sigmoid(4.0 * (1.0 - distance))
    noise = torch.randn((1, 1, *shape), generator=torch.Generator().manual_seed(seed))
    return {"image": noise, "mask": mask.reshape(1, 1, *shape)}


class FeatureMasking(nn.Module):
    """Average pool of x m."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool3d(1)

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        return torch.flatten(self.pool(x * m), 1)


class WeightedGap(nn.Module):
    """sum(x m) / (sum(m) + 1e-6)."""

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        return (x * m).sum(SPACE) / (m.sum(SPACE) + 1e-6)


class SoftAttention(nn.Module):
    """Average pool of x sigmoid(10 m)."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool3d(1)

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        return torch.flatten(self.pool(x * torch.sigmoid(10 * m)), 1)


class RoiPooling(nn.Module):
    """b = (m > 0.5); sum(x b) / (sum(b) + 1e-6)."""

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        b = (m > 0.5).to(x.dtype)
        return (x * b).sum(SPACE) / (b.sum(SPACE) + 1e-6)


class ChannelWeighting(nn.Module):
    """w = sigmoid(mean(x m)); average pool of x w m."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool3d(1)

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        w = torch.sigmoid((x * m).mean(SPACE, keepdim=True))
        return torch.flatten(self.pool(x * w * m), 1)
