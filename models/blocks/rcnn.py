"""Mask R-CNN, from the image to detections and masks, with all selections in the graph and all shapes fixed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from npu_guard.models.blocks import suppress
from npu_guard.models.blocks.bottleneck import DEPTHS, BottleneckResNet
from npu_guard.models.blocks.boxes import anchors
from npu_guard.models.blocks.detection import ClassifierHead, DetectionLayer, MaskHead
from npu_guard.models.blocks.fpn import FeaturePyramid
from npu_guard.models.blocks.roi_align import PyramidAlign
from npu_guard.models.blocks.rpn import ProposalLayer, RegionProposalNetwork
from npu_guard.models.blocks.seeding import seeded

STRIDES = (4, 8, 16, 32, 64)
RATIOS = (0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Sizes:
    """All extents of the network; `canonical` is the extent of a box that is read from P4."""

    image: tuple[int, int] = (1024, 1024)
    depths: tuple[int, ...] = DEPTHS[50]
    stem: int = 64
    pyramid: int = 256
    rpn: int = 512
    hidden: int = 1024
    classes: int = 81
    scales: tuple[float, ...] = (32, 64, 128, 256, 512)
    canonical: float = 224.0
    before: int = 6000
    proposals: int = 1000
    detections: int = 100


TINY = Sizes(
    image=(128, 192),
    depths=(1, 1, 1, 1),
    stem=8,
    pyramid=16,
    rpn=24,
    hidden=32,
    scales=(4, 8, 16, 32, 64),
    canonical=28.0,
    before=60,
    proposals=20,
    detections=8,
)
"""The same for fast tests: an eighth of the image and of all boxes. The classes are those of the real size."""


class MaskRCNN(nn.Module):
    """Image `[1, 3, H, W]` -> what the published network gives for inference, in another order, and without a batch:

    detections `[100, 6]` (box, class, score), masks `[100, classes, 28, 28]`, and what they were made of: proposals
    `[1000, 4]`, their class probabilities `[1000, classes]` and deltas `[1000, classes, 4]`, and the anchors'
    probabilities `[1, A, 2]` and deltas `[1, A, 4]`. Boxes are as in boxes.py.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        s = sizes
        self.backbone = BottleneckResNet(s.depths, s.stem)
        self.fpn = FeaturePyramid(tuple(4 * s.stem << i for i in range(4)), s.pyramid)
        self.rpn = RegionProposalNetwork(s.pyramid, s.rpn, len(RATIOS))
        self.proposals = ProposalLayer(anchors(s.image, STRIDES, s.scales, RATIOS), s.before, s.proposals)
        self.box_align = PyramidAlign(s.proposals, 7, s.image, s.canonical)
        self.classifier = ClassifierHead(s.pyramid, 7, s.hidden, s.classes)
        self.detection = DetectionLayer(s.proposals, s.classes, s.detections)
        self.mask_align = PyramidAlign(s.detections, 14, s.image, s.canonical)
        self.mask = MaskHead(s.pyramid, s.pyramid, s.classes)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        levels = self.fpn(self.backbone(image))
        anchor_probabilities, anchor_deltas = self.rpn(levels)
        proposals, real = self.proposals(anchor_probabilities, anchor_deltas)
        probabilities, deltas = self.classifier(self.box_align(proposals, levels[:4]))
        detections = self.detection(proposals, real, probabilities, deltas)
        masks = self.mask(self.mask_align(torch.narrow(detections, 1, 0, 4), levels[:4]))
        return detections, masks, proposals, probabilities, deltas, anchor_probabilities, anchor_deltas

    def onnx_translations(self) -> dict[Callable[..., Any], Callable[..., Any]]:
        """ONNX form of the network's own operator, for export.py."""
        return suppress.translations()


SPREAD = (
    *(("fpn.smooth.0", 0.7), ("fpn.smooth.1", 0.7), ("fpn.smooth.2", 1.5), ("fpn.smooth.3", 3.0)),
    *(("rpn.score", 0.15), ("rpn.delta", 0.1), ("classifier.delta", 0.3), ("mask.last", 4.0)),
)
"""Layers whose drawn weights are multiplied, so that boxes stay boxes, probabilities are neither all alike nor all 1, and
proposals come from all levels.

Without it, the best scores are exactly 1, and which of equal ones win is up to the runtime.
"""


def network(sizes: Sizes, seed: int) -> MaskRCNN:
    """Mask R-CNN with seeded weights, in eval mode."""

    def make() -> MaskRCNN:
        return MaskRCNN(sizes)

    module = seeded(make, seed)
    assert isinstance(module, MaskRCNN)
    with torch.no_grad():
        for name, factor in SPREAD:
            layer = module.get_submodule(name)
            assert isinstance(layer, nn.Conv2d | nn.Linear)
            layer.weight.mul_(factor)
    return module
