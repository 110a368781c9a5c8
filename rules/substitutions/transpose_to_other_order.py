from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_ROWS = ({"ops": ["Transpose"], "metric": "perm", "in": [[0, 1, 3, 2]], "consequence": "host"},)
_HEADS = ({"ops": ["Transpose"], "metric": "perm", "in": [[0, 2, 1, 3]], "consequence": "host"},)
_MATRICES = ({"ops": ["Transpose"], "metric": "perm", "in": [[1, 0]], "consequence": "host"},)


class TransposeToOtherOrder(Substitution):
    """A Transpose that exchanges two blocks of axes becomes one of another order, between two Reshapes.

    Axes that stay neighbours move as one, and axes of extent 1 do not count. What is left is [p, a, b, s] -> [p, b, a, s] with
    p in front and s behind, which (0, 1, 3, 2), (0, 2, 1, 3), (0, 2, 1) and (1, 0) say in different shapes.
    """

    name = "transpose-to-other-order"
    ends = True
    roots = ("Transpose",)
    alone = True
    operators = dict.fromkeys(("Reshape", "Transpose"), "supported")
    good = (
        Example(
            "g (float[2,5,8] x) => (y) { y = Transpose<perm = [0,2,1]>(x) }",
            ops=("Reshape", "Transpose", "Reshape"),
            require=_ROWS,
            title="tokens",
        ),
        Example(
            "g (float[1,8,4,5] x) => (y) { y = Transpose<perm = [0,2,3,1]>(x) }",
            ops=("Reshape", "Transpose", "Reshape"),
            require=_ROWS,
            title="channels last",
        ),
        Example(
            "g (float[5,3,8] x) => (y) { y = Transpose<perm = [1,0,2]>(x) }",
            ops=("Reshape", "Transpose", "Reshape"),
            require=_HEADS,
            title="rows of vectors",
        ),
        Example(
            "g (float[1,8,4,5] x) => (y) { y = Transpose<perm = [0,2,3,1]>(x) }",
            ops=("Reshape", "Transpose", "Reshape"),
            require=_MATRICES,
            title="for a device that takes matrices alone",
        ),
    )
    bad = (
        Example(
            "g (float[2,3,4,5] x) => (y) { y = Transpose<perm = [3,1,0,2]>(x) }",
            refused="it moves 4 blocks of axes",
            require=_ROWS,
        ),
        Example(
            "g (float[1,8,H,5] x) => (y) { y = Transpose<perm = [0,2,3,1]>(x) }",
            refused="its shapes are not known",
            require=_ROWS,
        ),
        Example("g (float[1,8,1,1] x) => (y) { y = Transpose<perm = [0,2,3,1]>(x) }", refused="it moves nothing", require=_ROWS),
    )

    def match(self, node: Node, ctx: Context) -> Sequence[Match]:
        extents, after = numbers(node.input(0)), numbers(node.output)
        if extents is None or after is None:
            raise Refused("its shapes are not known; fix them with --input-shape")
        stated = node.attr("perm") or range(len(extents))[::-1]
        front, first, second, behind = _exchanged([int(a) for a in stated], extents)
        shapes = {  # with -1 in front, a shape holds for every batch
            (0, 1, 3, 2): (-1, front, first, second) if behind == 1 else None,
            (0, 2, 1, 3): (-1, first, second, behind),
            (0, 2, 1): (-1, first, second) if behind == 1 else None,
            (1, 0): (first, second) if front == behind == 1 else None,
        }
        old = tuple(stated)
        ways = {order: shape for order, shape in shapes.items() if shape is not None and order != old}
        return [Match(self, node, (node,), (node.output,), (shape, after), variant=order) for order, shape in ways.items()]

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, exchanged=True)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """Both blocks as long as the other one before they are exchanged."""
        return self._write(match, build, exchanged=False)

    def _write(self, match: Match, build: Builder, *, exchanged: bool) -> Mapping[Value, str]:
        order, (shape, after) = match.variant, match.facts
        assert isinstance(order, tuple)
        before = shape if exchanged else [shape[i] for i in order]
        moved = build.op("Transpose", build.op("Reshape", match.root.inputs[0], build.ints(*before)), perm=order)
        return {match.root.output: build.op("Reshape", moved, build.ints(-1, *after[1:]))}


def _exchanged(perm: Sequence[int], extents: Sequence[int]) -> tuple[int, int, int, int]:
    """Extents of what stays in front, of the two blocks that are exchanged, and of what stays behind. Raises Refused."""
    moving = [axis for axis in perm if extents[axis] != 1]
    blocks: list[list[int]] = []
    for axis in moving:
        together = blocks and not any(extents[a] != 1 for a in range(blocks[-1][-1] + 1, axis)) and axis > blocks[-1][-1]
        blocks[-1:] = [[*blocks[-1], axis]] if together else [*blocks[-1:], [axis]]
    order = sorted(range(len(blocks)), key=lambda i: blocks[i])
    sizes = [prod(extents[a] for a in block) for block in blocks]
    stays_before = bool(blocks) and order[0] == 0
    stays_behind = bool(blocks) and order[-1] == len(blocks) - 1
    inner = list(range(stays_before, len(blocks) - stays_behind))
    if len(blocks) < 2:
        raise Refused("it moves nothing")
    if len(inner) != 2:
        raise Refused(f"it moves {len(inner)} blocks of axes")
    late, early = inner  # in the result; the block that comes first there came second before
    return sizes[0] if stays_before else 1, sizes[early], sizes[late], sizes[-1] if stays_behind else 1
