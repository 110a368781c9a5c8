"""Blocks for new networks that fit a device by construction; each takes the device's `profile`. See docs/training.md."""

from npu_guard.training.library import (
    CBAM,
    ECA,
    SE,
    AttentiveSkipFusion,
    AxialConv,
    SmallMapAttention,
    aligned,
    longest,
)

__all__ = ["CBAM", "ECA", "SE", "AttentiveSkipFusion", "AxialConv", "SmallMapAttention", "aligned", "longest"]
