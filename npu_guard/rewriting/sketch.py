"""What a rewrite would emit, without any weight: enough to count its findings and its costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import DTypeLike

from npu_guard.analysis.constants import Constants
from npu_guard.base.text import short
from npu_guard.file.document import Document
from npu_guard.file.tensors import BITS
from npu_guard.file.wire import INLINE, Payload
from npu_guard.graph.graph import Value
from npu_guard.rewriting.substitution import Array, Builder, Match, Refused
from npu_guard.rewriting.weights import Evaluate, Small, evaluated

if TYPE_CHECKING:
    from npu_guard.proof.exact import Exact

KEEP_ELEMENTS = 4096
"""Constants up to this size keep their values, as in a skeleton: axes, shapes, pads, scales."""
MOST_NODES = 20_000
"""New nodes of one form; the largest that ends clean, attention over a map, has a few hundred."""
_RAW = 9
"""The field of TensorProto that holds plain memory."""


class Unsketched(Exception):
    """The rewrite needs what only the real model has: activations."""


class Sketch(Builder):
    """A builder whose weights have a shape and a type and no values."""

    def __init__(self, match: Match, document: Document, taken: set[str], constants: Constants) -> None:
        super().__init__(match, document, taken, _none)
        self.payloads: dict[int, Payload] = {}
        """Where the values of the new weights would lie; for the document in which they are looked at."""
        self._constants = constants

    def op_many(self, op_type: str, *inputs: str | Value | None, outputs: int = 1, **attributes: Any) -> list[str]:
        """A node. Raises Refused where there are so many that no compiler would take them."""
        if len(self.nodes) >= MOST_NODES:
            raise Refused(f"it would write more than {MOST_NODES:,} nodes")
        return super().op_many(op_type, *inputs, outputs=outputs, **attributes)

    def later(
        self, shape: Sequence[int], make: Callable[[], Array], dtype: DTypeLike = np.float32, hint: str = "weight",
        exact: Callable[[], Exact] | None = None,
    ) -> str:  # fmt: skip
        """An initializer without values; neither function is called."""
        self._expect_room()
        name = self._name(hint)
        tensor = onnx.TensorProto(name=name, data_type=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), dims=shape)
        size = (math.prod(shape) * BITS[tensor.data_type] + 7) // 8
        place = self.payloads.setdefault(-1 - size, Payload(-1 - size, size, _RAW, _RAW, size))
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, entry in (("location", INLINE), ("offset", place.offset), ("length", size)):
            tensor.external_data.add(key=key, value=str(entry))
        self.initializers.append(tensor)
        return name

    def constant(self, array: Array, hint: str = "weight", exact: Exact | None = None) -> str:
        """An initializer, without its values where it is large."""
        array = np.asarray(array)
        if array.size > KEEP_ELEMENTS:
            return self.later(array.shape, lambda: array, array.dtype, hint)
        return super().constant(array, hint)

    def weight(self, value: Value, small: Small = lambda _: None, evaluate: Evaluate = evaluated) -> Array:
        """Ones in the shape of the weight, which take no memory; the values where they are few and known. Raises Refused."""
        if (known := self._constants.get(value)) is not None:
            return known
        shape = [extent for extent in value.shape or () if isinstance(extent, int)]
        if value.shape is None or len(shape) < len(value.shape):
            raise Refused(f"the shape of the weight {short(value.name)!r} is not known")
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.dtype))
        return np.broadcast_to(np.ones((), dtype), shape)


def _none(values: Sequence[Value]) -> list[dict[str, Array]]:
    raise Unsketched
