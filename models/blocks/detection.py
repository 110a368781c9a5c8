"""What Mask R-CNN does with proposals: classify and refine them, keep the best of each class, draw masks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from npu_guard.models.blocks.bottleneck import EPSILON, conv_norm
from npu_guard.models.blocks.boxes import Refine
from npu_guard.models.blocks.suppress import suppress


class ClassifierHead(nn.Module):
    """Crops `[N, C, pool, pool]` -> class probabilities `[N, classes]` and deltas for each class `[N, classes, 4]`."""

    def __init__(self, inputs: int, pool: int, width: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.hidden = nn.Sequential(
            nn.Conv2d(inputs, width, pool),
            nn.BatchNorm2d(width, eps=EPSILON),
            nn.ReLU(),
            conv_norm(width, width, 1),
            nn.ReLU(),
        )
        self.score = nn.Linear(width, classes)
        self.delta = nn.Linear(width, 4 * classes)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.flatten(self.hidden(crops), 1)
        return torch.softmax(self.score(x), dim=1), self.delta(x).reshape(-1, self.classes, 4)


class MaskHead(nn.Module):
    """Crops `[N, C, pool, pool]` -> masks for each class `[N, classes, 2 pool, 2 pool]`."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(4):
            layers += [conv_norm(inputs if i == 0 else width, width, 3), nn.ReLU()]
        self.convs = nn.Sequential(*layers)
        self.up = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.relu = nn.ReLU()
        self.last = nn.Conv2d(width, classes, 1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, crops: Tensor) -> Tensor:
        result: Tensor = self.sigmoid(self.last(self.relu(self.up(self.convs(crops)))))
        return result


class DetectionLayer(nn.Module):
    """Proposals with their classes and deltas -> the `count` best detections `[count, 6]`: box, class, score.

    A proposal has the class of highest probability, and is dropped where that is the background (class 0) or the
    probability is at most `floor`. Of boxes of one class that overlap, the best remains. Rows of zeros fill up.
    """

    labels: Tensor
    first: Tensor
    nothing: Tensor

    def __init__(self, proposals: int, classes: int, count: int, overlap: float = 0.3, floor: float = 0.05) -> None:
        super().__init__()
        self.proposals = proposals
        self.classes = classes
        self.count = count
        self.overlap = overlap
        self.floor = floor
        self.refine = Refine()
        self.register_buffer("labels", torch.arange(1, classes).reshape(-1, 1))
        self.register_buffer("first", torch.arange(proposals) * classes)  # row of a proposal's first class
        self.register_buffer("nothing", torch.zeros(1, 6))

    def forward(self, boxes: Tensor, real: Tensor, probabilities: Tensor, deltas: Tensor) -> Tensor:
        label = torch.argmax(probabilities, dim=1)
        score = torch.amax(probabilities, dim=1)
        own = torch.index_select(deltas.reshape(-1, 4), 0, self.first + label)
        refined = self.refine(boxes, own)
        # One row per class: a proposal has a score in the row of its class alone, and in none if it is no real one.
        rows = torch.where((self.labels == label) & real, score, 0.0)
        kept = suppress(refined, rows, self.count, self.overlap, self.floor, self.proposals)
        table = torch.cat([refined, label.to(refined.dtype).reshape(-1, 1), score.reshape(-1, 1)], dim=1)
        survivors = torch.index_select(torch.cat([table, self.nothing]), 0, kept)
        _, order = torch.topk(torch.narrow(survivors, 1, 5, 1), self.count, dim=0)
        return torch.index_select(survivors, 0, order.reshape(self.count))
