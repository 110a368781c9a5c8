"""Feature pyramid: coarse maps upsampled and added to fine ones, all of one width."""

from __future__ import annotations

from torch import Tensor, nn

from npu_guard.models.blocks.bottleneck import same_conv


class FeaturePyramid(nn.Module):
    """Maps C2 to C5 -> P2 to P6 of `width` channels at strides 4 to 64; the extents of C2 are multiples of 16."""

    def __init__(self, inputs: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(same_conv(channels, width, 1) for channels in inputs)
        self.smooth = nn.ModuleList(same_conv(width, width, 3) for _ in inputs)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.subsample = nn.MaxPool2d(1, stride=2)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        lateral = [conv(x) for conv, x in zip(self.lateral, features, strict=True)]
        merged = [lateral[-1]]
        for x in reversed(lateral[:-1]):
            merged.insert(0, x + self.upsample(merged[0]))
        pyramid = [conv(x) for conv, x in zip(self.smooth, merged, strict=True)]
        return (*pyramid, self.subsample(pyramid[-1]))
