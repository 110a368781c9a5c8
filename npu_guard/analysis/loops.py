"""Shapes of what a Loop carries from turn to turn: those that it begins with, where a turn keeps them."""

from __future__ import annotations

from collections.abc import Callable

from npu_guard.graph.graph import Graph, Node, Value, is_known

Infer = Callable[[Graph], None]
_DEPTH, _ROUNDS = 3, 4
"""Bodies in bodies that are looked into, and how often one is asked: each level asks those inside anew."""


def carried(node: Node, infer: Infer) -> list[Value]:
    """States of a Loop and of its body that have a shape now. `infer` fills in what is unknown in a body.

    By induction: a turn that is given the first shapes gives them back, so that every turn does. What a turn does not keep is
    taken to be open, and all is asked again.
    """
    body, count = dict(node.subgraphs).get("body"), max(0, len(node.inputs) - 2)
    if body is None or _depth(body) > _DEPTH or not any(v is not None and v.shape is None for v in node.outputs[:count]):
        return []
    states = list(zip(node.inputs[2:], body.inputs[2:], body.outputs[1 : 1 + count], node.outputs, strict=False))
    held = [s for s in states if s[0] is not None and is_known(s[0].shape) and s[1].shape in (None, s[0].shape)]
    inside = [v for graph in _within(body) for v in graph.values.values()]
    before = [(v.dtype, v.shape) for v in inside]
    for turn in range(_ROUNDS if held else 0):
        for first, given, _, _ in held:
            assert first is not None
            given.dtype, given.shape = given.dtype or first.dtype, first.shape
        infer(body)
        kept = [s for s in held if s[0] is not None and s[2].shape == s[0].shape]
        if len(kept) == len(held):
            break
        for value, (dtype, shape) in zip(inside, before, strict=True):
            value.dtype, value.shape = dtype, shape
        held = kept if turn < _ROUNDS - 1 else []
        if not held:
            break
    for first, _, _, made in held:
        if first is not None and made is not None:
            made.dtype, made.shape = made.dtype or first.dtype, first.shape
    changed = [v for v, was in zip(inside, before, strict=True) if (v.dtype, v.shape) != was]
    return [*changed, *(made for _, _, _, made in held if made is not None)]


def _depth(graph: Graph) -> int:
    return 0 if graph.parent is None else 1 + _depth(graph.parent)


def _within(graph: Graph) -> list[Graph]:
    return [graph, *(g for node in graph.nodes for _, body in node.subgraphs for g in _within(body))]
