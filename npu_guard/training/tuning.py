"""A short training of the whole network behind healing, with the user's labels and loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from npu_guard.base.errors import UsageError
from npu_guard.training.healing import Progress, call_with


def fine_tune(
    model: nn.Module, batches: Any, loss: Callable[[Any, Any], Tensor], *, epochs: int = 1, teacher: nn.Module | None = None,
    rate: float = 1e-3, seed: int = 0, progress: Progress = lambda what, done, total: None,
) -> list[float]:  # fmt: skip
    """Train the whole network on (inputs, targets) with the user's loss: AdamW, one cycle. Returns the mean loss by epoch.

    With a teacher, `distance` to what it gives in eval mode is added to the loss. Raises UsageError where that gives others.
    """
    torch.manual_seed(seed)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, rate, weight_decay=1e-4)
    total = max(1, epochs * len(batches))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=total + 1)
    model.train()
    modes = [] if teacher is None else [(module, module.training) for module in teacher.modules()]
    means = []
    try:
        if teacher is not None:
            teacher.eval()
        for epoch in range(epochs):
            sum_ = 0.0
            for number, (inputs, targets) in enumerate(batches):
                progress("Fine-tuning", epoch * len(batches) + number, total)
                found = call_with(model, inputs)
                value = loss(found, targets)
                if teacher is not None:
                    with torch.no_grad():
                        wanted = call_with(teacher, inputs)
                    value = value + distance(found, wanted)
                optimizer.zero_grad()
                value.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                sum_ += float(value.detach())
            means.append(sum_ / max(1, len(batches)))
    finally:
        model.eval()
        for module, training in modes:
            module.training = training
    return means


def distance(found: Any, wanted: Any) -> Tensor:
    """Mean squared differences of what two networks give, each tensor's relative to the variance of what is wanted.

    Scores are compared as they are, before a softmax (Ba and Caruana, Do Deep Nets Really Need to be Deep?, 2014), so the same
    holds for a map of depths. Raises UsageError where both give other tensors.
    """
    mine, its = ([t for t in pytree.tree_leaves(held) if isinstance(t, Tensor)] for held in (found, wanted))
    if [t.shape for t in mine] != [t.shape for t in its]:
        raise UsageError(
            f"fine_tune: the network gives tensors of {_shapes(mine)} and its teacher of {_shapes(its)}; they have to be alike"
        )
    parts = [(a - b).pow(2).mean() / (float(b.var()) or 1.0) for a, b in zip(mine, its, strict=True) if b.is_floating_point()]
    return torch.stack(parts).sum()


def _shapes(tensors: list[Tensor]) -> str:
    return ", ".join(str(tuple(t.shape)) for t in tensors) or "none"
