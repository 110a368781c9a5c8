"""Multiply-accumulates, parameters and activation memory of every node, by the operators' definitions.

One MAC is one multiplication with its addition; element-wise work and pooling count none, as in the literature.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from npu_guard.analysis.einsum import elementwise, terms
from npu_guard.analysis.static import is_constant
from npu_guard.file.tensors import BITS
from npu_guard.graph.graph import Node, Value, is_known
from npu_guard.graph.handlers import Handlers
from npu_guard.graph.ops import find_operator
from npu_guard.graph.plain import plain
from npu_guard.graph.plain_names import PLAIN
from npu_guard.results.findings import Dim, NodeCost


def elements(shape: tuple[Dim, ...] | None) -> int | None:
    """Number of elements, None where an extent is not known."""
    if shape is None:
        return None
    product = 1
    for extent in shape:
        if not isinstance(extent, int):
            return None
        product *= extent
    return product


def size_bytes(value: Value) -> int:
    """Bytes of a tensor, 0 where its shape or type is not known."""
    count = elements(value.shape)
    return 0 if count is None else (count * BITS.get(value.dtype, 0) + 7) // 8


def macs(node: Node) -> int | None:
    """Multiply-accumulates of one node, None where shapes are not known."""
    handler = MACS.get(node.op_type) if not node.domain else None
    if handler is None:
        return _other_macs(node) if node.domain and node.op in PLAIN else 0
    shapes = [None if v is None else v.shape for v in node.inputs]
    out = elements(node.output.shape)
    try:
        return handler(node, shapes, out)
    except (TypeError, IndexError, KeyError, ValueError, ZeroDivisionError):  # an extent or a whole shape is not known
        return None


def uncounted(costs: Mapping[Node, NodeCost]) -> int:
    """How many nodes have multiply-accumulates that nobody can count, as shapes are not known."""
    return sum(cost.macs == 0 and macs(node) is None for node, cost in costs.items())


def _other_macs(node: Node) -> int | None:
    """Those of the plain operator on the same data and weight."""
    operator = plain(node)
    if operator not in MACS:
        return 0
    shapes = [None if v is None else v.shape for v in (node.role("data"), node.role("weight"))]
    out = elements(node.output.shape)
    try:
        return MACS[operator](node, shapes, out)
    except (TypeError, IndexError, KeyError, ValueError, ZeroDivisionError):
        return None


Shapes = Sequence[tuple[Dim, ...] | None]


def _ints(shape: tuple[Dim, ...] | None) -> list[int]:
    if not is_known(shape):
        raise TypeError("unknown extent")
    return list(shape)


def _conv(node: Node, shapes: Shapes, out: int | None) -> int | None:
    place = 1 if node.domain else _weight(node.op_type)  # of others, data and weight alone are given
    return None if out is None else out * math.prod(_ints(shapes[place])[1:])


@functools.cache
def _weight(op_type: str) -> int:
    """Index of the weight of a convolution."""
    return find_operator(op_type).indices("weight")[0]


def _conv_transpose(node: Node, shapes: Shapes, out: int | None) -> int | None:
    return math.prod(_ints(shapes[0])) * math.prod(_ints(shapes[1])[1:])


def _gemm(node: Node, shapes: Shapes, out: int | None) -> int | None:
    inner = _ints(shapes[0])[0 if node.attr("transA", 0) else 1]
    return None if out is None else out * inner


def _matmul(node: Node, shapes: Shapes, out: int | None) -> int | None:
    turned = node.domain and node.attributes.get("transA", 0)
    return None if out is None else out * _ints(shapes[0])[-2 if turned else -1]


def _einsum(node: Node, shapes: Shapes, out: int | None) -> int | None:
    """One MAC for each combination of labels, as a single nest of loops would do it."""
    labels = terms(node)
    if labels is None:
        return None
    if len(labels[0]) == 1 or elementwise(node) is not None:
        return 0
    extents: dict[str, int] = {}
    for term, shape in zip(labels[0], shapes, strict=True):
        for label, extent in zip(term, _ints(shape), strict=True):
            extents[label] = max(extents.get(label, 1), extent)
    return math.prod(extents.values())


def _attention(node: Node, shapes: Shapes, out: int | None) -> int | None:
    """Scores and weighted sum of the Attention operator (opset 23): B * heads * Nq * Nk * (Dqk + Dv)."""
    q, k, v = (_ints(s) for s in shapes[:3])
    past = _ints(shapes[4])[2] if len(shapes) > 4 and node.input(4) is not None else 0
    if len(q) == 4:
        return q[0] * q[1] * q[2] * (past + k[2]) * (q[3] + v[3])
    kv_heads: int = node.attributes["kv_num_heads"]
    heads: int = node.attributes["q_num_heads"]
    return q[0] * q[1] * (past + k[1]) * (q[2] + v[2] * heads // kv_heads)


def _recurrent(node: Node, shapes: Shapes, out: int | None) -> int | None:
    """Every weight of every gate once for each step and batch entry."""
    weights = math.prod(_ints(shapes[1])) + math.prod(_ints(shapes[2]))
    return math.prod(_ints(shapes[0])[:2]) * weights


Macs = Callable[[Node, Shapes, int | None], int | None]
MACS: Handlers[Macs] = Handlers(
    {"convolution": _conv, "product": _matmul, "recurrent": _recurrent},
    {"ConvTranspose": _conv_transpose, "Gemm": _gemm, "Einsum": _einsum, "Attention": _attention},
    {"LinearAttention": "its updates differ from rule to rule, and no exporter writes it yet"},
    covers=("attention",),
)
"""Multiply-accumulates by operator; all others have none."""


def node_costs(nodes: Sequence[Node], outputs: Iterable[Value], static: set[Value], elided: set[Node]) -> dict[Node, NodeCost]:
    """Cost of each node of one graph; nodes in `elided` cost nothing, their output shares the input's memory."""
    size = _Sizes()
    sizes, released, live = _lifetimes(nodes, _last_uses(nodes, outputs, static, elided), static, size)
    counted: set[Value] = set()
    costs = {}
    for index, node in enumerate(nodes):
        if node in elided:
            continue
        params = output = unread = 0
        for given in node.inputs:
            if given is None or given in sizes or given in counted:
                continue
            if given.initializer is not None or is_constant(given, static):
                counted.add(given)
                params += _parameters(given)
        for made in node.outputs:
            if made is not None:
                known = sizes.get(made)
                if known is not None:
                    output += known
                else:
                    unread += size(made)
        output += unread
        live += output
        counts = MACS.get(node.op_type) if not node.domain else node.op in PLAIN
        costs[node] = NodeCost((macs(node) or 0) if counts else 0, params, output, live)
        live -= unread + released.get(index, 0)
    return costs


def _last_uses(nodes: Sequence[Node], outputs: Iterable[Value], static: set[Value], elided: set[Node]) -> dict[Value, int]:
    """Index of the last node that reads each value, through elided nodes; of what the model gives, one behind the last node."""
    owner: dict[Value, Value] = {}  # what a value that passed through elided nodes really is
    last_use: dict[Value, int] = {}
    for index, node in enumerate(nodes):
        if node in elided:
            if node.inputs and (source := node.inputs[0]) is not None and node.outputs[0] not in static:
                owner[node.output] = owner.get(source, source)
            continue
        for given in node.reads() if node.subgraphs else node.inputs:
            if given is not None:
                last_use[owner.get(given, given) if owner else given] = index
    for value in outputs:
        last_use[owner.get(value, value)] = len(nodes)
    return last_use


def _lifetimes(
    nodes: Sequence[Node], last_uses: Mapping[Value, int], static: set[Value], size: _Sizes
) -> tuple[dict[Value, int], dict[int, int], int]:
    """Bytes of each activation that is read, bytes that are free behind each node, and bytes that are there from the start."""
    sizes: dict[Value, int] = {}
    released: dict[int, int] = {}
    live = 0
    here = nodes[0].graph if nodes else None
    for value, index in last_uses.items():
        producer = value.producer
        if producer is None and value.initializer is not None:
            continue  # a parameter, whether or not a caller may override it: a weight of each node comes along here
        if producer is None or value not in static:
            sizes[value] = bytes_ = size(value)
            released[index] = released.get(index, 0) + bytes_
            if producer is None or value.graph is not here:
                live += bytes_  # graph inputs, and what bodies take from the graph around them
    return sizes, released, live


class _Sizes:
    """Bytes of values; a network has few different ones."""

    def __init__(self) -> None:
        self._known: dict[tuple[tuple[Dim, ...] | None, int], int] = {}

    def __call__(self, value: Value) -> int:
        kind = value.shape, value.dtype
        found = self._known.get(kind)
        if found is None:
            found = self._known[kind] = size_bytes(value)
        return found


def _parameters(value: Value) -> int:
    """Elements of a weight: floating-point tensors, not the axes and shapes that integer constants hold."""
    return (elements(value.shape) or 0) if BITS.get(value.dtype, 64) < 64 or value.dtype == 11 else 0
