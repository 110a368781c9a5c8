"""What rules about quantization share: they look at units, and a model without any costs them nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from npu_guard.analysis.quantized.encoding import whole
from npu_guard.analysis.types import DTYPE_NAMES
from npu_guard.base.text import short
from npu_guard.checking.rule import Draft, Rule
from npu_guard.device.keys import EVERY
from npu_guard.graph.plain import plain

if TYPE_CHECKING:
    from npu_guard.analysis.constants import Array
    from npu_guard.analysis.quantized.encoding import Encoding, Operand
    from npu_guard.analysis.quantized.unit import Unit
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value


class QuantizationRule(Rule):
    """Base of rules that are asked about each unit of a quantized network."""

    ops = (EVERY,)

    def needed(self, ctx: Context) -> bool:
        """Whether anything in the model is quantized."""
        return bool(ctx.quantized)

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        """What `check_unit` says of the unit of a node; nodes that belong to another's are none."""
        unit = ctx.quantized.units.get(node)
        if unit is not None:
            yield from self.check_unit(unit, ctx)

    def check_unit(self, unit: Unit, ctx: Context) -> Iterable[Draft]:
        """Problems of one operator with the integers around it. Raises Undecidable, as look-ups in `ctx` do."""
        raise NotImplementedError


MIDDLES = {2: 1 << 7, 4: 1 << 15, 21: 1 << 3}
"""Zero points of uint8, uint16 and uint4 that are 0 of the signed type, shifted."""


def weights(unit: Unit) -> list[tuple[Operand, Encoding]]:
    """Constant operands of a convolution or matrix product that are held as integers."""
    return [(o, o.encoding) for o in unit.operands if o.role == "weight" and o.encoding is not None]


def activations(unit: Unit) -> list[tuple[Value, Encoding]]:
    """Activations that a unit reads as integers, and its result; those with a scale that is computed are left out."""
    found = [(o.value, o.encoding) for o in unit.data if o.encoding is not None]
    found += [] if unit.output is None else [(unit.node.output, unit.output)]
    return [(value, encoding) for value, encoding in found if not encoding.dynamic]


def constants(unit: Unit) -> list[tuple[Value, Encoding]]:
    """Constant operands of other operators, such as what an Add adds, and biases, that are held as integers with a scale."""
    return [(o.value, o.encoding) for o in unit.operands if o.role in ("parameter", "bias") and o.encoding is not None]


def type_name(encoding: Encoding) -> str:
    """Name of the integers' type."""
    return DTYPE_NAMES.get(encoding.dtype, f"type {encoding.dtype}")


def scales(encoding: Encoding, ctx: Context) -> Array | None:
    """The scales in a row; None where the unit has none, or computes it. Raises Undecidable where it is beyond what is read."""
    if encoding.scale is None or encoding.dynamic:
        return None
    return np.asarray(ctx.array(encoding.scale), np.float64).reshape(-1)


def zero_points(encoding: Encoding, ctx: Context) -> Array:
    """The zero points in a row, 0 where none is given; in floating point where one is no whole number. Raises Undecidable."""
    return np.zeros(1, np.int64) if encoding.zero is None else whole(ctx.array(encoding.zero))


def show_scale(encoding: Encoding, ctx: Context) -> str:
    """`0.05 (zero point 3)`, for messages. Raises Undecidable."""
    scale, zero = scales(encoding, ctx), zero_points(encoding, ctx)
    many = scale is None or len(scale) > 1
    return "a scale for each channel" if many or scale is None else f"{scale[0]:.6g} (zero point {zero[0]})"


def alike(a: Encoding, b: Encoding, ctx: Context) -> bool:
    """Whether two tensors are held with the same type, scale and zero point. Raises Undecidable."""
    if a is b or (a.dtype == b.dtype and a.scale is b.scale and a.zero is b.zero):
        return True
    first, second = scales(a, ctx), scales(b, ctx)
    if a.dtype != b.dtype or first is None or second is None:
        return a.dtype == b.dtype
    return np.array_equal(first, second) and np.array_equal(zero_points(a, ctx), zero_points(b, ctx))


def operator(unit: Unit) -> str:
    """The operator inside, whatever its spelling."""
    return plain(unit.node)


def named(value: Value) -> str:
    """A tensor for messages."""
    return repr(short(value.name))
