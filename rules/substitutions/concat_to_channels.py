from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import onnx

from npu_guard.graph.graph import is_known
from npu_guard.rewriting.substitution import Array, Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_CHANNELS = ({"ops": ["Concat"], "metric": "axes", "in": [-3], "consequence": "host"},)


class ConcatToChannels(Substitution):
    """A Concat along another axis becomes one over the channels of maps, between moves.

    Of extents [b, p, n, s], with p in front of the axis and s behind it, a Transpose makes [b, n, p, s]; there the axis is that
    of the channels, and the same Transpose leads back. Where p = 1, as with tokens and rows of one channel, a Reshape does.
    Constant parts are stored in that order.
    """

    name = "concat-to-channels"
    ends = True
    roots = ("Concat",)
    alone = True
    operators = dict.fromkeys(("Concat", "Reshape", "Transpose", "Relu"), "supported")
    good = (
        Example(
            "g (float[2,3,4,5] x, float[2,3,1,5] z) => (y) { y = Concat<axis = 2>(x, z) }",
            ops=("Transpose", "Transpose", "Concat", "Transpose"),
            require=_CHANNELS,
            title="rows",
        ),
        Example(
            """g (float[1,3,4,5] x, float[1,3,4,2] z) => (y) <float[1,3,4,1] c>
            { r = Relu(x)  y = Concat<axis = -1>(z, c, r) }""",
            ops=("Relu", "Transpose", "Transpose", "Concat", "Transpose"),
            require=_CHANNELS,
            title="columns, one of them constant",
        ),
        Example(
            "g (float[1,7,8] x) => (y) <float[1,1,8] c> { y = Concat<axis = 1>(c, x) }",
            ops=("Reshape", "Concat", "Reshape"),
            require=_CHANNELS,
            title="a class token",
        ),
        Example(
            "g (float[2,7,8] x, float[2,7,3] z) => (y) { y = Concat<axis = 2>(x, z) }",
            ops=("Reshape", "Transpose", "Reshape", "Transpose", "Concat", "Transpose", "Reshape"),
            require=_CHANNELS,
            title="features of tokens",
        ),
        Example(
            "g (int64[3,2,4,5] x, int64[1,2,4,5] z) => (y) { y = Concat<axis = 0>(x, z) }",
            ops=("Reshape", "Reshape", "Concat", "Reshape"),
            require=_CHANNELS,
            title="the first axis, of integers",
        ),
        Example(
            'g (float["N",3,4,5] x, float["N",3,4,5] z) => (y) { y = Concat<axis = 3>(x, z) }',
            ops=("Transpose", "Transpose", "Concat", "Transpose"),
            require=_CHANNELS,
            title="a batch that is open",
        ),
    )
    bad = (
        Example(
            'g (float[1,3,"H",5] x, float[1,3,4,5] z) => (y) { y = Concat<axis = 2>(x, z) }',
            refused="its shapes are not known",
            require=_CHANNELS,
        ),
        Example(
            'g (float[1,7,"D"] x, float[1,1,"D"] z) => (y) { y = Concat<axis = 1>(x, z) }',
            refused="its shapes are not known",
            require=_CHANNELS,
        ),
        Example(
            """g (float[1,3,4,5] x, bool b) => (y) { y = If<then_branch = t () => (c) { c = Concat<axis = 2>(x, x) },
                 else_branch = e () => (r) { r = Concat<axis = 3>(x, x) }>(b) }""",
            refused="it is inside a subgraph",
            require=_CHANNELS,
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        parts = [v for v in node.inputs if v is not None]
        if node.graph.parent is not None:
            raise Refused("it is inside a subgraph")
        if any(v.shape is None for v in (*parts, node.output)):
            raise Refused("its shapes are not known; fix them with --input-shape")
        shapes = [v.shape or () for v in (*parts, node.output)]
        rank, axis = len(shapes[0]), int(node.attr("axis", 1)) % max(len(shapes[0]), 1)
        if rank < 2 or len(parts) < 2 or (rank == 4 and axis == 1):
            return None
        if not all(isinstance(extent, int) for shape in shapes for extent in (shape[1:] if axis else shape)):
            raise Refused("its shapes are not known; fix them with --input-shape")
        fixed = {v: shape for v, shape in zip(parts, shapes, strict=False) if ctx.is_constant(v) and is_known(shape)}
        return Match(self, node, (node,), (node.output,), (axis, fixed))

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, build, match.root.inputs)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The parts in the opposite order."""
        return _written(match, build, match.root.inputs[::-1])


def _written(match: Match, build: Builder, parts: Sequence[Value | None]) -> Mapping[Value, str]:
    node, (axis, fixed) = match.root, match.facts
    after = node.output.shape or ()
    perm = _order(after, axis)
    moved: dict[Value, str] = {}
    for value in parts:
        if value is not None and value not in moved:
            moved[value] = _constant(build, value, axis, perm) if value in fixed else _moved(build, value, axis, perm)
    whole = build.op("Concat", *(moved[v] for v in parts if v is not None), axis=1)
    if perm is not None:
        whole = build.op("Transpose", whole, perm=perm)
    if perm is None or len(after) != 4:
        whole = build.op("Reshape", whole, build.ints(*((-1, *after[1:]) if axis else after)))  # type: ignore[arg-type]
    return {node.output: whole}


def _order(shape: Sequence[Any], axis: int) -> list[int] | None:
    """What brings the axis to the channels and back, None where only axes of extent 1 lie in front of it."""
    if prod(shape[1:axis]) == 1:
        return None
    return [0, axis, 2, 1] if len(shape) == 4 and axis == 3 else [0, 2, 1, 3]


def _place(shape: Sequence[Any], axis: int, perm: Sequence[int] | None) -> list[int] | None:
    """The shape of a map in which the axis is at its place before the moves, None where the tensor has it already."""
    behind = shape[axis + 1 :]
    batch = -1 if axis else 1
    if perm is None:
        return [batch, shape[axis], prod(behind[:-1]), prod(behind[-1:])]
    return None if len(shape) == 4 else [batch, prod(shape[1:axis]), shape[axis], prod(behind)]


def _moved(build: Builder, value: Value, axis: int, perm: Sequence[int] | None) -> str:
    place = _place(value.shape or (), axis, perm)
    x = value.name if place is None else build.op("Reshape", value, build.ints(*place))
    return x if perm is None else build.op("Transpose", x, perm=perm)


def _constant(build: Builder, value: Value, axis: int, perm: Sequence[int] | None) -> str:
    """A constant part, stored as it is moved."""
    shape: Any = value.shape
    place = _place(shape, axis, perm) or list(shape)
    place[0] = shape[0] if axis else 1
    order = perm or [0, 1, 2, 3]

    def make() -> Array:
        return build.weight(value).reshape(place).transpose(order)

    return build.later([place[i] for i in order], make, onnx.helper.tensor_dtype_to_np_dtype(value.dtype), "part")
