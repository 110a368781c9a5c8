from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx

from npu_guard.results.proof import SAMPLED
from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_INTEGERS = frozenset({2, 3, 4, 5, 6, 7, 12, 13})
_FLOATS = frozenset({1, 10, 11})
LARGEST = 1 << 20
"""Elements of a constant that takes the place of an operator."""
_ABSORBING = {"Mul": 0, "And": 0, "Or": 1}
"""The operand with which the result is that operand, whatever the other one is."""


class AbsorbedToConstant(Substitution):
    """A product of integers with 0, and a condition that a constant decides alone, become that constant.

    k 0 = 0 for every integer k, a and false = false, a or true = true. Exporters leave such a product where an input has to be
    read by somebody: a mode times 0, added to what it does not change. (Not so in floating point, where an infinity times 0 is
    no number.) An input that only this has read is read by nobody then, and stays in the interface of the model.
    """

    name = "absorbed-to-constant"
    roots = ("Mul", "And", "Or", "Cast")
    limits = {"tensor.dtypes": ["float32", "float16"]}
    operators = dict.fromkeys(("Mul", "Add", "Cast"), "supported")
    good = (
        Example(
            """g (float[1,8,4,4] x, int64 mode) => (y)
            <int64 zero = {0}> { m = Mul(mode, zero)  n = Cast<to = 1>(m)  y = Add(x, n) }""",
            ops=("Constant", "Add"),
            title="a mode that changes nothing",
            label=SAMPLED,
        ),
        Example(
            """g (float[1,8,4,4] x, int32[8,1,1] k) => (y)
            <int32[1,1,4] zero = {0, 0, 0, 0}> { m = Mul(zero, k)  n = Cast<to = 1>(m)  y = Add(x, n) }""",
            ops=("Constant", "Add"),
            title="over axes of both operands",
            label=SAMPLED,
        ),
        Example(
            """g (float[1,8,4,4] x, bool[1,8,4,4] b) => (y)
            <bool no = {0}> { m = And(b, no)  n = Cast<to = 1>(m)  y = Add(x, n) }""",
            ops=("Constant", "Add"),
            title="a condition that never holds",
            label=SAMPLED,
        ),
        Example(
            """g (float[1,8,4,4] x, bool[1,8,1,1] b) => (y)
            <bool[1,1,4,4] yes = {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}> { m = Or(yes, b)  n = Cast<to = 1>(m)  y = Mul(x, n) }""",
            ops=("Constant", "Mul"),
            title="a condition that always holds",
        ),
        Example(
            """g (float[1,8,4,4] x, int64 mode) => (y)
            <int64 zero = {0}> { m = Mul(mode, zero)  n = Cast<to = 1>(m)  y = Add(x, n) }""",
            ops=("Constant", "Add"),
            limits={},
            operators=dict.fromkeys(("Mul", "Add"), "supported") | {"Cast": "refused"},
            title="what reads it in another type",
            label=SAMPLED,
        ),
    )
    bad = (
        Example(
            """g (int64[1,8,4,4] k) => (y) <int64[4] z = {0, 0, 1, 0}> { y = Mul(k, z) }""",
            refused="no operand of it decides alone",
        ),
        Example(
            """g (bool[1,8,4,4] b) => (y) <bool z = {1}> { y = And(b, z) }""",
            refused="no operand of it decides alone",
        ),
        Example(
            """g (int64["N"] k, float[1,8,4,4] x) => (y) <int64 z = {0}> { y = Mul(k, z) }""",
            refused="its shape is not known",
        ),
        Example(
            """g (int64[1024,1,1024,1] k) => (y) <int64[1,2,1,2] z = {0, 0, 0, 0}> { y = Mul(k, z) }""",
            refused="its result has 4,194,304 elements",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        maker = node if node.op_type != "Cast" else ctx.input(node, 0).producer
        if maker is None or maker.domain or maker.op_type not in _ABSORBING:
            return None
        if maker.op_type == "Mul" and maker.output.dtype not in _INTEGERS:
            return None  # an infinity times 0 is no number
        number = _ABSORBING[maker.op_type]
        known = [None if v is None else ctx.analysis.constants.get(v) for v in maker.inputs]
        if not any(array is not None and array.size and bool((array == number).all()) for array in known):
            if maker is not node:
                return None
            raise Refused("no operand of it decides alone")
        shape = numbers(maker.output)
        if shape is None:
            raise Refused("its shape is not known; fix it with --input-shape")
        if (count := int(np.prod(shape))) > LARGEST:
            raise Refused(f"its result has {count:,} elements, which a file is not to hold")
        if node is maker:
            return Match(self, node, (node,), (node.output,), (shape, number))
        if node.output.dtype not in (*_INTEGERS, *_FLOATS):
            return None
        others = any(reader is not node for reader in maker.output.consumers) or maker.output.is_output
        return Match(self, node, (maker, node), (maker.output, node.output) if others else (node.output,), (shape, number))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._written(match, build, match.facts[1])

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The other number."""
        return self._written(match, build, 1 - match.facts[1])

    def _written(self, match: Match, build: Builder, number: int) -> Mapping[Value, str]:
        def constant(value: Value) -> str:
            array = np.full(match.facts[0], number, onnx.helper.tensor_dtype_to_np_dtype(value.dtype))
            return build.op("Constant", value=onnx.numpy_helper.from_array(array))

        return {value: constant(value) for value in match.replaced}
