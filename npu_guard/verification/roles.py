"""What a graph does to an input tells what the input is: an index, a size, an image from 0 to 255, or any number.

From an input, the operators that hand values on are followed up to those that give them a meaning: a Gather takes indices, a
Reshape sizes, a division by 255 pixels, a Clip has two bounds, and a Log or Sqrt takes no negative number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import onnx

from npu_guard.analysis.constants import Constants
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.ops import find_operator

_T = onnx.TensorProto
_FEW = 9
"""One more than the largest count that is drawn without a reason: several of them may multiply."""
_WAYS = 64
"""Values that are looked at for one input."""
_ASKED = 4096
"""Numbers of one comparison that are looked at."""
_MOVES_INDICES = frozenset(("Add", "Sub", "Mul", "Mod", "Min", "Max", "Clip", "Where"))
_INDEXED = {"Gather": 1, "GatherElements": 1, "ScatterElements": 1, "Scatter": 1}
"""The input that is an index along one axis, by operator."""
_COORDINATES = {"GatherND": "batch_dims", "ScatterND": ""}
"""Operators that take an index for each of several axes, and the attribute that says how many axes come before these."""
SIZES = ("axes", "extents", "position", "step", "padding", "lengths", "parameter")
"""Roles of inputs that say how many, how far, where or which axis (see `graph/op_words.py`)."""
_INTEGERS = frozenset((_T.INT8, _T.INT16, _T.INT32, _T.INT64, _T.UINT8, _T.UINT16, _T.UINT32, _T.UINT64))
_NONNEGATIVE = frozenset(("Sqrt", "Log"))


@dataclass(slots=True)
class Role:
    """What is known of the numbers of an input."""

    index: bool = False
    high: int = 2
    """One more than the largest index that is valid everywhere."""
    most: int = 0
    """One more than the largest that may be valid, where more than a look at the graph tells it."""
    extents: tuple[int, ...] = ()
    """The same for each index along the last axis, where these point at numbers of things of their own."""
    wraps: bool = False
    """Whether the index may be negative, and counts from the end then: it goes into operators that read it so, as it is."""
    size: bool = False
    low: float | None = None
    """Where the graph tells a range, as a division by 255 does, from here to `top`."""
    top: float | None = None
    positive: bool = False
    """Whether negative numbers have no meaning."""
    asked: dict[int, None] = field(default_factory=dict)
    """Integers that the graph asks it to equal, as a sampling rate or each place of a one-hot encoding."""


def role_of(value: Value, constants: Constants | None = None) -> Role:
    """The role of a graph's input. Without `constants`, what other numbers are in the graph is not looked at."""
    role, highs = Role(), list[int]()
    stack, seen = [(value, False)], {value}
    while stack and len(seen) < _WAYS:
        current, moved = stack.pop()
        for node in current.consumers:
            for i, given in enumerate(node.inputs):
                if given is current and not node.domain:
                    _judge(role, highs, node, current, i, moved, constants)
            offset = not node.domain and node.op_type in _MOVES_INDICES and current.dtype in _INTEGERS
            kind = find_operator(node.op_type, node.domain).kind
            hands_on = kind in ("view", "identity", "data mover") or node.op_type in ("Cast", "Expand", "Tile")
            follows = offset or (hands_on and (node.inputs[0] is current or node.op_type == "Concat"))
            for made in node.outputs if follows else ():
                if made is not None and made not in seen:
                    seen.add(made)
                    stack.append((made, moved or offset))
    if highs:
        role.index, role.high = True, min(highs)
        role.wraps = not role.size and not role.most
        if len(highs) > 1 or value.shape is None or value.shape[-1:] != (len(role.extents),):
            role.extents = ()
    if role.size:
        role.most = max(role.most, _FEW)
    return role


def _judge(role: Role, highs: list[int], node: Node, given: Value, place: int, moved: bool, constants: Constants | None) -> None:
    """Note what it means that a node reads the value in this place; `moved` says that something was added to it before."""
    if given.dtype in _INTEGERS and place == 1 and node.op_type in _COORDINATES:
        extents = () if moved else _extents(node, given)
        highs.append(min(extents, default=2))
        role.most = max(role.most, 0 if extents else 2)
        role.extents = extents
    elif given.dtype in _INTEGERS and _INDEXED.get(node.op_type) == place:
        highs.append(2 if moved else _extent(node))
        role.most = max(role.most, _extent(node) if moved else 0)
    elif given.dtype in _INTEGERS and find_operator(node.op_type, node.domain).role(place) in SIZES:
        role.size = True
    if constants is None:
        return
    if node.op_type in _NONNEGATIVE:
        role.positive = True
    elif node.op_type == "Equal" and given.dtype in _INTEGERS:
        other = node.input(1 - place)
        array = None if other is None else constants.get(other)
        if array is not None:  # of one number a mode, of many a one-hot encoding
            role.asked.update(dict.fromkeys(int(n) for n in array.reshape(-1)[:_ASKED]))
    elif node.op_type in ("Div", "Mul", "Sub") and place == 0:
        other = node.input(1)
        array = None if other is None else constants.get(other)
        if array is not None and array.size and np.isfinite(array).all():
            _scaled(role, node.op_type, float(np.abs(array.astype(np.float64)).max()))
    elif node.op_type == "Clip" and place == 0:
        low, high = (_bound(node, i, name, constants) for i, name in ((1, "min"), (2, "max")))
        if low is not None and high is not None and low < high:  # both bounds are to be crossed
            reach = high - low
            role.low, role.top = low - 0.5 * reach, high + 0.5 * reach


def _scaled(role: Role, op_type: str, number: float) -> None:
    """A range from the first number that an input is divided by, multiplied with, or that is taken from it."""
    top = {"Div": number, "Mul": 1.0 / number if number else math.inf, "Sub": 2.0 * number}[op_type]
    if op_type == "Sub":  # a mean: of pixels, or of what pixels are once they were divided
        top = 255.0 if number > 2.0 else 1.0
    if 1.0 <= top <= 65536.0 and role.top is None:
        role.low, role.top = 0.0, 255.0 if 100.0 <= top <= 300.0 else top


def _extent(node: Node) -> int:
    """How many things an index of this node may point at."""
    data = node.inputs[0]
    axis = node.attr("axis", 0)
    if data is None or not data.shape or not -len(data.shape) <= axis < len(data.shape):
        return 2
    extent = data.shape[axis]
    return extent if isinstance(extent, int) else 2


def _extents(node: Node, indices: Value) -> tuple[int, ...]:
    """How many things each index along the last axis may point at; empty where that is not known."""
    data, attribute = node.inputs[0], _COORDINATES[node.op_type]
    first = node.attr(attribute, 0) if attribute else 0
    last = indices.shape[-1] if indices.shape else None
    if data is None or not data.shape or not isinstance(last, int):
        return ()
    extents = data.shape[first : first + last]
    whole = tuple(d for d in extents if isinstance(d, int))
    return whole if len(whole) == last else ()


def _bound(node: Node, place: int, name: str, constants: Constants) -> float | None:
    given = node.input(place)
    array = None if given is None else constants.get(given)
    if array is not None and array.size == 1:
        return float(array.reshape(()))
    attribute = node.attributes.get(name)
    return float(attribute) if isinstance(attribute, int | float) else None
