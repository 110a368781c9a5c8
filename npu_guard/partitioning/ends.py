"""Whether what the device refuses is at the ends of a network, so that the rest of it stays one piece on the NPU."""

from __future__ import annotations

from collections.abc import Collection

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.cost import uncounted
from npu_guard.graph.graph import Node

SHARE = 0.05
"""Share of the MACs that a host may take over: beyond that, a network is cut in the middle."""


def refused_ends(analysis: Analysis, refused: Collection[str]) -> str:
    """`head`, `tail`, `head and tail`, or nothing where the host would have to come in between or would have most of the work.

    `refused` are the first outputs of nodes that cannot stay on the NPU, those in bodies of control flow included, and inputs
    that no node on the NPU may read. What a head needs goes to the host with it, and so does what a tail feeds. Where the MACs of
    a node are not known, as shapes are open, nobody knows whose the most work is. The time is linear in the nodes.
    """
    if analysis.unknown and uncounted(analysis.costs):
        return ""
    nodes = analysis.model.graph.nodes
    macs: dict[Node, int] = {}
    stuck: set[Node] = set()
    feeds: dict[Node, dict[Node, None]] = {}
    for node in nodes:
        macs[node] = 0
        bodies = node.subgraphs
        for part in (node, *(inner for _, body in bodies for inner in body.walk())) if bodies else (node,):
            cost = analysis.costs.get(part)
            macs[node] += cost.macs if cost is not None else 0
            if part.outputs and part.output.name in refused:
                stuck.add(node)
        read = [v for v in (node.reads() if bodies else node.inputs) if v is not None]
        if any(v.producer is None and v.name in refused for v in read):
            stuck.add(node)
        feeds[node] = {v.producer: None for v in read if v.producer in feeds}
    most = SHARE * sum(macs.values())
    if not stuck or not most:
        return ""
    before: dict[Node, float] = {}  # MACs on the way to a node, those of shared ways more than once: never too few
    for node in nodes:
        before[node] = min(macs[node] + sum(before[n] for n in feeds[node]), 2 * most)
    head = {node for node in stuck if before[node] <= most}
    tail = stuck - head
    for node in reversed(nodes):
        if node in head:
            head.update(feeds[node])
    for node in nodes:
        if not tail.isdisjoint(feeds[node]):
            tail.add(node)
    if sum(macs[node] for node in head | tail) > most:
        return ""
    return " and ".join(name for name, part in (("head", head), ("tail", tail)) if part)
