"""Which parameters of the patched network a gradient reaches, beside those of the original."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from npu_guard.training.files import Manifest
from npu_guard.training.graph import below


@dataclass(slots=True)
class Reached:
    """Parameters that are trained, by name: those with a gradient, and those without."""

    has: list[str] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)


def reached(model: nn.Module, inputs: Mapping[str, Tensor], training: bool) -> Reached:
    """Where the gradient of the squares of all outputs arrives. Raises what the network raises."""
    network = copy.deepcopy(model).train(training)
    leaves = pytree.tree_leaves(network(*inputs.values()))
    parts = [t.float().pow(2).mean() for t in leaves if isinstance(t, Tensor) and t.requires_grad]
    if parts:  # none of a network that is frozen, or has no weights
        torch.autograd.backward(torch.stack(parts).sum())
    found = Reached()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (found.lacks if parameter.grad is None else found.has).append(name)
    return found


def lost(lacking: Collection[str], before: Reached, manifest: Manifest) -> list[str]:
    """Of the parameters without gradient, those that have one in the original, or are computed from one that has.

    A weight that the exporter has made of others counts as one of its module's.
    """
    sources = {(f"{b.path}." if b.path else "") + t.name: (b.path, t.sources) for b in manifest.blocks for t in b.tensors}
    known = {*before.has, *before.lacks}

    def had(name: str) -> bool:
        path, from_ = sources.get(name, ("", (name,)))
        own = [s for s in from_ if s in known]
        return any(s in before.has for s in own) if own else any(below(s, path) for s in before.has)

    return [name for name in lacking if had(name)]
