"""A choice by a computed condition: operands of three kinds in one arrangement, in which the condition does not move."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from npu_guard.rewriting.maps.algebra import extended, joined, restricted
from npu_guard.rewriting.maps.program import Operand, shape_of
from npu_guard.rewriting.maps.step import Step
from npu_guard.rewriting.maps.tensors import Laid, Stored
from npu_guard.rewriting.substitution import Refused
from npu_guard.rewriting.views import Axis


def chosen(step: Step) -> Laid:
    """Where, as it is, of what lies in maps: what else the device needs is a form of that node. Raises Refused.

    What moves numbers convolves them, which a condition is no operand of; so it stays, and the others come to it.
    """
    places = [i for i in range(3) if step.constant(i) is None]
    held = _alike([step.tensor(i) for i in places])
    target = _meeting(step, held)
    laid = dict(zip(places, (step.maps.laid(x, restricted(x, target)) for x in held), strict=True))
    frame = Laid(_axes(held), target, laid[0].name)
    operands: list[Operand] = []
    for i, value in enumerate(step.node.inputs):
        assert value is not None
        if i in laid:
            operands.append(laid[i].name)
            continue
        spread, operand = step.beside(frame, value)
        if spread.stored != target:
            raise Refused("Where chooses from a constant along axes that nothing else has")
        frame = replace(frame, axes=spread.axes)
        operands.append(operand)
    shape = np.broadcast_shapes(*(shape_of(o) for o in operands if o is not None))
    program = step.maps.program
    return replace(frame, name=program.op("Where", shape, *operands, dtype=step.node.output.dtype))


def _alike(held: Sequence[Laid]) -> list[Laid]:
    """The tensors with the same factors on axes that run along each other. Raises Refused."""
    rank = max(len(x.axes) for x in held)
    made = [replace(x, axes=((),) * (rank - len(x.axes)) + x.axes) for x in held]
    base = max(range(len(made)), key=lambda i: sum(map(bool, made[i].axes)))
    if any(any(axis and not mine for axis, mine in zip(x.axes, made[base].axes, strict=True)) for x in made):
        raise Refused("Where chooses between tensors of which none has all axes")
    for _ in range(2):  # what cuts a factor of one later on is told to those before it
        for i in range(len(made)):
            if i != base:
                made[base], made[i] = joined(made[base], made[i])
    return made


def _axes(held: Sequence[Laid]) -> tuple[Axis, ...]:
    return max((x.axes for x in held), key=lambda axes: sum(map(bool, axes)))


def _meeting(step: Step, held: Sequence[Laid]) -> Stored:
    """The cheapest arrangement that all broadcast in and the condition, which is the first, lies in already. Raises Refused."""
    found: dict[Stored, float] = {}
    for x in held:
        target = x.stored
        for other in held:
            target = extended(target, other.stored)
        if held[0].stored == restricted(held[0], target):
            found[target] = sum(step.maps.cost(y, restricted(y, target)) for y in held)
    if not found:
        raise Refused("Where chooses by a condition that lies in another order")
    return min(found, key=found.__getitem__)
