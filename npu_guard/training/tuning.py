"""A short training of the whole network behind healing, with the user's labels and loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from npu_guard.training.healing import Progress, call_with


def fine_tune(
    model: nn.Module, batches: Any, loss: Callable[[Any, Any], Tensor], *, epochs: int = 1,
    rate: float = 1e-3, seed: int = 0, progress: Progress = lambda what, done, total: None,
) -> list[float]:  # fmt: skip
    """Train the whole network on (inputs, targets) with the user's loss: AdamW, one cycle. Returns the mean loss by epoch."""
    torch.manual_seed(seed)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, rate, weight_decay=1e-4)
    total = max(1, epochs * len(batches))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=total + 1)
    model.train()
    means = []
    for epoch in range(epochs):
        sum_ = 0.0
        for number, (inputs, targets) in enumerate(batches):
            progress("Fine-tuning", epoch * len(batches) + number, total)
            value = loss(call_with(model, inputs), targets)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            sum_ += float(value.detach())
        means.append(sum_ / max(1, len(batches)))
    model.eval()
    return means
