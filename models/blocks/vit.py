"""Vision transformer on an image: patch embedding and blocks with fused attention, as towers of vision-language models."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class FusedAttention(nn.Module):
    """Tokens `[B, N, C]` attend to each other by `scaled_dot_product_attention`, in several heads."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(channels, 3 * channels, bias=False)
        self.project = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, channels = tokens.shape
        split = torch.split(self.query_key_value(tokens), [channels, channels, channels], dim=2)
        query, key, value = (part.reshape(batch, count, self.heads, channels // self.heads).transpose(1, 2) for part in split)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.project(mixed.transpose(1, 2).reshape(batch, count, channels))
        return result


class ViTBlock(nn.Module):
    """Pre-norm block on tokens `[B, N, C]`: x + attention(norm(x)), then x + mlp(norm(x)) with GELU."""

    def __init__(self, channels: int, heads: int, expansion: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attention = FusedAttention(channels, heads)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        wide = expansion * channels
        self.mlp = nn.Sequential(nn.Linear(channels, wide), nn.GELU(), nn.Linear(wide, channels))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.norm1(tokens))
        result: Tensor = tokens + self.mlp(self.norm2(tokens))
        return result


class VisionTower(nn.Module):
    """Image `[B, 3, H, W]` -> tokens `[B, (H / patch) (W / patch), C]`: patches, learned positions, one block."""

    def __init__(self, channels: int, heads: int, patch: int, positions: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, channels, patch, stride=patch)
        self.position = nn.Parameter(torch.zeros(1, positions, channels))
        self.block = ViTBlock(channels, heads)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patches(image).flatten(2).transpose(1, 2) + self.position
        result: Tensor = self.block(tokens)
        return result
