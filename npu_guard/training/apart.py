"""Weights that were one and are several now: an optimizer moves each by its own gradient, where the old one had the sum of both.

Parts of a weight that was taken apart are none: together they have as many elements as it had.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from torch import nn

from npu_guard.rewriting import roles
from npu_guard.training.graph import Graph
from npu_guard.training.landing import Landing

SHOWN = 3
"""Groups of names, and names of one, that the sentence gives."""


def apart_of(landing: Landing, patched: nn.Module) -> list[str]:
    """A sentence about the weights of the original that are trained in several places of the patched network; none without."""
    original = Graph.read(landing.original)
    held: dict[str, dict[str, int]] = defaultdict(dict)
    for source, name, elements in _tensors(landing):
        held[source][name] = elements
    new = {name for names in held.values() for name in names}
    for name, parameter in patched.named_parameters():
        if name in held and name not in new:
            held[name][name] = parameter.numel()  # a module that stays has it as well
    found = []
    for source, names in held.items():
        if len(names) > 1 and source in original.constants and sum(names.values()) > math.prod(original.shape(source)):
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            found.append(", ".join([*names][:SHOWN]) + more)
    if not found:
        return []
    more = f"; and {len(found) - SHOWN} groups more" if len(found) > SHOWN else ""
    return [
        f"trained apart, and one weight before: {'; '.join(found[:SHOWN])}{more} "
        "(npu_guard.torch.apply with swap_at_export=True trains the one)"
    ]


def _tensors(landing: Landing) -> Iterator[tuple[str, str, int]]:
    """The weight that a tensor is computed from alone, its name in the network, and how many of its elements are trained."""
    for place in landing.plan.places:
        prefix = f"{place.path}." if place.path else ""
        for name, parameter in place.written.state.items():
            role = parameter.role
            if parameter.trained and role.kind == roles.TRAINED and len(role.sources) == 1:
                yield role.sources[0], prefix + name, int((~role.fixed(parameter.array.shape)).sum())
