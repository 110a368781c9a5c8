"""Where a model has a device's patterns: groups of operators that the compiler takes as one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from npu_guard.analysis.quantized.standing import type_of
from npu_guard.base.errors import Undecidable

if TYPE_CHECKING:
    from npu_guard.analysis.facts import Facts
    from npu_guard.device.pattern import Pattern
    from npu_guard.graph.graph import Node, Value

Binding = Mapping[str, "Value"]
_EITHER_ORDER = frozenset({"Add", "Mul", "Max", "Min", "Sum", "And", "Or", "Xor", "Equal"})
_NEAR = 1e-6
"""How near a constant comes to the number that it must be: rknn-toolkit2 takes 1.4142135 for the root of 2, and not 1.4142."""


def taken(patterns: Sequence[Pattern], nodes: Iterable[Node], facts: Facts) -> Mapping[Node, tuple[Pattern, Node]]:
    """The pattern that takes each node, with the node that gives its result.

    What one has taken is left to no other; larger groups come first, as what a compiler sees in a whole it does not see in parts.
    """
    by_op: dict[str, list[Pattern]] = defaultdict(list)
    for pattern in patterns:
        by_op[pattern.root_op].append(pattern)
    roots = [(root, pattern) for root in (nodes if patterns else ()) for pattern in by_op.get(root.op, ())]
    owned: dict[Node, tuple[Pattern, Node]] = {}
    for root, pattern in sorted(roots, key=lambda pair: -len(pair[1].lines)):
        if root in owned:
            continue
        group = _group(pattern, root, facts)
        if group and not any(node in owned for node in group):
            owned.update(dict.fromkeys(group, (pattern, root)))
    return owned


def _group(pattern: Pattern, root: Node, facts: Facts) -> tuple[Node, ...]:
    """The nodes of a pattern with this root; none where it does not match."""
    for binding in _bound(pattern, pattern.root, root.output, {}, facts):
        group = {name: node for name in pattern.lines if (node := binding[name].producer) is not None}
        group |= _pairs(pattern, group, facts)
        inner = [node.output for name, node in group.items() if name != pattern.root and name not in pattern.shared]
        if all(_is_own(value, group, facts) for value in inner) and not _is_rounded(pattern, binding, facts):
            return tuple(group.values())
    return ()


def _is_rounded(pattern: Pattern, binding: Binding, facts: Facts) -> bool:
    """Whether the network stands for one in integers with pairs between the lines, through which the compiler does not see."""
    inner = () if pattern.quantized else (name for name in pattern.lines if name != pattern.root)
    return any(type_of(binding[name], facts.analysis) is not None for name in inner)


def _pairs(pattern: Pattern, group: Mapping[str, Node], facts: Facts) -> dict[str, Node]:
    """The quantizing operators between the lines of a group, under names of their own."""
    values = [v for node in group.values() for v in node.inputs if v is not None] if pattern.quantized else []
    between = [nodes for value in values for before, nodes in [_unquantized(value, facts)] if before.producer in group.values()]
    return {f"{node.op_type} {node.output.name}": node for nodes in between for node in nodes}


def _unquantized(value: Value, facts: Facts) -> tuple[Value, tuple[Node, ...]]:
    """The value before a QuantizeLinear and a DequantizeLinear of the whole tensor, and these; else the value itself."""
    found: list[Node] = []
    source = facts.analysis.origin(value)
    for op in ("DequantizeLinear", "QuantizeLinear"):
        node = source.producer
        scale = node.input(1) if node is not None and node.op == op else None
        if node is None or scale is None or scale.shape is None or any(d != 1 for d in scale.shape) or node.inputs[0] is None:
            return value, ()
        found.append(node)
        source = facts.analysis.origin(node.inputs[0])
    return source, tuple(found)


def _is_own(value: Value, group: Mapping[str, Node], facts: Facts) -> bool:
    return not value.is_output and all(reader in group.values() for reader in facts.analysis.reading(value))


def _bound(pattern: Pattern, name: str, value: Value | None, known: Binding, facts: Facts) -> Iterator[Binding]:
    """Ways in which a value, and all behind it, is what a name of the pattern stands for; elided nodes may lie between."""
    if value is None:
        return
    yield from _bound_as(pattern, name, value, known, facts)
    origin = facts.analysis.origin(value)
    if origin is not value:
        yield from _bound_as(pattern, name, origin, known, facts)
    if pattern.quantized and name in pattern.lines and name != pattern.root:
        before, nodes = _unquantized(value, facts)
        if nodes:
            yield from _bound_as(pattern, name, before, known, facts)


def _bound_as(pattern: Pattern, name: str, value: Value, known: Binding, facts: Facts) -> Iterator[Binding]:
    if name in known:
        if known[name] is value:
            yield known
        return
    if not _keeps(pattern, name, value, facts):
        return
    line, node = pattern.lines.get(name), value.producer
    found = {**known, name: value}
    if line is None:
        yield found
    elif node is not None and node.op == line.op and node.outputs[0] is value and len(node.inputs) == len(line.inputs):
        if not all(clause.judge(node, facts).fits for clause in pattern.where.get(name, ())):
            return
        either = line.op in _EITHER_ORDER and len(node.inputs) == 2 and name not in pattern.ordered
        for inputs in permutations(node.inputs) if either else (node.inputs,):
            yield from _all_bound(pattern, line.inputs, inputs, found, facts)


def _all_bound(
    pattern: Pattern, names: Sequence[str], values: Sequence[Value | None], known: Binding, facts: Facts
) -> Iterator[Binding]:
    if not names:
        yield known
        return
    for binding in _bound(pattern, names[0], values[0], known, facts):
        yield from _all_bound(pattern, names[1:], values[1:], binding, facts)


def _keeps(pattern: Pattern, name: str, value: Value, facts: Facts) -> bool:
    """Whether a value is the constant, and of the rank, that the pattern asks for."""
    rank = pattern.ranks.get(name)
    if rank is not None and (value.shape is None or len(value.shape) > rank):
        return False
    wanted = pattern.constants.get(name)
    if wanted is None:
        return True
    if not facts.is_constant(value):
        return False
    if isinstance(wanted, str):
        return True
    try:
        return bool(np.allclose(facts.array(value).astype(np.float64), wanted, rtol=_NEAR, atol=0))
    except (Undecidable, TypeError, ValueError):
        return False
