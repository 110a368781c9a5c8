"""An operator of a quantized network with how its tensors are held."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from npu_guard.analysis.quantized.encoding import Encoding, Operand, is_float
from npu_guard.graph.graph import Node, Value


class Unit(Struct, frozen=True, eq=False):
    """An operator of a quantized network with what it reads and gives."""

    node: Node
    operands: tuple[Operand, ...]
    output: Encoding | None
    """How the result is held; None where it is read, or leaves the model, in floating point."""
    form: str
    """`qdq`, `qoperator` (QLinearConv and its like), `integer` (sums of integers that others scale, as of ConvInteger, or that
    come out in floating point), `dynamic` (scales computed at run time), `weights` (activations stay in floating point), or
    `float`."""

    @property
    def data(self) -> Iterator[Operand]:
        """Operands that are activations."""
        return (operand for operand in self.operands if operand.role == "data")

    @property
    def is_quantized(self) -> bool:
        """Whether it reads or gives integers, but for weights."""
        return self.output is not None or any(operand.encoding is not None for operand in self.data)

    @property
    def is_whole(self) -> bool:
        """Whether nothing that it reads or gives is in floating point, but for parameters."""
        given = self.node.outputs[0] if self.node.outputs else None
        ends = self.output is not None or (given is not None and not is_float(given))
        return ends and not self.in_float

    @property
    def computes_in_integers(self) -> bool:
        """Whether its sums are those of integers: all that it reads and gives, and the weights of a convolution or product."""
        weights = (o for o in self.operands if o.role == "weight") if self.node.kind in ("convolution", "product") else ()
        return self.is_whole and not any(o.encoding is None and is_float(o.value) for o in weights)

    @property
    def in_float(self) -> list[Value]:
        """Activations that it reads in floating point."""
        return [operand.value for operand in self.data if operand.encoding is None and is_float(operand.value)]
