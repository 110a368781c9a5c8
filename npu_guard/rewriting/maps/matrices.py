"""MatMul, Gemm, Einsum, Attention, 1x1 and one-dimensional convolutions on tensors that lie in maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace

from npu_guard.base.text import short
from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting.maps.algebra import Made, both, fixed, reduced, stored
from npu_guard.rewriting.maps.equation import equation_of
from npu_guard.rewriting.maps.linear import linear
from npu_guard.rewriting.maps.products import contracted
from npu_guard.rewriting.maps.program import Constant, Operand, shape_of
from npu_guard.rewriting.maps.regroup import reshaped
from npu_guard.rewriting.maps.softmax import softmax
from npu_guard.rewriting.maps.step import Step, is_read
from npu_guard.rewriting.maps.tensors import Laid, aligned, axis_of
from npu_guard.rewriting.maps.written import masking, numpy_type
from npu_guard.rewriting.substitution import Array, Builder, Refused
from npu_guard.rewriting.views import Axis


def matmul(step: Step) -> list[Laid]:
    """Weights are a convolution; two activations are multiplied and summed. Raises Refused."""
    left, right = step.constant(0), step.constant(1)
    if left is None and right is None:
        return [product(step, step.tensor(0), step.tensor(1))]
    if left is not None and right is not None:
        raise Refused("MatMul of two constants")
    value = right if right is not None else left
    assert value is not None
    x, dims, read = step.tensor(0 if right is not None else 1), shape_of(value), step.read(value)
    if vector := len(dims) == 1:  # a matrix of one column, or of one row
        dims = (*dims, 1) if right is not None else (1, *dims)
    rank = max(len(x.axes), len(dims))
    x = replace(x, axes=((),) * (rank - len(x.axes)) + x.axes)
    batch = (1,) * (rank - len(dims)) + dims[:-2]
    if any(n not in (1, m) for n, m in zip(batch, x.shape[:-2], strict=True)):
        raise Refused("MatMul of one tensor with weights of many batches")
    apart = tuple(a for n, axis in zip(batch, x.axes[:-2], strict=True) if n > 1 for a in axis)
    transposed = right is not None

    def weight(build: Builder) -> Array:
        array = read(build).reshape(dims)
        return np.swapaxes(array, -1, -2) if transposed else array

    at = rank - 1 if transposed else rank - 2
    made = linear(step.maps, x, at, dims[-1 if transposed else -2], weight, value.dtype, apart=apart)
    return [replace(made, axes=(*made.axes[:at], *made.axes[at + 1 :])) if vector else made]


def product(step: Step, x: Laid, y: Laid) -> Laid:
    """MatMul of two activations. Raises Refused."""
    rank = max(len(x.axes), len(y.axes))
    if min(len(x.axes), len(y.axes)) < 2:
        raise Refused("a product with a vector")
    x, y = (replace(m, axes=((),) * (rank - len(m.axes)) + m.axes) for m in (x, y))
    batch = [(i, i) for i in range(rank - 2) if x.axes[i] and y.axes[i]]
    x, y = aligned(x, y, [*batch, (rank - 1, rank - 2)])
    outer = tuple(a or b for a, b in zip(x.axes[:-2], y.axes[:-2], strict=True))
    return contracted(step.maps, x, y, frozenset(x.axes[-1]), (*outer, x.axes[-2], y.axes[-1]))


def gemm(step: Step) -> list[Laid]:
    """As MatMul, with factors and a summand."""
    node, program = step.node, step.maps.program
    alpha, beta = node.attr("alpha", 1.0), node.attr("beta", 1.0)
    b, c = step.constant(1), step.constant(2)
    x = step.tensor(0)
    x = x.permuted((1, 0)) if node.attr("transA", 0) else x
    if b is not None:
        read, stays = step.read(b), bool(node.attr("transB", 0))
        outputs = shape_of(b)[0 if stays else 1]

        def weight(build: Builder) -> Array:
            array = read(build) if stays else read(build).T
            return array if alpha == 1.0 else array * array.dtype.type(alpha)

        plain = c is not None and math.prod(shape_of(c)) in (1, outputs) and shape_of(c)[-1:] in ((outputs,), (1,), ())
        bias = _scaled(step.read(c), beta) if c is not None and plain else None
        x = linear(step.maps, x, 1, outputs, weight, b.dtype, bias)
        if bias is not None or node.input(2) is None:
            return [x]
    else:
        y = step.tensor(1)
        x = product(step, x, y.permuted((1, 0)) if node.attr("transB", 0) else y)
        x = x if alpha == 1.0 else replace(x, name=program.two("Mul", x.name, program.number(alpha, x.name)))
    if c is not None:
        x, operand = fixed(step.maps, x, shape_of(c), _scaled(step.read(c), beta), c.dtype)
        return [replace(x, name=program.two("Add", x.name, operand))]
    if node.input(2) is not None:
        summand = step.tensor(2)
        if beta != 1.0:
            summand = replace(summand, name=program.two("Mul", summand.name, program.number(beta, summand.name)))
        x = both(step.maps, "Add", x, summand)
    return [x]


def _scaled(read: Made, factor: float) -> Made:
    return read if factor == 1.0 else lambda build: read(build) * read(build).dtype.type(factor)


def einsum(step: Step) -> list[Laid]:
    """One or two operands, each letter an axis. Raises Refused."""
    names, result = equation_of(step.node)
    if len(names) == 1:
        return [_summed(step, step.tensor(0), names[0], result)]
    constants = [step.constant(0), step.constant(1)]
    if None not in constants:
        raise Refused("Einsum of two constants")
    if constants[0] is None and constants[1] is None:
        return [_two(step, names, result)]
    return [_weighted(step, names, result, 0 if constants[0] is None else 1)]


def _summed(step: Step, x: Laid, letters: str, result: str) -> Laid:
    gone = frozenset(a for letter, axis in zip(letters, x.axes, strict=True) if letter not in result for a in axis)
    x = reduced(step.maps, "ReduceSum", x, gone) if gone else x
    return replace(x, axes=tuple(x.axes[letters.index(letter)] for letter in result))


def _two(step: Step, names: Sequence[str], result: str) -> Laid:
    x, y = step.tensor(0), step.tensor(1)
    shared = [letter for letter in names[0] if letter in names[1]]
    x, y = aligned(
        x, y, [(names[0].index(s), names[1].index(s)) for s in shared if x.axes[names[0].index(s)] and y.axes[names[1].index(s)]]
    )
    axes = {
        letter: axis
        for letters, t in ((names[1], y), (names[0], x))
        for letter, axis in zip(letters, t.axes, strict=True)
        if axis
    }
    gone = frozenset(a for letter, axis in axes.items() if letter not in result for a in axis)
    return contracted(step.maps, x, y, gone, tuple(axes.get(letter, ()) for letter in result))


def _weighted(step: Step, names: Sequence[str], result: str, index: int) -> Laid:
    """An activation with weights: summed letters are inputs, letters that only the weights have are outputs."""
    x, value = step.tensor(index), step.node.input(1 - index)
    assert value is not None
    letters, weights, read = names[index], names[1 - index], step.read(value)
    summed = [k for k in letters if k in weights and k not in result]
    new = [k for k in weights if k not in letters]
    shared = [k for k in weights if k in letters and k in result]
    alone = [k for k in letters if k not in weights and k not in result]
    dims = dict(zip(weights, shape_of(value), strict=True))
    if not summed or alone or any(k not in result for k in new):
        raise Refused(f"Einsum {','.join(names)}->{result} with weights")
    kept = [k for k in letters if k not in summed]
    inner = tuple(a for k in summed for a in x.axes[letters.index(k)])
    x = replace(x, axes=(*(x.axes[letters.index(k)] for k in kept), inner))
    apart = tuple(a for k in shared for a in x.axes[kept.index(k)])
    outputs = math.prod(dims[k] for k in new)

    def weight(build: Builder) -> Array:
        return read(build).transpose([weights.index(k) for k in (*shared, *new, *summed)])

    made = linear(step.maps, x, len(kept), outputs, weight, value.dtype, apart=apart)
    made = reshaped(step.maps, made, (*made.shape[:-1], *(dims[k] for k in new)))
    order = [*kept, *new]
    return made.permuted([order.index(k) for k in result])


def attention(step: Step) -> list[Laid]:
    """The fused operator: scores, scale, mask, softmax, values; heads of keys repeated for those of queries. Raises Refused."""
    node, maps, program = step.node, step.maps, step.maps.program
    if any(node.input(i) is not None for i in (4, 5, 6)) or is_read(node.outputs[1:]):
        raise Refused("Attention keeps keys and values of earlier calls, or gives its scores away")
    if node.attr("softmax_precision") is not None:
        raise Refused("Attention with softmax_precision")
    q, k, v = (step.tensor(i) for i in range(3))
    if len(q.axes) == 3:
        heads, others = int(node.attr("q_num_heads")), int(node.attr("kv_num_heads"))
        q, k, v = (_headed(step, t, n) for t, n in ((q, heads), (k, others), (v, others)))
    heads, others = q.shape[1], k.shape[1]
    if heads % others:
        raise Refused("Attention whose heads of queries are no multiple of those of keys")
    k, v = (_repeated(step, t, heads // others) for t in (k, v))
    scale = node.attr("scale") or 1.0 / math.sqrt(q.shape[-1])
    q = replace(q, name=program.two("Mul", q.name, program.number(scale, q.name)))
    scores = product(step, q, k.permuted((0, 1, 3, 2)))
    if cap := float(node.attr("softcap", 0.0)):  # in front of the mask, as in ONNX's reference and ONNX Runtime
        capped = program.one("Tanh", program.two("Mul", scores.name, program.number(1.0 / cap, scores.name)))
        scores = replace(scores, name=program.two("Mul", capped, program.number(cap, scores.name)))
    scores = _masked(step, scores)
    scores = softmax(maps, scores, frozenset(scores.axes[-1]))
    mixed = product(step, scores, v)
    if len(step.shape) == 3:
        mixed = reshaped(maps, mixed.permuted((0, 2, 1, 3)), step.shape)
    return [mixed]


def _headed(step: Step, x: Laid, heads: int) -> Laid:
    batch, count, channels = x.shape
    return reshaped(step.maps, x, (batch, count, heads, channels // heads)).permuted((0, 2, 1, 3))


def _repeated(step: Step, x: Laid, times: int) -> Laid:
    """Each head several times over, as views do it."""
    if times == 1:
        return x
    axes = (x.axes[0], (*x.axes[1], *axis_of(times)), *x.axes[2:])
    return replace(x, axes=axes)


def _masked(step: Step, scores: Laid) -> Laid:
    """Scores with what may not be looked at far below the others."""
    node, kind = step.node, numpy_type(step.node.output.dtype)
    value = node.input(3)
    causal = bool(node.attr("is_causal", 0))
    if value is not None and not step.ctx.is_constant(value):
        if causal or value.dtype == 9:
            raise Refused(f"the mask {short(value.name)!r} is not constant")
        return both(step.maps, "Add", scores, step.tensor(3))
    if value is None and not causal:
        return scores
    rows, columns = scores.shape[-2:]
    shape = (
        (rows, columns) if value is None else tuple(np.broadcast_shapes(shape_of(value), (rows, columns) if causal else (1, 1)))
    )
    read = None if value is None else step.read(value)

    def mask(build: Builder) -> Array:
        total = np.zeros(shape, np.float64)
        if read is not None:
            given = read(build)
            total = total + (np.where(given, 0.0, -np.inf) if given.dtype == np.bool_ else given)
        if causal:
            total = total + np.where(np.tri(rows, columns, dtype=np.bool_), 0.0, -np.inf)
        return np.asarray(np.maximum(total, masking(kind)), kind)

    scores, operand = fixed(step.maps, scores, shape, mask, node.output.dtype)
    return replace(scores, name=step.maps.program.two("Add", scores.name, operand))


def conv(step: Step) -> list[Laid]:
    """A 1x1 convolution, which is a matrix on axis 1, or one along the only axis of space. Raises Refused."""
    x, node = step.tensor(), step.node
    value = step.constant(1)
    if value is None:
        raise Refused("Conv with computed weights")
    dims = shape_of(value)
    plain = (
        all(s == 1 for s in node.attr("strides") or (1,))
        and not any(node.attr("pads") or (0,))
        and _rule_of_pads(node) in ("NOTSET", "VALID")
    )
    bias = step.constant(2)
    if node.input(2) is not None and bias is None:
        raise Refused("Conv with a computed bias")
    if plain and math.prod(dims[2:]) == 1 and node.attr("group", 1) == 1:
        read = step.read(value)
        made = linear(
            step.maps,
            x,
            1,
            dims[0],
            lambda build: read(build).reshape(dims[:2]),
            value.dtype,
            None if bias is None else step.read(bias),
        )
        return [made]
    if len(x.axes) != 3:
        raise Refused("Conv on a tensor that is no map")
    return [_along(step, x, value, bias)]


def _rule_of_pads(node: Node) -> str:
    """What `auto_pad` says; exporters write it also where it is NOTSET, which is that `pads` count."""
    return str(node.attr("auto_pad", "NOTSET"))


def _along(step: Step, x: Laid, value: Value, bias: Value | None) -> Laid:
    """A convolution over the one axis of space of [B, C, L], as one over the columns of a map."""
    node, dims = step.node, shape_of(value)
    read = step.read(value)
    x = step.maps.laid(x, stored((x.axes[0], x.axes[1], (), x.axes[2])))
    weight = Constant((*dims[:2], 1, dims[2]), lambda build: read(build)[:, :, None, :], numpy_type(value.dtype))
    given: list[Operand] = [x.name, weight, *([] if bias is None else [bias])]
    one: dict[str, Any] = {n: [1, int(node.attr(n)[0])] for n in ("strides", "dilations") if node.attr(n)}
    pads = node.attr("pads") or (0, 0)
    rule = _rule_of_pads(node)
    extra = {"pads": [0, int(pads[0]), 0, int(pads[1])]} if rule == "NOTSET" else {"auto_pad": rule}
    batch, channels, length = step.shape
    name = step.maps.program.op(
        "Conv", (batch, channels, 1, length), *given, kernel_shape=[1, dims[2]], group=int(node.attr("group", 1)), **one, **extra
    )
    axes: tuple[Axis, ...] = (x.axes[0], axis_of(channels), axis_of(length))
    return Laid(axes, stored((x.axes[0], axes[1], (), axes[2])), name)
