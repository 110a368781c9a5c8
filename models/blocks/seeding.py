"""Seeded weights and inputs for zoo systems: no branch silent, nothing taken from the global random state.

Freshly initialised networks hide errors: batch-norm statistics are the identity, a gate's gamma starts at zero,
biases are zero, and torch's default weights shrink the signal at each layer. A rewrite that drops such a branch
would verify as equal. So every parameter and every batch-norm statistic is drawn here, from one generator.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def seeded(factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Module made by `factory`, in eval mode, all weights drawn from `seed`; the global random state is left alone."""
    # Constructors draw torch's default weights from the global generator, so it is put back afterwards.
    with torch.random.fork_rng(devices=[]):
        module = factory()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(_draw(name, parameter.shape, generator))
        for child in module.modules():
            if (
                isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d)
                and child.running_mean is not None
                and child.running_var is not None
            ):
                child.running_mean.copy_(torch.randn(child.running_mean.shape, generator=generator) * 0.1)
                # About 2, because that is the variance which _draw's weights give: residual sums then stay
                # bounded with depth, and the sigmoids behind them do not saturate.
                child.running_var.copy_(torch.rand(child.running_var.shape, generator=generator) + 1.5)
    return module.eval()


def settled(module: nn.Module, *inputs: Tensor) -> nn.Module:
    """The module with each batch norm's statistics measured on a batch of `inputs`, as training leaves them.

    For networks in which gates or SiLU shrink the signal more than what `seeded` draws allows for.
    """
    norms = [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    with torch.no_grad():
        for norm in norms:
            norm.train()
            norm.momentum = 1.0
        module(*inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return module.eval()


def signed(shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal float32 tensor: both signs, so that a ReLU and an identity differ on it."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _draw(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator)
    if len(shape) >= 2:
        fan_in = shape[1:].numel()
        scaled: Tensor = noise * (2.0 / fan_in) ** 0.5
        return scaled
    if name.endswith("bias"):
        return noise * 0.1
    return 1.0 + noise * 0.1  # batch norm, layer norm and gamma: near one, never zero
