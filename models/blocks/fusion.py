"""Classifiers with more than one path to the result: image and metadata, coarse and fine."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from npu_guard.models.blocks.dilated import pooled
from npu_guard.models.blocks.resnet import BasicBlock, ResNetEncoder


class LateFusion(nn.Module):
    """Image features `[B, C]` joined with what a perceptron makes of metadata `[B, M]`; two linear layers to classes."""

    def __init__(self, widths: tuple[int, ...], metadata: int, hidden: int, head: int, classes: int) -> None:
        super().__init__()
        self.encoder = ResNetEncoder(widths)
        self.metadata = nn.Sequential(nn.Linear(metadata, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(widths[-1] + hidden, head), nn.ReLU(), nn.Dropout(0.5), nn.Linear(head, classes))

    def forward(self, image: Tensor, metadata: Tensor) -> Tensor:
        joined = torch.cat([pooled(self.encoder(image)[-1]), self.metadata(metadata)], dim=1)
        result: Tensor = self.head(joined)
        return result


class Branch(nn.Module):
    """Rear layers of a classifier: two basic blocks, the first with stride 2, global mean, linear, softmax."""

    def __init__(self, inputs: int, outputs: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(BasicBlock(inputs, outputs, 2), BasicBlock(outputs, outputs, 1))
        self.fc = nn.Linear(outputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.fc(pooled(self.layers(x))), dim=1)


class HDCNN(nn.Module):
    """Hierarchical classifier: a trunk, one branch for coarse classes, one for each of them with all fine classes.

    Fine probabilities are averaged with the coarse ones as weights: p = sum over k of B_k p_k (Yan et al., HD-CNN, ICCV 2015).
    """

    def __init__(self, widths: tuple[int, ...], coarse: int, fine: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False)
        self.norm1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(BasicBlock(before, after, 1 if i == 0 else 2), BasicBlock(after, after, 1))
                for i, (before, after) in enumerate(itertools.pairwise(widths[:4]))
            )
        )
        self.coarse = Branch(widths[3], widths[4], coarse)
        self.fine = nn.ModuleList(Branch(widths[3], widths[4], fine) for _ in range(coarse))

    def forward(self, image: Tensor) -> Tensor:
        shared = self.layers(self.pool(self.relu(self.norm1(self.conv1(image)))))
        weights = self.coarse(shared)
        experts = torch.stack([branch(shared) for branch in self.fine], dim=1)
        result: Tensor = (weights.unsqueeze(2) * experts).sum(dim=1)
        return result
