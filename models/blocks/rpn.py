"""Region proposals: a score and four deltas for each anchor, and the best boxes that these make."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from npu_guard.models.blocks.bottleneck import same_conv
from npu_guard.models.blocks.boxes import Refine
from npu_guard.models.blocks.suppress import suppress


class RegionProposalNetwork(nn.Module):
    """Maps `[1, C, H, W]` of all levels -> probabilities `[1, A, 2]` (background, object) and deltas `[1, A, 4]`."""

    def __init__(self, inputs: int, width: int, ratios: int) -> None:
        super().__init__()
        self.shared = nn.Sequential(same_conv(inputs, width, 3), nn.ReLU())
        self.score = same_conv(width, 2 * ratios, 1)
        self.delta = same_conv(width, 4 * ratios, 1)

    def forward(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        features = [self.shared(x) for x in levels]
        scores = [torch.softmax(self.score(x).permute(0, 2, 3, 1).reshape(1, -1, 2), dim=-1) for x in features]
        deltas = [self.delta(x).permute(0, 2, 3, 1).reshape(1, -1, 4) for x in features]
        return torch.cat(scores, dim=1), torch.cat(deltas, dim=1)


class ProposalLayer(nn.Module):
    """Probabilities and deltas of the anchors -> the `count` best boxes `[count, 4]` after suppression, and which are real.

    Only the `before` anchors of highest score are looked at. Where fewer boxes remain, empty ones follow, marked false
    in `[count]`.
    """

    anchors: Tensor
    nothing: Tensor

    def __init__(self, anchors: Tensor, before: int, count: int, overlap: float = 0.7) -> None:
        super().__init__()
        self.before = before
        self.count = count
        self.overlap = overlap
        self.refine = Refine()
        self.register_buffer("anchors", anchors)
        self.register_buffer("nothing", torch.zeros(1, 4))

    def forward(self, probabilities: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
        scores = torch.narrow(probabilities, 2, 1, 1).reshape(-1)
        best, order = torch.topk(scores, self.before)
        chosen = torch.index_select(deltas.reshape(-1, 4), 0, order)
        boxes = self.refine(torch.index_select(self.anchors, 0, order), chosen)
        kept = suppress(boxes, best.reshape(1, self.before), self.count, self.overlap, 0.0, self.count)
        return torch.index_select(torch.cat([boxes, self.nothing]), 0, kept), kept < self.before
