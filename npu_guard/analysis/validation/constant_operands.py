"""Whether the constants that a node reads are ones it can use: sizes, scales, pads, indices.

Only small constants are looked at, and none of them is a weight.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from npu_guard.analysis.constants import Array, Constants
from npu_guard.graph.graph import Node


def _value(node: Node, constants: Constants, index: int) -> Array | None:
    given = node.input(index)
    return None if given is None else constants.get(given)


def _not_negative(what: str, index: int) -> Check:
    def check(node: Node, constants: Constants) -> str | None:
        found = _value(node, constants, index)
        return f"its {what} is {_listed(found)}, with a negative entry" if found is not None and (found < 0).any() else None

    return check


def _listed(found: Array) -> str:
    shown = found.reshape(-1)[:8].tolist()
    return str(shown if found.ndim else found.item()) if found.size <= 8 else f"{str(shown)[:-1]}, ...]"


def _resize(node: Node, constants: Constants) -> str | None:
    scales, sizes = (1, None) if node.op_type == "Upsample" or len(node.inputs) == 2 else (2, 3)
    found = _value(node, constants, scales)
    if found is not None and not (found > 0).all():
        return f"its scales are {_listed(found)} and must be more than 0"
    found = None if sizes is None else _value(node, constants, sizes)
    return f"its sizes are {_listed(found)} and must be more than 0" if found is not None and not (found > 0).all() else None


def _pad(node: Node, constants: Constants) -> str | None:
    pads, x = _value(node, constants, 1), node.inputs[0].shape if node.inputs and node.inputs[0] is not None else None
    if pads is None or x is None or node.input(3) is not None or pads.shape != (2 * len(x),):
        return None
    for axis, extent in enumerate(x):
        left = int(pads[axis]) + int(pads[axis + len(x)])
        if isinstance(extent, int) and extent + left < 0:
            return f"its pads {_listed(pads)} take more from axis {axis} than its extent of {extent}"
    return None


def _gather(node: Node, constants: Constants) -> str | None:
    data, given = node.input(0), node.input(1)
    if (
        data is None
        or data.shape is None
        or given is None
        or (given.producer is not None and given.producer.op_type != "Constant")
        or node.graph.parent is not None
    ):
        # Indices that follow from shapes are the exporter's arithmetic, and cost more to ask for; a branch may never run.
        return None
    axis = node.attr("axis", 0)
    if not -len(data.shape) <= axis < len(data.shape):
        return None
    extent = data.shape[axis]
    found = constants.get(given) if isinstance(extent, int) else None
    if found is None or not isinstance(extent, int) or not found.size:
        return None
    worst = next((int(i) for i in (found.min(), found.max()) if not -extent <= i < extent), None)
    return None if worst is None else f"it reads index {worst} of axis {axis}, which has extent {extent}"


def _cumsum(node: Node, constants: Constants) -> str | None:
    x, axis = node.input(0), _value(node, constants, 1)
    if x is None or x.shape is None or axis is None or axis.size != 1:
        return None
    at = int(axis.reshape(-1)[0])
    return None if -len(x.shape) <= at < len(x.shape) else f"its axis is {at} and its input has rank {len(x.shape)}"


def _slice(node: Node, constants: Constants) -> str | None:
    x, axes = node.input(0), node.input(3)
    if x is None or x.shape is None or axes is None or axes.initializer is None or (found := constants.get(axes)) is None:
        return None
    rank = len(x.shape)
    named = [int(i) for i in found.reshape(-1)[: rank + 1]]
    wrong = next((i for i in named if not -rank <= i < rank), None)
    if wrong is not None:
        return f"it names axis {wrong} and its input has rank {rank}"
    return f"its axes {_listed(found)} name one twice" if len({i % rank for i in named}) < len(named) else None


def _range(node: Node, constants: Constants) -> str | None:
    step = _value(node, constants, 2)
    return "its step is 0" if step is not None and step.size == 1 and not step.any() else None


def _filled(node: Node, constants: Constants) -> str | None:
    value = node.attributes.get("value")
    if value is not None and int(np.prod(value.dims, dtype=object)) != 1:
        return f"its value has the shape {list(value.dims)} and must be a single element"
    return _not_negative("shape", 0)(node, constants)


def _dropout(node: Node, constants: Constants) -> str | None:
    ratio = _value(node, constants, 1)
    wrong = ratio is not None and ratio.size == 1 and not 0 <= float(ratio.reshape(-1)[0]) < 1
    return f"its ratio is {_listed(ratio)} and must be in [0, 1)" if wrong and ratio is not None else None


Check = Callable[[Node, Constants], str | None]
CHECKS: dict[str, Check] = {
    "Resize": _resize,
    "Upsample": _resize,
    "Pad": _pad,
    "Gather": _gather,
    "CumSum": _cumsum,
    "Dropout": _dropout,
    "Range": _range,
    "Slice": _slice,
    "ConstantOfShape": _filled,
    "Expand": _not_negative("shape", 1),
    "Tile": _not_negative("repeats", 1),
    "TopK": _not_negative("k", 1),
    "Split": _not_negative("split", 1),
}
