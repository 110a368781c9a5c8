"""How many elements an operator gives on known inputs, before anything is computed: a small file may ask for terabytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from npu_guard.graph.ops import find_kind

Array = NDArray[Any]


class Asked(Protocol):
    """A node, or what stands for one."""

    @property
    def op_type(self) -> str:
        """The operator's name."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What is stated."""

    @property
    def domain(self) -> str:
        """Empty for ONNX's own."""

    def attr(self, name: str, default: Any, /) -> Any:
        """An attribute, or the operator's default."""


def bound(node: Asked, inputs: Sequence[Array | None]) -> int:
    """Elements that the outputs may have together. Raises ValueError where there is no such output."""
    given = [x for x in inputs if x is not None]
    if (size := _SIZES.get(node.op_type)) is not None:
        return size(node, *inputs)
    if find_kind(node.op_type, node.domain) == "broadcasting":
        if "broadcast" in node.attributes:
            raise ValueError("opset 6 and older broadcast in their own way")
        return _elements(np.broadcast_shapes(*(x.shape for x in given)))
    return max((x.size for x in given), default=0)  # no more than the input


def _elements(dims: Iterable[int]) -> int:
    extents = [int(extent) for extent in dims]
    if min(extents, default=0) < 0:
        raise ValueError("an extent is negative")
    return math.prod(extents)


def _concat(_: Asked, *parts: Array) -> int:
    return sum(x.size for x in parts)


def _gather(node: Asked, data: Array, index: Array) -> int:
    rows: int = data.shape[node.attr("axis", 0)]
    return index.size * (data.size // max(1, rows))


def _gather_nd(node: Asked, data: Array, index: Array) -> int:
    depth: int = index.shape[-1]
    return index.size // max(1, depth) * math.prod(data.shape[node.attr("batch_dims", 0) + depth :])


def _range(_: Asked, start: Array, limit: Array, delta: Array) -> int:
    return math.ceil(max(0.0, (float(limit) - float(start)) / float(delta)))


def _pad(node: Asked, data: Array, pads: Array | None = None, *_: Array | None) -> int:
    amounts = list(node.attributes["pads"]) if pads is None else pads.tolist()
    return _elements(n + a + b for n, a, b in zip(data.shape, amounts[: data.ndim], amounts[data.ndim :], strict=True))


_SIZES: Mapping[str, Callable[..., int]] = {
    "Concat": _concat, "Gather": _gather, "GatherND": _gather_nd, "Range": _range, "Pad": _pad,
    "ConstantOfShape": lambda _, shape: _elements(shape.reshape(-1).tolist()),
    "Expand": lambda _, x, shape: _elements(np.broadcast_shapes(x.shape, tuple(shape.tolist()))),
    "Tile": lambda _, x, repeats: _elements(n * times for n, times in zip(x.shape, repeats.tolist(), strict=True)),
}  # fmt: skip
