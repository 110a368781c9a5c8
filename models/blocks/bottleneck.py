"""ResNet-50 and ResNet-101 as Mask R-CNN was first published with: Keras' batch norm and TensorFlow's padding."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-3
"""Keras' default in batch norm; torch's is 1e-5."""

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Blocks in stages 2 to 5, by the network's number of layers."""


class SamePad(nn.Module):
    """TensorFlow's "same" padding with zeros: ceil(extent / stride) outputs, an odd pixel goes to the right and bottom."""

    def __init__(self, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for extent in (int(x.shape[3]), int(x.shape[2])):  # torch wants the last axis first
            outputs = -(-extent // self.stride)
            total = max(0, (outputs - 1) * self.stride + self.kernel - extent)
            pads += [total // 2, total - total // 2]
        return functional.pad(x, pads)


def same_conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Convolution with a bias. At stride 1 an odd kernel's "same" padding is alike on all sides; a 1x1 kernel has none."""
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """The same and batch norm."""
    return nn.Sequential(same_conv(inputs, outputs, kernel, stride), nn.BatchNorm2d(outputs, eps=EPSILON))


class Bottleneck(nn.Module):
    """conv1x1 (with the stride, as in the first ResNet), conv3x3, conv1x1 to four times the width, and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.reduce = conv_norm(inputs, width, 1, stride)
        self.conv = conv_norm(width, width, 3)
        self.expand = conv_norm(width, outputs, 1)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = conv_norm(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(self.relu(self.conv(self.relu(self.reduce(x)))))
        result: Tensor = self.relu(y + self.shortcut(x))
        return result


class BottleneckResNet(nn.Module):
    """Image `[B, 3, H, W]` -> maps C2 to C5 of 4, 8, 16 and 32 times the stem's width at strides 4, 8, 16 and 32."""

    def __init__(self, depths: tuple[int, ...], stem: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, 7, stride=2, padding=3),
            nn.BatchNorm2d(stem, eps=EPSILON),
            nn.ReLU(),
            SamePad(3, stride=2),
            nn.MaxPool2d(3, stride=2),
        )
        self.stages = nn.ModuleList()
        inputs = stem
        for stage, depth in enumerate(depths):
            width = stem << stage
            blocks = [Bottleneck(inputs if i == 0 else 4 * width, width, 2 if stage and i == 0 else 1) for i in range(depth)]
            self.stages.append(nn.Sequential(*blocks))
            inputs = 4 * width

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(image)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return tuple(features)
