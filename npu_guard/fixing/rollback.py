"""Which replaced block is it, where every block holds on its own and the whole model differs all the same?

A block is compared on a few inputs, the whole with all; so a difference may show only there. What follows the first tensor
that both models have and give otherwise is not asked: between it and the tensors before it, which agree, lies the culprit.
"""

from __future__ import annotations

from collections.abc import Sequence

from npu_guard.fixing.block_check import describe_difference
from npu_guard.results.findings import Applied, RefusedMatch
from npu_guard.results.verification import Verification
from npu_guard.verification.bisect import Side, first_divergence
from npu_guard.verification.feeds import Feed
from npu_guard.verification.runtime import Runtime

ATTEMPTS = 3
"""How often a model is fixed again without the culprits before it is given up."""
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
