"""Atrous spatial pyramid pooling and the DeepLabv3 networks around it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from npu_guard.models.blocks.dilated import DRN, DilatedResNet, conv_norm_act, pooled

DRN_RATES = (12, 24, 36)
"""Dilations at output stride 8; at stride 16 they are half of that."""

RESNET_RATES = (6, 12, 18)

TINY_RATES = (2, 4, 6)
"""For maps of 8 x 8, on which the others would see padding alone."""


class SeparableConv(nn.Module):
    """Depthwise 3x3 with a dilation, then conv1x1, each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=dilation, dilation=dilation, groups=inputs, bias=False)
        self.norm = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU()
        self.pointwise = conv_norm_act(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.pointwise(self.relu(self.norm(self.depthwise(x))))
        return result


class ASPP(nn.Module):
    """Five views of `[B, C, H, W]`: conv1x1, three dilated 3x3, global mean; joined and reduced to `outputs` channels.

    The pooled branch is one pixel, spread over the map by broadcasting.
    """

    def __init__(self, inputs: int, outputs: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.point = conv_norm_act(inputs, outputs, 1)
        self.dilated = nn.ModuleList(conv_norm_act(inputs, outputs, 3, dilation=rate) for rate in rates)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.pooled = conv_norm_act(inputs, outputs, 1)
        self.project = conv_norm_act(outputs * (len(rates) + 2), outputs, 1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        spread = self.pooled(self.pool(x)).expand(-1, -1, x.shape[2], x.shape[3])
        views = [self.point(x), *(branch(x) for branch in self.dilated), spread]
        result: Tensor = self.dropout(self.project(torch.cat(views, dim=1)))
        return result


class SeparableASPP(nn.Module):
    """As ASPP with depthwise-separable 3x3; no batch norm on the pooled branch, which is spread by interpolation."""

    def __init__(self, inputs: int, outputs: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.point = conv_norm_act(inputs, outputs, 1)
        self.dilated = nn.ModuleList(SeparableConv(inputs, outputs, rate) for rate in rates)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.pooled = nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.ReLU())
        self.project = conv_norm_act(outputs * (len(rates) + 2), outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        spread = functional.interpolate(self.pooled(self.pool(x)), size=x.shape[2:], mode="bilinear", align_corners=False)
        views = [self.point(x), *(branch(x) for branch in self.dilated), spread]
        result: Tensor = self.project(torch.cat(views, dim=1))
        return result


class LowLevelFusion(nn.Module):
    """High-level map brought to the low-level map's size, joined with 48 channels of that, two conv3x3."""

    def __init__(self, low: int, high: int, reduced: int, outputs: int, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.reduce = conv_norm_act(low, reduced, 1)
        self.refine = nn.Sequential(
            conv_norm_act(reduced + high, outputs, 3), nn.Dropout(0.5), conv_norm_act(outputs, outputs, 3), nn.Dropout(0.1)
        )

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        wide = functional.interpolate(high, size=low.shape[2:], mode="bilinear", align_corners=self.align_corners)
        result: Tensor = self.refine(torch.cat([wide, self.reduce(low)], dim=1))
        return result


class DeepLabClassifier(nn.Module):
    """DRN, ASPP, global mean, linear: image `[B, 3, H, W]` -> `[B, classes]`."""

    def __init__(self, backbone: DRN, channels: int, width: int, rates: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.aspp = ASPP(channels, width, rates)
        self.classifier = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        _, high = self.backbone(image)
        result: Tensor = self.classifier(pooled(self.aspp(high)))
        return result


class DeepLabSegmenter(nn.Module):
    """DRN, ASPP, decoder with the low-level map: image `[B, 3, H, W]` -> scores `[B, classes, H, W]`."""

    def __init__(
        self, backbone: DRN, low: int, channels: int, reduced: int, width: int, rates: tuple[int, ...], classes: int
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.aspp = ASPP(channels, width, rates)
        self.decoder = LowLevelFusion(low, width, reduced, width, align_corners=True)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        low, high = self.backbone(image)
        scores = self.classifier(self.decoder(low, self.aspp(high)))
        return functional.interpolate(scores, size=image.shape[2:], mode="bilinear", align_corners=True)


class FusedClassifier(nn.Module):
    """Dilated ResNet, separable ASPP, fusion with the low-level map, global mean, linear: image -> `[B, classes]`."""

    def __init__(
        self, backbone: DilatedResNet, low: int, channels: int, reduced: int, width: int, rates: tuple[int, ...], classes: int
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.aspp = SeparableASPP(channels, width, rates)
        self.decoder = LowLevelFusion(low, width, reduced, width, align_corners=False)
        self.classifier = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        low, high = self.backbone(image)
        result: Tensor = self.classifier(pooled(self.decoder(low, self.aspp(high))))
        return result
