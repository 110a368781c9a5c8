"""Boxes `[N, 4]`: x and y of the upper left corner, then of the lower right one, as parts of the image from 0 to 1.

x comes first because RoiAlign wants it so; NonMaxSuppression does not mind.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def corners(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Upper left and lower right corner, `[N, 2]` each."""
    return torch.narrow(boxes, 1, 0, 2), torch.narrow(boxes, 1, 2, 2)


def anchors(image: tuple[int, int], strides: tuple[int, ...], scales: tuple[float, ...], ratios: tuple[float, ...]) -> Tensor:
    """`[A, 4]`: per level, row, column and ratio (height over width) a box of the level's scale in pixels."""
    height, width = image
    levels = []
    for stride, scale in zip(strides, scales, strict=True):
        y, x, ratio = torch.meshgrid(
            torch.arange(0, height, stride, dtype=torch.float64),
            torch.arange(0, width, stride, dtype=torch.float64),
            torch.tensor(ratios, dtype=torch.float64),
            indexing="ij",
        )
        half_width, half_height = scale / ratio.sqrt() / 2, scale * ratio.sqrt() / 2
        boxes = torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], dim=-1)
        levels.append(boxes.reshape(-1, 4) / torch.tensor([width, height, width, height]))
    return torch.cat(levels).float()


class Refine(nn.Module):
    """Boxes moved by deltas (of the centre, in extents; of the extents, as logarithms) and clipped to the image."""

    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("spread", torch.tensor([0.1, 0.1, 0.2, 0.2]))  # the deltas' standard deviations in training

    def forward(self, boxes: Tensor, deltas: Tensor) -> Tensor:
        low, high = corners(boxes)
        shift, growth = corners(deltas * self.spread)
        size = high - low
        centre = low + 0.5 * size + shift * size
        size = size * torch.exp(growth)
        low = centre - 0.5 * size
        return torch.clamp(torch.cat([low, low + size], dim=1), 0.0, 1.0)
