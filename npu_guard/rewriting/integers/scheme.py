"""Scales of a network changed to what a device takes.

Exact: the same integers in a type of the other sign, and one scale on both sides of what only moves numbers. Approximate: zero
points in the middle, powers of two, and one scale for operands that the device wants to share it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import onnx
from msgspec import Struct

from npu_guard.analysis.quantized.held import Held, span
from npu_guard.graph.graph import Node

_T = onnx.TensorProto
_OTHER_SIGN: Mapping[int, int] = {_T.UINT8: _T.INT8, _T.INT8: _T.UINT8, _T.UINT16: _T.INT16, _T.INT16: _T.UINT16}


class Wanted(Struct, frozen=True):
    """What a device takes; empty and None stand for anything."""

    types: Collection[int] = ()
    symmetric: Collection[int] = ()
    """Types of activations whose zero point is in the middle."""
    powers: bool = False
    same_scale: Collection[str] = ()
    same_operands: Collection[str] = ()
    channel_operators: Collection[str] | None = None
    """Operators whose weights may have a scale for each channel."""
    by_channel: bool = True
    """Whether any weights may."""
    weight_types: Collection[int] = ()
    weights_symmetric: Collection[int] = ()
    """Types of weights whose zero point is in the middle."""
    whole: bool = False
    """Whether all operators have to be in integers."""
    approximate: bool = False
    """Whether numbers may be rounded to other scales for it."""

    @property
    def fills(self) -> bool:
        """Whether what is in floating point between integers becomes integers too."""
        return self.whole and self.approximate


def middle(dtype: int) -> int:
    """The integer that stands for 0 where numbers are held symmetrically."""
    low, high = span(dtype)
    return (low + high + 1) // 2


def of_other_sign(held: Held) -> Held:
    """The same numbers as integers of the type with the other sign: all are as far from its least."""
    other = _OTHER_SIGN.get(held.dtype)
    if other is None:
        return held
    return Held(other, held.scale, held.zero - span(held.dtype)[0] + span(other)[0])


def fitted(held: Held, wanted: Wanted) -> Held:
    """A tensor as the device takes it."""
    if wanted.types and held.dtype not in wanted.types and _OTHER_SIGN.get(held.dtype) in wanted.types:
        held = of_other_sign(held)
    if not wanted.approximate:
        return held
    low, high = span(held.dtype)
    scale, zero = float(held.scale), held.zero
    if held.dtype in wanted.symmetric and zero != middle(held.dtype):
        least, most = (low - zero) * scale, (high - zero) * scale
        zero = middle(held.dtype)
        scale = max(-least, most) / (high - zero)
    if wanted.powers:
        scale = 2.0 ** math.ceil(math.log2(scale) - 1e-6)
    return held if (scale, zero) == (float(held.scale), held.zero) else Held(held.dtype, np.asarray(scale, np.float32), zero)


def shared(held: dict[str, Held], nodes: Iterable[Node], wanted: Wanted, new: Collection[str]) -> None:
    """Give tensors that the device wants to share a scale the largest of theirs; `new` ones in any case, as they had none.

    Others keep theirs unless rounding is allowed, and new ones beside them have it where it is the largest.
    """
    if not (wanted.same_scale or wanted.same_operands):
        return
    group: dict[str, str] = {name: name for name in held}

    def root(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    for node in nodes:
        ends = [*node.inputs, *node.outputs] if node.op_type in wanted.same_scale else []
        ends += node.inputs if node.op_type in wanted.same_operands else []
        names = [v.name for v in ends if v is not None and v.name in held]
        for name in names[1:] if wanted.approximate or any(name in new for name in names) else ():
            group[root(name)] = root(names[0])
    largest: dict[str, Held] = {}
    for name, own in held.items():
        other = largest.get(root(name))
        if other is None or float(own.scale) > float(other.scale):
            largest[root(name)] = own
    counts = Counter(map(root, held))
    for name in held:
        if counts[root(name)] > 1 and (wanted.approximate or name in new):
            held[name] = largest[root(name)]
