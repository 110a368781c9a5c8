"""Attention on feature maps `[B, C, H, W]` in the spellings that a static tensor pipeline cannot run."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SelfAttention(nn.Module):
    """Every position attends to every position: softmax(Q K^T / sqrt d) V, times gamma, plus the input.

    The key convolution has no bias: it would shift all scores of a query alike, which softmax cancels.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        self.width = channels // reduction
        self.query = nn.Conv2d(channels, self.width, 1)
        self.key = nn.Conv2d(channels, self.width, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        positions = height * width
        query = self.query(x).reshape(batch, self.width, positions).permute(0, 2, 1)
        key = self.key(x).reshape(batch, self.width, positions)
        value = self.value(x).reshape(batch, channels, positions)
        attention = torch.softmax(torch.matmul(query, key) / self.width**0.5, dim=-1)
        mixed = torch.matmul(value, attention.permute(0, 2, 1)).reshape(batch, channels, height, width)
        return x + self.gamma * mixed


class LinearAttention(nn.Module):
    """Attention without softmax, phi(Q) (phi(K)^T V) with phi = elu + 1: linear in the number of positions.

    Only the numerator needs tokens. The denominator, phi(Q) times the sum of phi(K), is a mean over space and a
    sum over channels, which maps can do; both are divided by the number of positions.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        self.width = channels // reduction
        self.query = nn.Conv2d(channels, self.width, 1)
        self.key = nn.Conv2d(channels, self.width, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        positions = height * width
        query = functional.elu(self.query(x)) + 1.0
        key = functional.elu(self.key(x)) + 1.0
        norm = (query * key.mean(dim=(2, 3), keepdim=True)).sum(dim=1, keepdim=True)
        key_tokens = key.reshape(batch, self.width, positions).permute(0, 2, 1)
        value_tokens = self.value(x).reshape(batch, channels, positions)
        context = torch.matmul(value_tokens, key_tokens) / positions
        mixed = torch.matmul(context, query.reshape(batch, self.width, positions))
        result: Tensor = x + self.project(mixed.reshape(batch, channels, height, width) / norm)
        return result


class ECA(nn.Module):
    """Efficient channel attention, spelled as a (1, k) convolution over a `[B, 1, 1, C]` view of the pooled map."""

    def __init__(self, kernel: int = 5) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv2d(1, 1, (1, kernel), padding=(0, kernel // 2), bias=False)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        batch, channels = x.shape[:2]
        row = self.pool(x).reshape(batch, 1, 1, channels)
        result: Tensor = x * self.gate(self.conv(row)).reshape(batch, channels, 1, 1)
        return result


class ECAConv1d(nn.Module):
    """Efficient channel attention as published: Conv1d of k taps over the channels, by squeeze and transpose."""

    def __init__(self, kernel: int = 5) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        row = self.pool(x).squeeze(-1).transpose(-1, -2)
        column = self.conv(row).transpose(-1, -2).unsqueeze(-1)
        result: Tensor = x * self.gate(column)
        return result
