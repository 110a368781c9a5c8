"""ResNet-18 over volumes: every convolution, batch norm and pooling window has a depth axis too."""

from __future__ import annotations

from torch import Tensor, nn

from npu_guard.models.blocks.resnet import TINY_WIDTHS, WIDTHS

__all__ = ["TINY_WIDTHS", "WIDTHS", "ResNet3d"]


class BasicBlock3d(nn.Module):
    """Two 3x3x3 convolutions with batch norm, and a shortcut (conv1x1x1 where stride or width change)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm3d(outputs)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv3d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm3d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        result: Tensor = self.relu(y + self.shortcut(x))
        return result


class ResNet3d(nn.Module):
    """Volume `[B, 1, D, H, W]` -> features `[B, C, D', H', W']`, each extent divided by 32 and rounded up."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(1, widths[0], 7, stride=2, padding=3, bias=False)
        self.norm1 = nn.BatchNorm3d(widths[0])
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool3d(3, stride=2, padding=1)
        layers: list[nn.Module] = []
        for layer in range(1, 5):
            inputs, outputs = widths[layer - 1], widths[layer]
            stride = 1 if layer == 1 else 2
            layers += [BasicBlock3d(inputs, outputs, stride), BasicBlock3d(outputs, outputs, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, volume: Tensor) -> Tensor:
        result: Tensor = self.layers(self.pool(self.relu(self.norm1(self.conv1(volume)))))
        return result
