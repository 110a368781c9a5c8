from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx

from npu_guard.rewriting.arithmetic import FLOATS
from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.recurrent_cells import STEPS, CellWeights
from npu_guard.rewriting.substitution import Array, Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
ACTIVATIONS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
"""What ONNX takes for one direction where the node says nothing."""
PLAIN = {name.lower(): name for name in ("Sigmoid", "Tanh", "Relu", "Softsign", "Softplus")}
"""Activations that are an operator without a number of their own."""
MOST_STEPS = 32
"""Steps of all directions beyond which a loop is no longer written out: each has some fifteen nodes."""
_WHOLE = dict.fromkeys(
    ("Gemm", "Add", "Mul", "Sub", "Sigmoid", "Tanh", "Slice", "Squeeze", "Unsqueeze", "Concat", "Relu"), "supported"
)
_REFUSED = {**_WHOLE, "LSTM": "refused", "GRU": "refused", "RNN": "refused"}


class RecurrenceToSteps(Substitution):
    """LSTM, GRU and RNN over a known number of steps become these steps, one behind the other.

    A step is two Gemm, of the input and of the state, and a few operators on each element. LSTM: with the gates i, o, f and c of
    W x + R h + b, C = sigmoid(f) C + sigmoid(i) tanh(c) and h = sigmoid(o) tanh(C). GRU: with z and r, h = n + z (h - n), and n
    is tanh(W x + (r h) R + b), or tanh(W x + b + r (R h + b)) with linear_before_reset. RNN: h = tanh(W x + R h + b) (the ONNX
    operators' own definitions). With peepholes, i and f read the cell before the step and o the one after it. Other activations
    take the places of these. A state that nobody gives is 0, so its terms are left out of the first step.
    """

    name = "recurrence-to-steps"
    roots = ("LSTM", "GRU", "RNN")
    alone = True
    operators = _REFUSED
    good = (
        Example(
            """g (float[3,1,4] x) => (y, h, c) <float[1,20,4] w, float[1,20,5] r, float[1,40] b>
            { y, h, c = LSTM<hidden_size = 5>(x, w, r, b) }""",
            title="three steps",
        ),
        Example(
            """g (float[1,2,4] x, float[1,2,5] h, float[1,2,5] c) => (y) <float[1,20,4] w, float[1,20,5] r, float[1,40] b>
            { o, n, m = LSTM<hidden_size = 5>(x, w, r, b, , h, c)  s = Relu(n)  y = Add(s, m) }""",
            ops=(
                *(
                    "Squeeze",
                    "Squeeze",
                    "Squeeze",
                    "Gemm",
                    "Gemm",
                    "Add",
                    "Slice",
                    "Slice",
                    "Slice",
                    "Slice",
                    "Sigmoid",
                    "Tanh",
                    "Mul",
                ),
                *("Sigmoid", "Mul", "Add", "Sigmoid", "Tanh", "Mul", "Unsqueeze", "Relu", "Unsqueeze", "Add"),
            ),
            title="one step with its state, as in streaming audio",
        ),
        Example(
            """g (float[4,1,4] x) => (y) <float[2,15,4] w, float[2,15,5] r, float[2,30] b>
            { y = GRU<hidden_size = 5, direction = "bidirectional", linear_before_reset = 1>(x, w, r, b) }""",
            title="both directions",
        ),
        Example(
            """g (float[3,2,4] x, float[1,2,5] h) => (y, l) <float[1,15,4] w, float[1,15,5] r>
            { y, l = GRU<hidden_size = 5, direction = "reverse">(x, w, r, , , h) }""",
            title="backwards, without a bias",
        ),
        Example(
            """g (float[3,2,4] x) => (y, l) <float[1,5,4] w, float[1,5,5] r, float[1,10] b>
            { y, l = RNN<hidden_size = 5>(x, w, r, b) }""",
        ),
        Example(
            """g (float[3,2,4] x) => (y) <float[2,5,4] w, float[2,5,5] r>
            { y = RNN<hidden_size = 5, direction = "bidirectional", activations = ["Relu", "Relu"]>(x, w, r) }""",
            title="with another activation",
        ),
        Example(
            """g (float[2,3,4] x, float[1,3,5] h, float[1,3,5] c) => (y)
            <float[1,20,4] w, float[1,20,5] r, float[1,40] b, float[1,15] p>
            { y = LSTM<hidden_size = 5>(x, w, r, b, , h, c, p) }""",
            title="gates that read the cell",
        ),
    )
    bad = (
        Example(
            """g (float[40,1,4] x) => (y) <float[1,20,4] w, float[1,20,5] r> { y = LSTM<hidden_size = 5>(x, w, r) }""",
            refused="it has 40 steps; 32 are the most that are written out",
        ),
        Example(
            """g (float[3,2,4] x) => (y) <float[1,20,4] w, float[1,20,5] r>
            { y = LSTM<hidden_size = 5, activations = ["Sigmoid", "Elu", "Tanh"]>(x, w, r) }""",
            refused="its activations are sigmoid, elu, tanh",
        ),
        Example(
            """g (float[3,2,4] x, int32[2] n) => (y) <float[1,20,4] w, float[1,20,5] r>
            { y = LSTM<hidden_size = 5>(x, w, r, , n) }""",
            refused="its sequences have lengths of their own",
        ),
        Example(
            """g (float[3,2,4] x) => (y) <float[1,20,4] w, float[1,20,5] r> { y = LSTM<hidden_size = 5, clip = 3.0>(x, w, r) }""",
            refused="it clips",
        ),
        Example(
            """g (float[3,2,4] x, float[1,20,4] w) => (y) <float[1,20,5] r> { y = LSTM<hidden_size = 5>(x, w, r) }""",
            refused="its weights are computed",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        x, weight = numbers(node.input(0)), numbers(node.input(1))
        if x is None or weight is None:
            raise Refused("the number of its steps is not known; fix its shapes with --input-shape")
        if node.input(4) is not None:
            raise Refused("its sequences have lengths of their own")
        if node.op_type == "LSTM" and node.attr("input_forget", 0):
            raise Refused("its gates are coupled")
        if node.attr("clip") is not None:
            raise Refused("it clips")
        if node.attr("layout", 0):
            raise Refused("its batch comes before its steps")
        if node.output.dtype not in FLOATS:
            raise Refused("its elements are neither float32, float16 nor double")
        directions = weight[0]
        named = [a.lower() for a in node.attr("activations") or ()]
        usual = [*ACTIVATIONS[node.op_type]] * directions
        named = named[: len(usual)]
        if any(name not in PLAIN for name in named) or len(named or usual) < len(usual):
            raise Refused(f"its activations are {', '.join(named)}")
        if any(v is not None and not ctx.is_constant(v) for v in (node.input(i) for i in (1, 2, 3, 7))):
            raise Refused("its weights are computed")
        if x[0] * directions > MOST_STEPS:
            raise Refused(f"it has {x[0] * directions} steps; {MOST_STEPS} are the most that are written out")
        outputs = tuple(v for v in node.outputs if v is not None and (v.consumers or v.is_output))
        return Match(
            self,
            node,
            (node,),
            outputs,
            (x[0], directions, weight[1] // GATES[node.op_type], x[2], tuple(PLAIN[name] for name in named or usual)),
        )

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, build, 0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Two gates, or for an RNN two elements of the state, change places."""
        return _written(match, build, 1)


def _written(match: Match, build: Builder, shift: int) -> Mapping[Value, str]:
    node = match.root
    steps, directions, *_ = match.facts
    direction = node.attr("direction", "forward")
    x = node.inputs[0]
    assert x is not None
    # One step needs no Slice, so that the axis of steps, which is put on and taken off again, is no rearrangement.
    inputs = [build.squeeze(x if steps == 1 else build.slice(x, 0, t, t + 1), 0) for t in range(steps)]
    columns: list[list[str]] = []
    hidden, cells = [], []
    for d in range(directions):
        weights = _weights(match, build, d, shift)
        order = range(steps)[::-1] if direction == "reverse" or d == 1 else range(steps)
        h, c = (_initial(node, build, i, d, directions) for i in (5, 6))
        column = [""] * steps
        for t in order:
            h, c = STEPS[node.op_type](build, weights, inputs[t], h, c)
            column[t] = build.unsqueeze(h, 0, 1) if directions == 1 else build.unsqueeze(h, 0)
        columns.append(column)
        hidden.append(build.unsqueeze(h or "", 0))
        cells.append(build.unsqueeze(c, 0) if c else "")
    return _collected(match, build, columns, hidden, cells)


def _collected(
    match: Match, build: Builder, columns: Sequence[Sequence[str]], hidden: Sequence[str], cells: Sequence[str]
) -> Mapping[Value, str]:
    """All states, [steps, directions, batch, hidden], and the last of each direction, for what is read of them."""
    node, wanted = match.root, set(match.replaced)
    found: dict[Value, str] = {}
    for i, value in enumerate(node.outputs):
        if value is None or value not in wanted:
            continue
        if i == 0:
            rows = (
                columns[0]
                if len(columns) == 1
                else [build.unsqueeze(_joined(build, pair), 0) for pair in zip(*columns, strict=True)]
            )
            found[value] = _joined(build, rows)
        else:
            found[value] = _joined(build, hidden if i == 1 else cells)
    return found


def _joined(build: Builder, parts: Sequence[str]) -> str:
    return build.op("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]


def _initial(node: Node, build: Builder, index: int, direction: int, directions: int) -> str:
    """The state before the first step, [batch, hidden]; empty where it is 0."""
    value = node.input(index)
    if value is None or (index == 6 and node.op_type != "LSTM"):
        return ""
    return build.squeeze(value if directions == 1 else build.slice(value, 0, direction, direction + 1), 0)


def _weights(match: Match, build: Builder, direction: int, shift: int) -> CellWeights:
    node = match.root
    _, directions, hidden, width, activations = match.facts
    gates = GATES[node.op_type]
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(node.output.dtype))

    def part(index: int, columns: int) -> str:
        value = node.input(index)
        assert value is not None

        def make() -> Array:
            array = np.asarray(build.weight(value)[direction], dtype)
            return np.roll(array, shift * (hidden if gates > 1 else 1), axis=0) if index == 2 else array

        return build.later((gates * hidden, columns), make, dtype, "gates")

    def bias(half: int) -> str:
        value = node.input(3)
        if value is None:
            return ""
        rows = slice(half * gates * hidden, (half + 1) * gates * hidden)
        return build.later((gates * hidden,), lambda: np.asarray(build.weight(value)[direction][rows], dtype), dtype, "bias")

    def peephole(gate: int) -> str:
        value = node.input(7)
        assert value is not None
        own = slice(gate * hidden, (gate + 1) * hidden)
        return build.later((hidden,), lambda: np.asarray(build.weight(value)[direction][own], dtype), dtype, "peephole")

    each = len(activations) // directions
    own = activations[direction * each : (direction + 1) * each]
    of_cell = tuple(map(peephole, range(3))) if node.input(7) is not None else ()
    return CellWeights(
        part(1, width), part(2, hidden), bias(0), bias(1), of_cell, own, hidden, bool(node.attr("linear_before_reset", 0)), dtype
    )
