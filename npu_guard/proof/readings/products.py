"""Sums, means and products of matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from npu_guard.proof.arithmetic import Arithmetic
from npu_guard.proof.modular import Array
from npu_guard.proof.program import Call
from npu_guard.proof.readings.table import READINGS, at, axes, ints, parameter, reading
from npu_guard.proof.tensor import Operand, Tensor, Unsupported, join


@reading(
    "ReduceMax", "ReduceMin", "ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceProd",
)  # fmt: skip
def _reduce(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    given, chosen, kind = a.lift(x[0]), axes(call, x), call.op_type
    if not chosen and call.attr("noop_with_empty_axes", 0):
        return given
    over = tuple(axis % given.ndim for axis in chosen) if chosen else tuple(range(given.ndim))
    keep = bool(call.attr("keepdims", 1))
    if kind == "ReduceMax":
        return a.largest(given, over, keep)
    if kind == "ReduceMin":
        return a.negative(a.largest(a.negative(given), over, keep))
    if kind == "ReduceMean":
        return a.mean(given, over, keep)
    if kind in ("ReduceSumSquare", "ReduceL2"):
        squares = a.total(a.multiply(given, given), over, keep)
        return squares if kind == "ReduceSumSquare" else a.root(squares)
    if kind == "ReduceProd":
        return _all_factors(a, given, over, keep)
    if kind == "ReduceL1":
        return a.total(a.absolute(given), over, keep)
    total = a.total(a.exp(given) if kind == "ReduceLogSumExp" else given, over, keep)
    return total if kind == "ReduceSum" else a.function("log", total)


def _all_factors(a: Arithmetic, x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    """The product over axes, by halves."""
    lead = [i for i in range(x.ndim) if i not in axes]
    kept = tuple(1 if i in axes else x.shape[i] for i in range(x.ndim) if keep or i not in axes)
    rest = x.map(lambda v: v.transpose(*lead, *axes).reshape(*(v.shape[i] for i in lead), -1))
    if not rest.shape[-1]:
        raise Unsupported("a product of nothing")
    while (count := rest.shape[-1]) > 1:
        half = count // 2
        front, back = (rest.map(lambda v: v[..., i * half : (i + 1) * half]) for i in (0, 1))  # noqa: B023 - called at once
        product = a.multiply(front, back)
        odd = [rest.map(lambda v: v[..., -1:])] if count % 2 else []
        rest = join([product, *odd], lambda parts: np.concatenate(parts, -1)) if odd else product
    return rest.map(lambda v: v.reshape(kept))


@reading("ArgMax", "ArgMin")
def _place(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """A function of all elements along the axis, in their order; a positive factor that all have does not count."""
    given = a.lift(x[0])
    axis = call.attr("axis", 0) % given.ndim
    own = a.scaled(given, given.scale, invert=True)
    elements = [own.map(lambda v: np.moveaxis(v, axis, 0)[i]) for i in range(given.shape[axis])]  # noqa: B023 - called at once
    found = a.function(f"{call.op_type} {call.attr('select_last_index', 0)}", *elements)
    if call.attr("keepdims", 1):
        found = found.map(lambda v: np.expand_dims(v, axis))
    return replace(found, kind="i")


@reading("CumSum")
def _running(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """A product with a triangle of ones."""
    given, axis = a.lift(x[0]), ints(x[1])[0]
    extent = given.shape[axis]
    ones = np.triu(np.ones((extent, extent), np.float32), 1 if call.attr("exclusive", 0) else 0)
    ones = ones.T if call.attr("reverse", 0) else ones
    rows = given.map(lambda v: np.moveaxis(v, axis, -1)[..., None, :])
    return a.matmul(rows, a.constant(ones)).map(lambda v: np.moveaxis(v[..., 0, :], -1, axis))


@reading("MatMul")
def _matmul(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    left, right = a.lift(x[0]), a.lift(x[1])
    row, column = left.ndim == 1, right.ndim == 1
    result = a.matmul(
        left.map(lambda v: v[None]) if row else left, right.map(lambda v: v[:, None]) if column else right
    )  # fmt: skip
    result = result.map(lambda v: v[..., 0, :]) if row else result
    return result.map(lambda v: v[..., 0]) if column else result


@reading("Gemm")
def _gemm(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    turned = (a.lift(v).map(lambda t: t.T) if call.attr(k, 0) else a.lift(v) for v, k in ((x[0], "transA"), (x[1], "transB")))
    result = a.matmul(*turned)
    if call.attr("alpha", 1.0) != 1.0:
        result = a.multiply(result, parameter(a, call, "alpha", 1.0))
    bias = at(x, 2)
    if bias is None:
        return result
    return a.add(result, a.multiply(bias, parameter(a, call, "beta", 1.0)) if call.attr("beta", 1.0) != 1.0 else bias)


@reading("Einsum")
def _einsum(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """One or two operands: sums of what only one of them has, then a product of matrices in batches."""
    left, arrow, out = call.attributes["equation"].replace(" ", "").partition("->")
    terms = left.split(",")
    if "." in left or not arrow or len(x) != len(terms) or len(x) > 2 or any(len(set(t)) < len(t) for t in terms):
        raise Unsupported("this equation of Einsum")
    operands = []
    for i, term in enumerate(terms):
        elsewhere = out + "".join(terms[:i] + terms[i + 1 :])
        gone = tuple(k for k, letter in enumerate(term) if letter not in elsewhere)
        value = a.lift(x[i])
        operands.append(("".join(c for c in term if c in elsewhere), a.total(value, gone, False) if gone else value))
    if len(operands) == 1:
        ((term, value),) = operands
        return value.map(lambda v: v.transpose([term.index(c) for c in out]))
    (ta, va), (tb, vb) = operands
    extents = dict(zip(ta, va.shape, strict=True)) | dict(zip(tb, vb.shape, strict=True))
    batch = [c for c in ta if c in tb and c in out]
    inner = [c for c in ta if c in tb and c not in out]
    rows, columns = [c for c in ta if c not in tb], [c for c in tb if c not in ta]

    def size(letters: Sequence[str]) -> list[int]:
        return [extents[c] for c in letters]

    def matrices(t: Tensor, term: str, first: Sequence[str], second: Sequence[str]) -> Tensor:
        order = [term.index(c) for c in (*batch, *first, *second)]
        shape = [*size(batch), math.prod(size(first)), math.prod(size(second))]
        return t.map(lambda v: v.transpose(order).reshape(shape))

    product = a.matmul(matrices(va, ta, rows, inner), matrices(vb, tb, inner, columns))
    made = batch + rows + columns
    whole, places = size(made), [made.index(c) for c in out]
    return product.map(lambda v: v.reshape(whole).transpose(places))


def spatial(x: Tensor) -> tuple[int, ...]:
    """Axes behind batch and channels."""
    return tuple(range(2, x.ndim))


READINGS["GlobalAveragePool"] = lambda a, call, x: a.mean(a.lift(x[0]), spatial(a.lift(x[0])), True)
READINGS["GlobalMaxPool"] = lambda a, call, x: a.largest(a.lift(x[0]), spatial(a.lift(x[0])), True)


@reading("RotaryEmbedding")
def _rotary(a: Arithmetic, call: Call, x: Sequence[Operand]) -> Operand:
    """Each pair of numbers is turned by the angle of its position: halves of a head, or numbers that follow each other."""
    given, shape = a.lift(x[0]), a.lift(x[0]).shape
    if len(shape) == 3:
        heads = call.attr("num_heads", 0)
        given = given.map(lambda v: v.reshape((*shape[:2], heads, -1)).swapaxes(1, 2))
    cosine, sine = a.lift(x[1]), a.lift(x[2])
    if (positions := at(x, 3)) is not None:
        if not isinstance(positions, np.ndarray):
            raise Unsupported("positions that depend on data")
        cosine, sine = (table.map(lambda v: v[positions]) for table in (cosine, sine))
    count = call.attr("rotary_embedding_dim", 0) or given.shape[-1]
    cosine, sine = (table.map(lambda v: v[:, None, :, : count // 2]) for table in (cosine, sine))
    pairs = (
        (slice(0, count, 2), slice(1, count, 2)) if call.attr("interleaved", 0) else (slice(count // 2), slice(count // 2, count))
    )
    one, two = (given.map(lambda v: v[..., part]) for part in pairs)  # noqa: B023 - called at once
    turned = a.subtract(a.multiply(cosine, one), a.multiply(sine, two)), a.add(a.multiply(sine, one), a.multiply(cosine, two))

    def put(parts: list[Array]) -> Array:
        result = parts[0].copy()
        for part, new in zip(pairs, parts[1:], strict=True):
            result[..., part] = new
        return result.swapaxes(1, 2).reshape(shape) if len(shape) == 3 else result

    return join([given, *turned], put)
