"""Which replaced block is it, where every block holds on its own and the whole model differs all the same?

A block is compared on a few inputs, the whole with all; so a difference may show only there. What follows the first tensor
that both models have and give otherwise is not asked: between it and the tensors before it, which agree, lies the culprit. Where
that are several blocks, or nothing is told, some are given back as long as the whole model agrees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from npu_guard.fixing.block_check import describe_difference
from npu_guard.results.findings import Applied, RefusedMatch
from npu_guard.results.verification import Verification
from npu_guard.verification.bisect import Side, first_divergence
from npu_guard.verification.feeds import Feed
from npu_guard.verification.runtime import Runtime

ATTEMPTS = 3
"""How often a model is fixed again without the culprits before it is given up."""
RETURNS = 8
"""How often it is fixed once more with some of several suspects given back."""
Key = tuple[str, str]
"""A substitution and the tensor at which it was applied."""


def culprits(
    runtime: Runtime, before: Side, after: Side, applied: Sequence[Applied], feeds: Sequence[Feed], whole: Verification
) -> dict[Key, RefusedMatch]:
    """Blocks that make the first tensor that differs, to be left as they were; none where that cannot be told."""
    first = first_divergence(runtime, before, after, feeds).name
    value = None if first is None else after.analysis.model.graph.values.get(first)
    if value is None:
        return {}
    makers = {name: step for step in applied for name in step.nodes_after if name}
    common = before.analysis.model.graph.values
    found: dict[Key, RefusedMatch] = {}
    stack, seen = [value], {value}
    while stack:
        node = stack.pop().producer
        if node is None:
            continue
        if (step := makers.get(node.name)) is not None:
            reason = f"rolled back: with it, the whole model differs from {first!r} on ({describe_difference(whole)})"
            found[step.substitution, step.at] = RefusedMatch(step.substitution, step.node, reason, (step.at,))
        for given in node.inputs:
            if given is not None and given not in seen and given.name not in common:
                seen.add(given)
                stack.append(given)
    return found


def everything(applied: Sequence[Applied], whole: Verification) -> dict[Key, RefusedMatch]:
    """All blocks, where nothing tells which it is."""
    reason = f"rolled back: with it, the whole model differs ({describe_difference(whole)})"
    return {(step.substitution, step.at): RefusedMatch(step.substitution, step.node, reason, (step.at,)) for step in applied}


def narrowed(suspects: Sequence[Key], holds: Callable[[Sequence[Key]], bool], most: int = RETURNS) -> Sequence[Key]:
    """The fewest suspects that have to be left out, as far as `most` questions tell.

    `holds` tells whether all is well where these alone are left out; it is where all of them are, and where it is not, it is not
    with fewer either. Parts are given back, halves first and smaller ones where none of them can be (delta debugging: Zeller and
    Hildebrandt 2002).
    """
    too_few: list[set[Key]] = []
    parts = 2
    while len(suspects) > 1 and parts <= len(suspects):
        size = -(-len(suspects) // parts)
        for start in range(0, len(suspects), size):
            rest = [*suspects[:start], *suspects[start + size :]]
            if any(known.issuperset(rest) for known in too_few):
                continue
            if not most:
                return suspects
            most -= 1
            if holds(rest):
                suspects, parts = rest, max(2, parts - 1)
                break
            too_few.append(set(rest))
        else:
            if size == 1:
                break
            parts = min(2 * parts, len(suspects))
    return suspects
