"""Softmax over any axes of tensors that lie in maps, and masks in front of it."""

from __future__ import annotations

from msgspec.structs import replace

from npu_guard.graph.graph import Node
from npu_guard.rewriting.maps.algebra import Maps, stored
from npu_guard.rewriting.maps.factors import CHANNELS, COLUMNS, PIECE
from npu_guard.rewriting.maps.step import Step, flat
from npu_guard.rewriting.maps.tensors import Laid, Stored
from npu_guard.rewriting.substitution import Refused
from npu_guard.rewriting.views import Atom, atoms, size

_NAMES = ("Softmax", "LogSoftmax")


def softmax(maps: Maps, x: Laid, over: frozenset[Atom], op_type: str = "Softmax") -> Laid:
    """Softmax over the channels, for each part of them that is not run over apart. Raises Refused.

    Before opset 13 it runs over all axes from the one that it names, so that it is over columns there.
    """
    if not over:
        raise Refused(f"{op_type} over an axis of one element")
    target = _target(maps, x, over)
    x = maps.laid(x, target)
    if maps.program.opset < 13:
        return replace(x, name=maps.program.one(op_type, x.name, axis=COLUMNS))
    order = tuple(a for a in target[CHANNELS] if a in over)
    runs = size(target[CHANNELS]) // size(order)
    parts = maps.program.split(x.name, CHANNELS, [size(order)] * runs)
    return replace(x, name=maps.program.concat([maps.program.one(op_type, p, axis=CHANNELS) for p in parts], CHANNELS))


def where_it_is_taken(step: Step, x: Laid) -> Laid:
    """What is masked next, moved to where the softmax that alone reads it takes it.

    Behind the mask it has infinite numbers, of which a convolution with weights 0 and 1 would make NaN.
    """
    node = step.ctx.analysis.only_reader(step.node.output)
    rank = len(step.shape)
    if node is None or node.op_type not in _NAMES or len(x.axes) > rank:
        return x
    spread = replace(x, axes=((),) * (rank - len(x.axes)) + x.axes)
    over = softmax_axes(node, spread)
    return step.maps.laid(x, _target(step.maps, spread, over)) if over and over <= x.held else x


def softmax_axes(node: Node, x: Laid) -> frozenset[Atom]:
    """The factors over which a softmax runs."""
    opset = node.graph.model.opsets.get("", 1)
    axis = node.attr("axis", -1 if opset >= 13 else 1) % len(x.axes)
    return frozenset(flat(x.axes[axis:]) if opset < 13 else x.axes[axis])


def _target(maps: Maps, x: Laid, over: frozenset[Atom]) -> Stored:
    """The arrangement with these factors on the channels, innermost, that costs least; before opset 13 on columns, alone."""
    order = tuple(a for axis in stored(x.stored[i] for i in (1, 2, 3, 0)) for a in axis if a in over)
    order = (*order, *(a for a in atoms(x.axes) if a in over and a not in order))
    rest = [tuple(a for a in axis if a not in over) for axis in x.stored]
    if maps.program.opset < 13:
        return stored((rest[0], rest[1], (*rest[2], *rest[3]), order))
    choices = [stored((rest[0], (*rest[1], *order), rest[2], rest[3]))]
    if rest[CHANNELS]:
        choices += [
            stored((rest[0], order, (*rest[1], *rest[2]), rest[3])),
            stored((rest[0], order, rest[2], (*rest[1], *rest[3]))),
        ]
    return min(choices, key=lambda t: maps.cost(x, t) + 2 * PIECE * size(t[CHANNELS][: len(t[CHANNELS]) - len(order)]))
