"""What `fix` has changed, in groups of operators that hang together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass

from npu_guard.training.graph import Graph, Op


@dataclass(slots=True, eq=False)
class Change:
    """Operators of the original that are gone, and those of the fixed model that stand in their place."""

    old: list[Op]
    new: list[Op]

    @property
    def substitutions(self) -> tuple[str, ...]:
        """Names of the substitutions, in the order in which they first appear."""
        return tuple(dict.fromkeys(name for op in self.new for name in op.substitutions))


def surviving(before: Graph, after: Graph) -> set[str]:
    """Names of values that both graphs have, with the same extents: where a block may begin and end."""
    both = (before.producer.keys() & after.producer.keys()) | set(before.inputs)
    return {name for name in both if before.shape(name) == after.shape(name)}


def changes(before: Graph, after: Graph, survivors: set[str]) -> list[Change]:
    """Changed operators in connected groups: those that share a value which only one of the graphs has, or provide the same."""
    known = {op.outputs[0]: op for op in before.ops}
    kept = {op.outputs[0] for op in after.ops if op.outputs[0] in known and op.same(known[op.outputs[0]])}
    parents: dict[Hashable, Hashable] = {}

    def root(item: Hashable) -> Hashable:
        path = []
        while (parent := parents.setdefault(item, item)) != item:
            path.append(item)
            item = parent
        for passed in path:
            parents[passed] = item
        return item

    changed = [("old", op, before) for op in before.ops if op.outputs[0] not in kept]
    changed += [("new", op, after) for op in after.ops if op.outputs[0] not in kept]
    for side, op, graph in changed:
        for name in (*op.inputs, *op.outputs):
            if not name or name in graph.constants:
                continue
            if name not in survivors:
                parents[root((side, op))] = root((side, name))
            elif name in op.outputs:
                parents[root((side, op))] = root(("both", name))
    groups: dict[Hashable, Change] = defaultdict(lambda: Change([], []))
    for side, op, _ in changed:
        group = groups[root((side, op))]
        (group.old if side == "old" else group.new).append(op)
    return list(groups.values())
