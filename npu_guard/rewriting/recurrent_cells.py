"""One step of an LSTM, GRU or RNN in operators on matrices and on each element."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from npu_guard.rewriting.substitution import Builder


class CellWeights(Struct, frozen=True):
    """Of one direction, by name: weights of the input and of the state, each with its bias ("" where there is none), weights of
    the cell for i, o and f, and activations.
    """

    of_input: str
    of_state: str
    input_bias: str
    state_bias: str
    peepholes: tuple[str, ...]
    activations: tuple[str, ...]
    hidden: int
    linear: bool
    """Whether a GRU resets the state behind its weights (`linear_before_reset`)."""
    dtype: np.dtype[np.generic]


def _gemm(build: Builder, x: str, weight: str, bias: str) -> str:
    return build.op("Gemm", x, weight, *([bias] if bias else []), transB=1)


def _sum(build: Builder, weights: CellWeights, x: str, h: str) -> str:
    """W x + R h + b; without a state, its bias stays."""
    of_input = _gemm(build, x, weights.of_input, weights.input_bias)
    if h:
        return build.op("Add", of_input, _gemm(build, h, weights.of_state, weights.state_bias))
    return build.op("Add", of_input, weights.state_bias) if weights.state_bias else of_input


def _gate(build: Builder, gates: str, index: int, hidden: int) -> str:
    return build.slice(gates, 1, index * hidden, (index + 1) * hidden)


def _lstm(build: Builder, weights: CellWeights, x: str, h: str, c: str) -> tuple[str, str]:
    gates, hidden = _sum(build, weights, x, h), weights.hidden
    i, o, f, n = (_gate(build, gates, k, hidden) for k in range(4))
    open_, new, out = weights.activations

    def seen(gate: str, cell: str, which: int) -> str:
        """The gate, with what it reads of the cell."""
        return build.op("Add", gate, build.op("Mul", cell, weights.peepholes[which])) if weights.peepholes and cell else gate

    cell = build.op("Mul", build.op(open_, seen(i, c, 0)), build.op(new, n))
    if c:
        cell = build.op("Add", build.op("Mul", build.op(open_, seen(f, c, 2)), c), cell)
    return build.op("Mul", build.op(open_, seen(o, cell, 1)), build.op(out, cell)), cell


def _gru(build: Builder, weights: CellWeights, x: str, h: str, c: str) -> tuple[str, str]:
    hidden = weights.hidden
    of_input = _gemm(build, x, weights.of_input, weights.input_bias)
    of_state = _gemm(build, h, weights.of_state, weights.state_bias) if h else weights.state_bias
    zr = build.slice(of_input, 1, 0, 2 * hidden)
    if of_state:
        zr = build.op("Add", zr, build.slice(of_state, 1 if h else 0, 0, 2 * hidden))
    z, r = (build.op(weights.activations[0], _gate(build, zr, k, hidden)) for k in range(2))
    new = _gate(build, of_input, 2, hidden)
    if of_state and weights.linear:
        new = build.op("Add", new, build.op("Mul", r, build.slice(of_state, 1 if h else 0, 2 * hidden, 3 * hidden)))
    elif h:
        last = build.slice(weights.of_state, 0, 2 * hidden, 3 * hidden)
        bias = build.slice(weights.state_bias, 0, 2 * hidden, 3 * hidden) if weights.state_bias else ""
        new = build.op("Add", new, _gemm(build, build.op("Mul", r, h), last, bias))
    elif of_state:
        new = build.op("Add", new, build.slice(of_state, 0, 2 * hidden, 3 * hidden))
    new = build.op(weights.activations[1], new)
    # (1 - z) n + z h = n + z (h - n)
    kept = build.op("Sub", h, new) if h else build.op("Mul", new, build.constant(np.asarray(-1, weights.dtype), "number"))
    return build.op("Add", new, build.op("Mul", z, kept)), ""


def _rnn(build: Builder, weights: CellWeights, x: str, h: str, c: str) -> tuple[str, str]:
    return build.op(weights.activations[0], _sum(build, weights, x, h)), ""


STEPS = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}
"""One step by operator: from the input, the state and the cell (\"\" where they are 0) to the next state and cell."""
