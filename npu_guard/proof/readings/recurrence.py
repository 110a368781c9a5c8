"""LSTM, GRU and RNN, step by step as ONNX defines them (ONNX, operator documents)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from npu_guard.proof.arithmetic import Arithmetic
from npu_guard.proof.program import Call
from npu_guard.proof.readings.activations import sigmoid, tanh
from npu_guard.proof.readings.table import at, reading
from npu_guard.proof.tensor import Operand, Tensor, Unsupported, join

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_FUNCTIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_CURVES = frozenset({"sigmoid", "tanh", "relu"})
Curve = Callable[[Tensor], Tensor]
Step = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From the input, the state and the cell (of an LSTM) to the next state and cell."""


@reading("LSTM", "GRU", "RNN")
def _recurrence(a: Arithmetic, call: Call, x: Sequence[Operand]) -> list[Operand]:
    """All states [steps, directions, batch, size], the last ones [directions, batch, size] and, of an LSTM, the last cells."""
    way = call.attr("direction", "forward")
    directions = 2 if way == "bidirectional" else 1
    count = len(_FUNCTIONS[call.op_type])
    stated = call.attributes.get("activations") or _FUNCTIONS[call.op_type] * directions
    named = [(v.decode() if isinstance(v, bytes) else str(v)).lower() for v in stated][: count * directions]
    if any(call.attr(name, 0) for name in ("clip", "layout", "input_forget")) or not _CURVES.issuperset(named):
        raise Unsupported("this form of a recurrence")
    if at(x, 4) is not None:
        raise Unsupported("lengths of sequences")
    given, size = a.lift(x[0]), a.lift(x[2]).shape[2]
    states: list[Tensor] = []
    last: list[tuple[Tensor, Tensor]] = []
    for d in range(directions):
        backward = way == "reverse" or d == 1
        step = _step(a, call, x, d, size, [_curve(a, name) for name in named[d * count : (d + 1) * count]])
        state, cell = (_start(a, at(x, i), d, (given.shape[1], size)) for i in (5, 6))
        seen: list[Tensor] = []
        for t in range(given.shape[0])[:: -1 if backward else 1]:
            state, cell = step(_part(given, t), state, cell)
            seen.append(state)
        states.append(join(seen[::-1] if backward else seen, np.stack))
        last.append((state, cell))
    made: list[Operand] = [join(states, lambda arrays: np.stack(arrays, 1))]
    made += [join([pair[i] for pair in last], np.stack) for i in range(2 if call.op_type == "LSTM" else 1)]
    return made


def _part(x: Tensor, index: int) -> Tensor:
    return x.map(lambda v: v[index])


def _start(a: Arithmetic, given: Operand, direction: int, shape: tuple[int, int]) -> Tensor:
    if given is None:
        return a.constant(np.zeros(shape, np.float32))
    return _part(a.lift(given), direction)


def _curve(a: Arithmetic, name: str) -> Curve:
    return a.relu if name == "relu" else functools.partial({"sigmoid": sigmoid, "tanh": tanh}[name], a)


def _step(a: Arithmetic, call: Call, x: Sequence[Operand], direction: int, size: int, curves: Sequence[Curve]) -> Step:
    """One step of a direction. Gates lie behind each other: i, o, f, c of an LSTM, z, r, h of a GRU."""
    inner, across = (_part(a.lift(x[i]), direction).map(lambda v: v.T) for i in (1, 2))
    count = _GATES[call.op_type] * size
    bias = _part(a.lift(at(x, 3)), direction) if at(x, 3) is not None else a.constant(np.zeros(2 * count, np.float32))
    outer_bias, state_bias = bias.map(lambda v: v[:count]), bias.map(lambda v: v[count:])

    def gate(t: Tensor, number: int) -> Tensor:
        return t.map(lambda v: v[..., number * size : (number + 1) * size])

    def fed(now: Tensor) -> Tensor:
        return a.add(a.matmul(now, inner), outer_bias)

    def kept(state: Tensor, number: int) -> Tensor:
        return a.add(a.matmul(state, gate(across, number)), gate(state_bias, number))

    def seen(t: Tensor, cell: Tensor, number: int) -> Tensor:
        """A gate of an LSTM with what it reads of the cell."""
        if (peepholes := at(x, 7)) is None:
            return t
        return a.add(t, a.multiply(cell, gate(_part(a.lift(peepholes), direction), number)))

    def lstm(now: Tensor, state: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        told = fed(now)
        i, o, f, c = (a.add(gate(told, n), kept(state, n)) for n in range(4))
        i, f = seen(i, cell, 0), seen(f, cell, 2)
        cell = a.add(a.multiply(curves[0](f), cell), a.multiply(curves[0](i), curves[1](c)))
        return a.multiply(curves[0](seen(o, cell, 1)), curves[2](cell)), cell

    def gru(now: Tensor, state: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        told = fed(now)
        z, r = (curves[0](a.add(gate(told, n), kept(state, n))) for n in range(2))
        linear = call.attr("linear_before_reset", 0)
        other = a.multiply(r, kept(state, 2)) if linear else kept(a.multiply(r, state), 2)
        new = curves[1](a.add(gate(told, 2), other))
        return a.add(a.multiply(a.subtract(a.number(1), z), new), a.multiply(z, state)), cell

    def rnn(now: Tensor, state: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        return curves[0](a.add(fed(now), kept(state, 0))), cell

    return {"LSTM": lstm, "GRU": gru, "RNN": rnn}[call.op_type]
