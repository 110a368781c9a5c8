"""Modules that run in training mode and not in eval mode, such as auxiliary heads: an export has nothing of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from npu_guard.training.graph import below

SHOWN = 2
"""Modules that a sentence names."""


def training_only(model: nn.Module, inputs: Mapping[str, Tensor]) -> list[str]:
    """Their paths, the outermost ones; none where the network does not run in one of both modes."""
    called: list[set[str]] = []
    for training in (False, True):
        network, seen = copy.deepcopy(model).train(training), set[str]()

        def note(path: str, seen: set[str], *_: Any) -> None:
            seen.add(path)

        for path, module in network.named_modules():
            module.register_forward_pre_hook(partial(note, path, seen))
        try:
            with torch.no_grad():
                network(*inputs.values())
        except Exception:  # whatever the user's modules raise
            return []
        called.append(seen)
    more = called[1] - called[0]
    return sorted(path for path in more if not any(path != other and below(path, other) for other in more))


def advice(model: nn.Module, inputs: Mapping[str, Tensor]) -> str:
    """The end of a sentence that says why training mode is another network, and what to do; "" where no module tells."""
    if not (paths := training_only(model, inputs)):
        return ""
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    alone, it = ("runs", "it") if len(paths) == 1 else ("run", "them")
    return (
        f": {', '.join(paths[:SHOWN])}{more} {alone} in training alone; land the network without {it}, "
        "train the old one, and convert its checkpoint"
    )
