"""RoiAlign as one ONNX node (opset 16), with an eager form in plain torch, and the choice of a level of the pyramid."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from npu_guard.models.blocks.boxes import corners

SAMPLES = 2
"""Samples of a bin along each axis; their mean is the bin's value."""


class PyramidAlign(nn.Module):
    """Boxes `[N, 4]` and maps P2 to P5 -> crops `[N, C, pool, pool]`, each from the level that fits the box.

    level = 4 + log2(sqrt(h w) / (canonical / sqrt(area))), rounded, from 2 to 5: a box of `canonical` pixels is read from
    P4. All levels are read for all boxes and one is kept, so that every shape is known beforehand.
    """

    scale: Tensor
    batch: Tensor

    def __init__(self, boxes: int, pool: int, image: tuple[int, int], canonical: float = 224.0) -> None:
        super().__init__()
        self.boxes = boxes
        self.pool = pool
        self.canonical = canonical / math.sqrt(image[0] * image[1])
        self.register_buffer("scale", torch.tensor([image[1], image[0]] * 2, dtype=torch.float32))
        self.register_buffer("batch", torch.zeros(boxes, dtype=torch.int64))

    def forward(self, boxes: Tensor, levels: tuple[Tensor, ...]) -> Tensor:
        wanted = self.level(boxes)
        pixels = boxes * self.scale
        crops = self.crop(levels[3], pixels, 5)
        for level in (4, 3, 2):
            crops = torch.where(wanted == level, self.crop(levels[level - 2], pixels, level), crops)
        return crops

    def level(self, boxes: Tensor) -> Tensor:
        """Level of each box, `[N, 1, 1, 1]` in float32. An empty box has the logarithm -inf, and level 2."""
        low, high = corners(boxes)
        size = high - low
        area = torch.narrow(size, 1, 0, 1) * torch.narrow(size, 1, 1, 1)
        level = torch.round(4.0 + torch.log2(torch.sqrt(area) / self.canonical))
        return torch.clamp(level, 2.0, 5.0).reshape(self.boxes, 1, 1, 1)

    def crop(self, x: Tensor, pixels: Tensor, level: int) -> Tensor:
        """Crops of one level, whose stride is 2^level."""
        scale = 1.0 / 2**level
        if torch.compiler.is_exporting():
            return torch.onnx.ops.symbolic(
                "RoiAlign",
                (x, pixels, self.batch),
                {
                    "coordinate_transformation_mode": "half_pixel",
                    "mode": "avg",
                    "output_height": self.pool,
                    "output_width": self.pool,
                    "sampling_ratio": SAMPLES,
                    "spatial_scale": scale,
                },
                dtype=x.dtype,
                shape=(self.boxes, x.shape[1], self.pool, self.pool),
                version=16,
            )
        if torch.onnx.is_in_onnx_export():  # the tracing exporter
            traced: Tensor = _Traced.apply(x, pixels, self.batch, self.pool, scale)  # type: ignore[no-untyped-call]
            return traced
        return roi_align(x, pixels, self.pool, scale)


def roi_align(x: Tensor, boxes: Tensor, pool: int, scale: float) -> Tensor:
    """Means of bilinear samples of `[1, C, H, W]` on a grid in each box `[N, 4]`, in pixels of the image: `[N, C, pool, pool]`.

    By ONNX's RoiAlign with half_pixel: samples more than one pixel outside the map are 0, others are clamped to it.
    """
    grid = pool * SAMPLES
    steps = (torch.arange(grid, dtype=x.dtype) + 0.5) / grid
    low, high = corners(boxes * scale - 0.5)
    places = low.unsqueeze(2) + (high - low).unsqueeze(2) * steps  # [N, 2, grid]
    columns, rows = places.unbind(1)
    height, width = x.shape[2:]
    inside = ((rows >= -1) & (rows <= height)).unsqueeze(2) & ((columns >= -1) & (columns <= width)).unsqueeze(1)
    # grid_sample counts from -1 to 1 between the centres of the outermost pixels.
    rows, columns = 2 * rows / (height - 1) - 1, 2 * columns / (width - 1) - 1
    where = torch.stack([columns.unsqueeze(1).expand(-1, grid, -1), rows.unsqueeze(2).expand(-1, -1, grid)], dim=-1)
    sampled = functional.grid_sample(x, where.reshape(1, -1, grid, 2), padding_mode="border", align_corners=True)
    sampled = sampled.reshape(x.shape[1], -1, grid, grid).transpose(0, 1) * inside.unsqueeze(1)
    return functional.avg_pool2d(sampled, SAMPLES)


class _Traced(torch.autograd.Function):
    """How torch's tracing exporter learns which ONNX operator to write."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pixels: Tensor, batch: Tensor, pool: int, scale: float) -> Tensor:
        return roi_align(x, pixels, pool, scale)

    @staticmethod
    def symbolic(g: Any, x: Any, pixels: Any, batch: Any, pool: int, scale: float) -> Any:
        return g.op(
            "RoiAlign",
            x,
            pixels,
            batch,
            coordinate_transformation_mode_s="half_pixel",
            mode_s="avg",
            output_height_i=pool,
            output_width_i=pool,
            sampling_ratio_i=SAMPLES,
            spatial_scale_f=scale,
        )
