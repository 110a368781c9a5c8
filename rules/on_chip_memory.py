from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from npu_guard.analysis.cost import elements
from npu_guard.analysis.static import is_read
from npu_guard.base.errors import Undecidable
from npu_guard.checking.rule import Case, Draft, Rule
from npu_guard.device.keys import EVERY
from npu_guard.file.tensors import BITS
from npu_guard.graph.ops import find_operator

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_IN_PLACE = ("unary", "broadcasting", "gate", "view", "identity")
"""Kinds of operators whose result may take the place of what they read."""


class OnChipMemory(Rule):
    """An operator alone needs more than the memory on the chip.

    *What it does*

    Where the device's documents say what of one operator is in on-chip memory at once and whole (`memory.resident`), adds up
    these tensors in the smallest element type that the device holds (`memory.element_bits`), and compares the sum with
    `memory.on_chip_bytes`. The result of an element-wise operator may take the place of its operand, so there the larger side
    counts. It is a lower bound: no scheduling makes such an operator fit, and one that stays below may still not fit.

    *Why it matters*

    What does not fit whole goes to and from outer memory piece by piece, where the compiler can do that, or is refused.

    *What to do*

    Reduce the resolution earlier, use fewer channels at full resolution, or cut the operator into groups of channels.
    """

    code = "NPU406"
    name = "on-chip-memory"
    ops = (EVERY,)
    limits = ("memory.on_chip_bytes", "memory.resident", "memory.element_bits")
    good = (
        Case(
            """g (float[1,8,4,4] x) => (float[1,16,4,4] y) <float[16,8,1,1] w> { y = Conv(x, w) }""",
            limits={"memory.on_chip_bytes": 384, "memory.resident": ["inputs", "outputs"], "memory.element_bits": 8},
            title="128 and 256 bytes as int8 are the most that fits",
        ),
        Case(
            "g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Relu(x) }",
            limits={"memory.on_chip_bytes": 128, "memory.resident": ["inputs", "outputs"], "memory.element_bits": 8},
            title="the result in the place of the operand",
        ),
        Case(
            "g (float[1,8,4,4] x) => (float[1,16,4,4] y) <float[16,8,1,1] w> { y = Conv(x, w) }",
            limits={"memory.on_chip_bytes": 1, "memory.element_bits": 8},
            title="nothing is said to be resident, so the compiler may stream it all",
        ),
    )
    bad = (
        Case(
            "g (float[1,8,4,4] x) => (float[1,16,4,4] y) <float[16,8,1,1] w> { y = Conv(x, w) }",
            limits={"memory.on_chip_bytes": 383, "memory.resident": ["inputs", "outputs"], "memory.element_bits": 8},
            expect=(("y", 384),),
        ),
        Case(
            "g (float[1,8,4,4] x) => (float[1,16,4,4] y) <float[16,8,1,1] w> { y = Conv(x, w) }",
            limits={"memory.on_chip_bytes": 255, "memory.resident": ["weights"], "memory.element_bits": 16},
            expect=(("y", 256),),
            title="weights, and no axes or extents",
        ),
        Case(
            "g (float[1,8,4,4] x) => (float[1,8,4,4] y) { a = Relu(x) y = Mul(x, a) }",
            limits={"memory.on_chip_bytes": 255, "memory.resident": ["inputs", "outputs"], "memory.element_bits": 8},
            expect=(("y", 256),),
            title="both operands of an element-wise operator",
        ),
        Case(
            'g (float[1,8,"H",4] x) => (y) { y = ReduceMean(x) }',
            limits={"memory.on_chip_bytes": 512, "memory.resident": ["inputs"], "memory.element_bits": 8},
            undecided=("y",),
            title="an unknown extent",
        ),
        Case(
            "g (float[1,8,4,4] x) => (y) { y = ReduceMean(x) }",
            limits={"memory.on_chip_bytes": 511, "memory.resident": ["inputs"]},
            undecided=("y",),
            title="a device file without the bits of an element",
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        resident = ctx.limit("memory.resident") or ()
        operator = find_operator(node.op)
        counted = operator.indices("data", "weight", "bias", "mask", "state")  # shapes and axes are a compiler's
        inputs = list(
            dict.fromkeys(v for i, v in enumerate(node.inputs) if v is not None and (operator.variadic or i in counted))
        )
        sides: dict[str, Sequence[Value]] = {
            "inputs": [v for v in inputs if not ctx.is_constant(v)],
            "weights": [v for v in inputs if ctx.is_constant(v)],
            "outputs": [v for v in node.outputs if v is not None and v.name and (v is node.output or is_read(v))],
        }
        named = [v for side in resident for v in sides[side]]
        allowed, smallest = ctx.limit("memory.on_chip_bytes"), ctx.limit("memory.element_bits")
        if not named or allowed is None:
            return
        if smallest is None:
            raise Undecidable("the device file does not say in how many bits the device holds an element")
        found = {side: sum(_bytes(v, smallest) for v in sides[side]) for side in resident}
        together = sum(found.values())
        if operator.kind in _IN_PLACE and "inputs" in found and "outputs" in found:
            together -= min(found["inputs"], found["outputs"])
        if together > allowed:
            text = f"{' and '.join(found)} take at least {together} bytes on the chip, which has {allowed}"
            yield Draft(text, limit="memory.on_chip_bytes", measured=together)
            return
        for value in named:
            ctx.shape(value)  # undecidable where it is not known


def _bytes(value: Value, smallest: int) -> int:
    """At least so many bytes in the device; nothing where the shape is not known."""
    return ((elements(value.shape) or 0) * min(smallest, BITS.get(value.dtype, smallest)) + 7) // 8
