"""Multi-head attention and MLP on the positions of feature maps, written out operator by operator.

`nn.MultiheadAttention` and fused scaled-dot-product attention are spelled with different numbers of nodes by
torch's two exporters; Linear, split, reshape, permute, matmul and softmax are spelled alike. Projections of the same tokens
are one Linear and a split, as most implementations have them: side by side they would be merged by simplifiers. No Linear
has a bias: simplifiers respell MatMul and Add as Reshape, Gemm, Reshape.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def to_tokens(feature_map: Tensor) -> Tensor:
    """`[B, C, H, W]` -> `[B, H * W, C]`."""
    batch, channels, height, width = feature_map.shape
    return feature_map.reshape(batch, channels, height * width).permute(0, 2, 1)


def to_map(tokens: Tensor, like: Tensor) -> Tensor:
    """`[B, H * W, C]` -> `[B, C, H, W]`, with height and width of `like`."""
    height, width = like.shape[2:]
    return tokens.permute(0, 2, 1).reshape(tokens.shape[0], tokens.shape[2], height, width)


class HeadedAttention(nn.Module):
    """softmax(Q K^T / sqrt d) V in several heads, merged again and projected: `[B, N, C]` from queries, keys and values."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.width = channels // heads
        self.project = nn.Linear(channels, channels, bias=False)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Queries `[B, N, C]`, keys and values `[B, M, C]`."""
        scores = torch.matmul(self.split(query).permute(0, 2, 1, 3), self.split(key).permute(0, 2, 3, 1))
        attention = torch.softmax(scores / self.width**0.5, dim=-1)
        mixed = torch.matmul(attention, self.split(value).permute(0, 2, 1, 3)).permute(0, 2, 1, 3)
        result: Tensor = self.project(mixed.reshape(query.shape))
        return result

    def split(self, tokens: Tensor) -> Tensor:
        """`[B, N, C]` -> `[B, N, heads, C / heads]`."""
        return tokens.reshape(tokens.shape[0], tokens.shape[1], self.heads, self.width)


class MultiHeadSelfAttention(HeadedAttention):
    """Tokens `[B, N, C]` attend to each other."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__(channels, heads)
        self.query_key_value = nn.Linear(channels, 3 * channels, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        channels = tokens.shape[2]
        query, key, value = torch.split(self.query_key_value(tokens), [channels, channels, channels], dim=2)
        return self.attend(query, key, value)


class MultiHeadCrossAttention(HeadedAttention):
    """Tokens `[B, N, C]` attend to tokens `[B, M, C]`."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__(channels, heads)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key_value = nn.Linear(channels, 2 * channels, bias=False)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        channels = tokens.shape[2]
        key, value = torch.split(self.key_value(context), [channels, channels], dim=2)
        return self.attend(self.query(tokens), key, value)


class TransformerBlock(nn.Module):
    """Pre-norm encoder block on a map: x + attention(norm(x)), then x + mlp(norm(x)) with GELU, on its positions as tokens."""

    def __init__(self, channels: int, heads: int, expansion: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = MultiHeadSelfAttention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        wide = channels * expansion
        self.mlp = nn.Sequential(nn.Linear(channels, wide, bias=False), nn.GELU(), nn.Linear(wide, channels, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        tokens = to_tokens(x)
        tokens = tokens + self.attention(self.norm1(tokens))
        tokens = tokens + self.mlp(self.norm2(tokens))
        return to_map(tokens, like=x)


class CrossAttention(nn.Module):
    """Feature map `[B, C, H, W]` attends to a second one, `[B, C, H', W']`; result added to the first."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm_tokens = nn.LayerNorm(channels)
        self.norm_context = nn.LayerNorm(channels)
        self.attention = MultiHeadCrossAttention(channels, heads)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        mixed = self.attention(self.norm_tokens(to_tokens(x)), self.norm_context(to_tokens(context)))
        return x + to_map(mixed, like=x)
