"""LSTM, GRU and RNN, step by step as ONNX defines them (ONNX, operator documents)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from npu_guard.proof.arithmetic import Arithmetic
from npu_guard.proof.program import Call
from npu_guard.proof.readings.activations import sigmoid, tanh
from npu_guard.proof.readings.table import at, reading
from npu_guard.proof.tensor import Operand, Tensor, Unsupported, join

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_FUNCTIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
Step = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From the input, the state and the cell (of an LSTM) to the next state and cell."""


@reading("LSTM", "GRU", "RNN")
def _recurrence(a: Arithmetic, call: Call, x: Sequence[Operand]) -> list[Operand]:
    """All states [steps, directions, batch, size], the last ones [directions, batch, size] and, of an LSTM, the last cells."""
    way = call.attr("direction", "forward")
    directions = 2 if way == "bidirectional" else 1
    named = [str(v).lower() for v in call.attributes.get("activations") or _FUNCTIONS[call.op_type] * directions]
    usual = [v.lower() for v in _FUNCTIONS[call.op_type] * directions]
    if named != usual or call.attr("clip", 0.0) or call.attr("layout", 0) or call.attr("input_forget", 0):
        raise Unsupported("this form of a recurrence")
    if at(x, 4) is not None or at(x, 7) is not None:
        raise Unsupported("lengths of sequences, or peepholes")
    given, size = a.lift(x[0]), a.lift(x[2]).shape[2]
    states: list[Tensor] = []
    last: list[tuple[Tensor, Tensor]] = []
    for d in range(directions):
        backward = way == "reverse" or d == 1
        step = _step(a, call, x, d, size)
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


def _step(a: Arithmetic, call: Call, x: Sequence[Operand], direction: int, size: int) -> Step:
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

    def lstm(now: Tensor, state: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        told = fed(now)
        i, o, f, c = (a.add(gate(told, n), kept(state, n)) for n in range(4))
        cell = a.add(a.multiply(sigmoid(a, f), cell), a.multiply(sigmoid(a, i), tanh(a, c)))
        return a.multiply(sigmoid(a, o), tanh(a, cell)), cell

    def gru(now: Tensor, state: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        told = fed(now)
        z, r = (sigmoid(a, a.add(gate(told, n), kept(state, n))) for n in range(2))
        linear = call.attr("linear_before_reset", 0)
        other = a.multiply(r, kept(state, 2)) if linear else kept(a.multiply(r, state), 2)
        new = tanh(a, a.add(gate(told, 2), other))
        return a.add(a.multiply(a.subtract(a.number(1), z), new), a.multiply(z, state)), cell

    def rnn(now: Tensor, state: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        return tanh(a, a.add(fed(now), kept(state, 0))), cell

    return {"LSTM": lstm, "GRU": gru, "RNN": rnn}[call.op_type]
