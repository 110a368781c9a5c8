"""What the graph tells of a model, whatever the device. Every look-up either answers or raises Undecidable with the reason."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping

from npu_guard.analysis import einsum, layout
from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.axes import reduced_axes
from npu_guard.analysis.constants import Array, why_open
from npu_guard.analysis.cost import size_bytes
from npu_guard.analysis.quantized.reading import Quantized, read
from npu_guard.analysis.roles import Roles
from npu_guard.analysis.static import is_constant
from npu_guard.analysis.types import DTYPE_NAMES
from npu_guard.analysis.views import channels_last
from npu_guard.base.errors import Undecidable
from npu_guard.base.text import short
from npu_guard.file.tensors import BITS
from npu_guard.graph.graph import Node, Value, is_known
from npu_guard.graph.ops import find_operator
from npu_guard.graph.plain import is_channels_last, plain, weight_is_channels_last
from npu_guard.graph.plain_names import PACKED
from npu_guard.results.findings import Dim, Tensor


class Facts:
    """What the graph tells of one model, whatever the device: each look-up answers or raises Undecidable."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis

    @functools.cached_property
    def overridable(self) -> Mapping[str, Value]:
        """Initializers that are inputs of the model as well, by the reason that is given where one matters."""
        return {why_open(v): v for v in self.analysis.model.graph.inputs if v.initializer is not None}

    @functools.cached_property
    def runs(self) -> layout.Runs:
        """What the reshaping operators do, run by run."""
        return layout.runs(self.analysis, self.roles)

    @property
    def rearrangements(self) -> Mapping[Node, str]:
        """Nodes at which a feature map is rearranged, with a description."""
        return self.runs.rearranged

    @functools.cached_property
    def kinds(self) -> frozenset[tuple[int, tuple[Dim, ...] | None]]:
        """(type, shape) of all activations; networks have few different ones."""
        constant = self.analysis.is_constant
        graphs = self.analysis.model.graph.graphs()
        return frozenset({(v.dtype, v.shape) for graph in graphs for v in graph.values.values() if not constant(v)})

    @functools.cached_property
    def quantized(self) -> Quantized:
        """The units of a quantized network, and how its tensors are held; empty for one in floating point."""
        return read(self.analysis)

    def dims(self, value: Value) -> tuple[Dim, ...]:
        """The shape with symbols and None for extents that are not known; undecidable where even the rank is not.

        Raises Undecidable.
        """
        if value.shape is None:
            raise Undecidable(self.why(value))
        return value.shape

    def rank(self, value: Value) -> int:
        """Number of axes."""
        return len(self.dims(value))

    def shape(self, value: Value) -> tuple[int, ...]:
        """The shape, wholly known. Raises Undecidable."""
        dims = self.dims(value)
        if not is_known(dims):
            raise Undecidable(self.why(value))
        return dims

    def extent(self, value: Value, axis: int) -> int:
        """One axis of the shape; the others need not be known. Raises Undecidable."""
        dims = self.dims(value)
        length = dims[axis] if -len(dims) <= axis < len(dims) else None
        if not isinstance(length, int):
            raise Undecidable(self.why(value))
        return length

    def bytes(self, value: Value) -> int:
        """Size of a tensor in bytes. Raises Undecidable."""
        self.shape(value)
        if value.dtype not in BITS:
            raise Undecidable(f"the size of the elements of {short(value.name)!r} is not known")
        return size_bytes(value)

    def why(self, value: Value) -> str:
        """The reason for which a shape is not known."""
        return self.analysis.unknown.get(value, f"the shape of {short(value.name)!r} is not known")

    def input(self, node: Node, index: int) -> Value:
        """An input that the operator must have. Raises Undecidable."""
        value = node.input(index)
        if value is None:
            raise Undecidable(f"{node.op} {short(node.label)!r} has no input {index}")
        return value

    def data(self, node: Node) -> Value:
        """The first input that is data; of what broadcasts, the first of those that are most like the output, constants last."""
        if node.kind == "broadcasting" and len(node.inputs) > 1:
            return self._most_like_output(node)
        return self.input(node, _FIRST.get(node.op, 0))

    def _most_like_output(self, node: Node) -> Value:
        operator = node.operator
        operands = [v for i, v in enumerate(node.inputs) if v is not None and operator.role(i) == "data"]
        if not operands:
            return self.input(node, 0)
        out = node.output.shape or ()

        def alike(value: Value) -> tuple[bool, int, int]:
            dims = value.shape or ()
            matching = sum(a == b for a, b in zip(reversed(dims), reversed(out), strict=False))
            return not self.is_constant(value), len(dims), matching

        return max(operands, key=alike)

    def weight(self, node: Node) -> Value:
        """The weight of a convolution; of a matrix product the second operand, or the first where that alone is constant."""
        index = _weight(node.op_type, node.domain)
        if index is None:
            return self.operands(node)[0 if self.weight_is_first(node) else 1]
        return node.input(index) or node.role("weight") or self.input(node, 1)

    def weight_is_first(self, node: Node) -> bool:
        """Whether of a matrix product the first operand alone is constant."""
        a, b = self.operands(node)[:2]
        return self.is_constant(a) and not self.is_constant(b)

    def channel_count(self, node: Node, *, out: bool) -> int:
        """Channels going in, or coming out: of the weight at a convolution or matrix product, else axis 1 of the tensor."""
        operator = plain(node)
        if operator in ("Conv", "ConvTranspose"):
            rows = (operator == "Conv") == out
            axis = 0 if rows else -1 if weight_is_channels_last(node) else 1
            return self.extent(self.weight(node), axis) * (1 if rows else node.attr("group", 1))
        if operator in ("MatMul", "Gemm"):
            return self._product_channels(node, out)
        if operator == "Einsum" and (product := einsum.product(node)) is not None:
            labels, own = (product.a, product.rows) if self.weight_is_first(node) else (product.b, product.columns)
            weight = self.weight(node)
            return math.prod(self.extent(weight, labels.index(c)) for c in (own if out else product.sums))
        return self.along(node, node.output if out else self.data(node), 1)

    def _product_channels(self, node: Node, out: bool) -> int:
        """Of a product, the length of its sums, and its columns; its rows where the weight stands on the left.

        A weight that is a vector makes one sum of each row.
        """
        if node.op in PACKED:
            return int(node.attr("N" if out else "K", 0))
        a, b = self.operands(node)[:2]
        if self.rank(self.weight(node)) == 1:
            return 1 if out else self.extent(self.weight(node), 0)
        if self.weight_is_first(node):
            return self.extent(a, -1 if bool(node.attr("transA", 0)) == out else -2)
        if out:
            return self.extent(b, -2 if node.attr("transB", 0) else -1)
        return self.extent(a, -2 if node.attr("transA", 0) else -1)

    def along(self, node: Node, value: Value, axis: int) -> int:
        """One extent of what goes into a node or comes out, the axis counted in [B, C, ...]. Raises Undecidable."""
        dims = self.map_of(node, value)
        length = dims[axis] if axis < len(dims) else None
        if not isinstance(length, int):
            raise Undecidable(self.why(value))
        return length

    def map_of(self, node: Node, value: Value) -> tuple[Dim, ...]:
        """`map_dims` in the order [B, C, ...] of what goes into a node or comes out, however it lies in memory."""
        dims = self.dims(value)
        if len(dims) > 2 and is_channels_last(node):
            return channels_last(len(dims)).full(dims)
        return self.map_dims(value)

    def is_constant(self, value: Value | None) -> bool:
        """Whether the graph alone determines the value."""
        return is_constant(value, self.analysis.static)

    def is_fixed(self, value: Value) -> bool:
        """Whether a weight is constant; undecidable where it is an initializer that a caller may override. Raises Undecidable."""
        if self.is_constant(value):
            return True
        origin = self.analysis.origin(value)
        if origin.initializer is not None and origin.is_input:
            raise Undecidable(why_open(origin))
        return False

    def array(self, value: Value) -> Array:
        """The value of a small constant tensor. Raises Undecidable."""
        values = self.analysis.constants.get(value)
        if values is None:
            self.is_fixed(value)
            raise Undecidable(why_open(value))
        return values

    def axes(self, node: Node) -> tuple[int, ...]:
        """Axes of a reduction or normalisation, counted from the front, sorted; all of them where none are given.

        Raises Undecidable.
        """
        x = self.input(node, 0)
        return reduced_axes(node, self.analysis.constants, self.why(x))

    @functools.cached_property
    def roles(self) -> Roles:
        """Which part each axis has: batch, channels or space."""
        return Roles(self.analysis)

    def map_dims(self, value: Value) -> tuple[Dim, ...]:
        """`dims` of the map [B, C, ...] that a value came from: `[1,H,W]` behind a sum over channels is `[1,1,H,W]`."""
        dims, view = self.dims(value), self.roles.carried_view(value)
        return dims if view is None else view.full(dims)

    def map_axes(self, value: Value, axes: Iterable[int]) -> tuple[int, ...]:
        """Where axes of a value lie in the map that it came from."""
        self.dims(value)
        view = self.roles.carried_view(value)
        return tuple(axes) if view is None else tuple(view.axes[a] for a in axes)

    def lies_last(self, value: Value) -> bool:
        """Whether a map lies with channels last."""
        view = self.roles.carried_view(value)
        return view is not None and not view.rises

    def map_order(self, value: Value) -> tuple[Dim, ...]:
        """`dims`, those of a map that lies with channels last in the order [B, C, ...]."""
        return self.map_dims(value) if self.lies_last(value) else self.dims(value)

    def is_flat_tokens(self, value: Value) -> bool:
        """Whether `[N,C]` is the tokens `[1,N,C]` without their batch of 1."""
        return self.roles.is_flat_tokens(value)

    def dtype(self, value: Value) -> str | None:
        """Name of the element type, None where it is not known or has none."""
        return DTYPE_NAMES.get(value.dtype)

    def tensor(self, value: Value) -> Tensor:
        """A value as reports show it."""
        return Tensor(value.name, value.shape, self.dtype(value), self.quantized.words(value) if self.quantized else "")

    def kernel(self, node: Node) -> tuple[int, ...]:
        """Kernel extents of a convolution or pooling node, from the attribute or else from the weight. Raises Undecidable."""
        given = node.attributes.get("kernel_shape")
        if given:
            return tuple(given)
        weight = self.weight(node)
        dims = self.dims(weight)
        window = dims[1:-1] if weight_is_channels_last(node) else dims[2:]
        if not is_known(window):
            raise Undecidable(self.why(weight))
        return window

    def per_axis(self, node: Node, name: str) -> tuple[int, ...]:
        """An attribute with a number for each axis of the window, such as strides; 1 for each where it is left out."""
        given = node.attributes.get(name)
        return tuple(given) if given else (1,) * len(self.kernel(node))

    def reach(self, node: Node) -> tuple[int, ...]:
        """Extents of the dilated window, (k-1)d+1 along each axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel(node), self.per_axis(node, "dilations"), strict=False))

    def operands(self, node: Node) -> list[Value]:
        """Data operands of a matrix product, without its bias and scales."""
        indices = _operands(node.op_type, node.domain)
        return [self.input(node, index) for index in (range(len(node.inputs)) if indices is None else indices)]

    def activations(self, node: Node) -> list[Value]:
        """Those operands of a matrix product that are not constant."""
        return [value for value in self.operands(node) if not self.is_fixed(value)]

    def show(self, value: Value) -> str:
        """A shape for messages, `[1, H, ?]` where it is not wholly known."""
        if value.shape is None:
            return "[unknown shape]"
        return shown(value.shape)

    def show_operands(self, node: Node) -> str:
        """Shapes of what a broadcasting operator works on."""
        from npu_guard.analysis.wanted_views import places

        return ", ".join(self.show(value) for value, _ in places(node))


def shown(dims: Iterable[Dim]) -> str:
    """Extents for messages, `[1, H, ?]`."""
    return f"[{', '.join('?' if d is None else short(str(d)) for d in dims)}]"


@functools.cache
def _operands(op_type: str, domain: str) -> tuple[int, ...] | None:
    """Indices of the data operands of a product; None for all inputs."""
    operator = find_operator(op_type, domain)
    if operator.kind == "product" and not operator.variadic:
        return (*operator.indices("data"), *operator.indices("weight"))
    return (0, 1, 2) if op_type == "Attention" and not domain else None


@functools.lru_cache(maxsize=1024)
def _weight(op_type: str, domain: str) -> int | None:
    """Index of the first weight of an operator, 1 where it has none; None of a product, where either operand may be it."""
    operator = find_operator(op_type, domain)
    return None if operator.kind == "product" else next(iter(operator.indices("weight")), 1)


_FIRST = {"com.microsoft::QLinearConcat": 2}
"""Index of the first data input where that is not 0."""
