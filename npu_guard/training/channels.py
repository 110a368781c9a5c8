"""Which channels of a value are made of weights: the others were added, before, behind or between those of the original."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npu_guard.rewriting import roles
from npu_guard.training.graph import Graph, Op

Mask = NDArray[np.bool_]
DEEPEST = 200
"""Operators in a row that are looked through."""


def live_channels(graph: Graph, name: str, depth: int = 0) -> Mask | None:
    """True for each channel of a value, axis 1, that depends on a weight of the convolutions which make it; None if unknown."""
    op = graph.producer.get(name)
    if op is None or depth > DEEPEST:
        return None
    if op.type in ("Conv", "ConvTranspose"):
        return _of_kernel(graph, op)
    given = [i for i in op.inputs if i and i not in graph.constants]
    found = [live_channels(graph, i, depth + 1) for i in given]
    known = [mask for mask in found if mask is not None]
    if not known or len(known) < len(found):
        return None
    if op.type == "Concat":
        return np.concatenate(known) if op.attributes["axis"] in (1, 1 - len(graph.shape(name))) else _either(known)
    channels = graph.shape(name)[1:2]
    return _either(known) if all(mask.shape == channels for mask in known) else None


def _either(masks: list[Mask]) -> Mask | None:
    return np.any(masks, 0) if len({mask.shape for mask in masks}) == 1 else None


def _of_kernel(graph: Graph, op: Op) -> Mask | None:
    weight = op.inputs[1]
    role = roles.read(graph.constants[weight]) if weight in graph.constants else None
    if role is None or role.kind != roles.TRAINED:
        return None
    shape = graph.shape(weight)
    fixed = role.fixed(shape)
    if op.type == "Conv":
        return np.asarray(~fixed.reshape(shape[0], -1).all(1))
    groups = op.attributes.get("group", 1)
    own = fixed.reshape(groups, shape[0] // groups, shape[1], -1)
    return np.asarray(~own.all((1, 3)).reshape(-1))
