"""Weights that were one and are several now: an optimizer moves each by its own gradient, where the old one had the sum of both.

Parts of a weight that was taken apart are none: together they have as many elements as it had.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from torch import nn

from npu_guard.rewriting import roles
from npu_guard.training.graph import Graph
from npu_guard.training.landing import Landing

SHOWN = 3
"""Names that a sentence gives."""


def apart_of(landing: Landing, patched: nn.Module) -> list[str]:
    """A sentence for each weight of the original that is trained in several places of the patched network."""
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
        size = 1
        for extent in original.shape(source) if source in original.constants else ():
            size *= extent
        if source in original.constants and len(names) > 1 and sum(names.values()) > size:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            found.append(
                f"{', '.join([*names][:SHOWN])}{more} were one weight and are trained apart; "
                "npu_guard.torch.apply with swap_at_export=True trains it as one"
            )
    return found


def _tensors(landing: Landing) -> Iterator[tuple[str, str, int]]:
    """The weight that a tensor is computed from alone, its name in the network, and how many of its elements are trained."""
    for place in landing.plan.places:
        prefix = f"{place.path}." if place.path else ""
        for name, parameter in place.written.state.items():
            role = parameter.role
            if parameter.trained and role.kind == roles.TRAINED and len(role.sources) == 1:
                yield role.sources[0], prefix + name, int((~role.fixed(parameter.array.shape)).sum())
