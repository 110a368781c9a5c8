"""Deformable 3x3 convolution as one ONNX node (DeformConv, opset 19), with an eager form in plain torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.onnx.errors import UnsupportedOperatorError


class DeformableConv(nn.Module):
    """Convolution whose taps are moved by offsets `[B, 2 k k, H, W]` (pixels, y before x), predicted by a convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.kernel = kernel
        self.offset = nn.Conv2d(inputs, 2 * kernel * kernel, kernel, padding=kernel // 2)
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        offset = self.offset(x)
        if torch.compiler.is_exporting():
            pad = self.kernel // 2
            return torch.onnx.ops.symbolic(
                "DeformConv",
                (x, self.weight, offset, self.bias),
                {"kernel_shape": [self.kernel, self.kernel], "pads": [pad] * 4},
                dtype=x.dtype,
                shape=(x.shape[0], self.weight.shape[0], x.shape[2], x.shape[3]),
                version=19,
            )
        if torch.onnx.is_in_onnx_export():  # the tracing exporter
            traced: Tensor = _TracedDeformConv.apply(x, self.weight, offset, self.bias)  # type: ignore[no-untyped-call]
            return traced
        return deform_conv(x, self.weight, offset, self.bias)


def deform_conv(x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor) -> Tensor:
    """DeformConv, stride 1, "same" padding: each tap is a bilinear sample (zero outside) of a moved grid."""
    batch, _, height, width = x.shape
    kernel = weight.shape[-1]
    rows = torch.arange(height, dtype=x.dtype).reshape(1, height, 1)
    columns = torch.arange(width, dtype=x.dtype).reshape(1, 1, width)
    taps = []
    for tap in range(kernel * kernel):
        y = rows + (tap // kernel - kernel // 2) + offset[:, 2 * tap]
        z = columns + (tap % kernel - kernel // 2) + offset[:, 2 * tap + 1]
        # grid_sample counts from -1 to 1 between the centres of the outermost pixels.
        grid = torch.stack([2 * z / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=-1)
        taps.append(functional.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=True))
    patches = torch.stack(taps, dim=2).reshape(batch, -1, height, width)
    return functional.conv2d(patches, weight.reshape(weight.shape[0], -1, 1, 1), bias)


class _TracedDeformConv(torch.autograd.Function):
    """How torch's tracing exporter learns which ONNX operator to write."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor) -> Tensor:
        return deform_conv(x, weight, offset, bias)

    @staticmethod
    def symbolic(g: Any, x: Any, weight: Any, offset: Any, bias: Any) -> Any:
        if g.opset < 19:
            raise UnsupportedOperatorError("DeformConv", g.opset, 19)
        kernel = weight.type().sizes()[-1]
        return g.op("DeformConv", x, weight, offset, bias, kernel_shape_i=[kernel] * 2, pads_i=[kernel // 2] * 4)
