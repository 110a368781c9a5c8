from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx

from npu_guard.base.errors import Undecidable
from npu_guard.rewriting.arithmetic import FLOATS
from npu_guard.rewriting.node_numbers import numbers
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

SPACE = 2
"""The first axis behind batch and channels."""
_PLAIN_ONLY = ({"ops": ["Slice"], "metric": "value.steps", "is": 1, "consequence": "host"},)


class StridedSliceToConv(Substitution):
    """A Slice with steps over rows or columns of a map becomes a depthwise Conv with that stride.

    The kernel is a single weight of 1, so each number is copied: 1 x = x. Where the Slice begins further in, or ends before the
    map does, a plain Slice cuts the map first; a kernel with zeros before the weight would make 0 x of what is left out, which
    is no number where x is infinite.
    """

    name = "strided-slice-to-conv"
    roots = ("Slice",)
    operators = dict.fromkeys(("Slice", "Conv", "Concat"), "supported")
    good = (
        Example(
            "g (float[1,8,6,10] x) => (y) <int64[2] s = {1, 0}, int64[2] e = {6, 10}, int64[2] a = {2, 3}, int64[2] t = {2, 2}>"
            "{ y = Slice(x, s, e, a, t) }",
            ops=("Slice", "Conv"),
            require=_PLAIN_ONLY,
            title="every second row and column, of a Focus layer",
        ),
        Example(
            "g (float[1,8,6,10] x) => (y, z)"
            "<int64[1] s = {1}, int64[1] o = {0}, int64[1] e = {99}, int64[1] a = {2}, int64[1] b = {3}, int64[1] t = {2}>"
            "{ r = Slice(x, s, e, a, t)  y = Slice(r, o, e, b, t)  z = Slice(r, s, e, b, t) }",
            ops=("Slice", "Conv", "Slice", "Slice", "Conv"),
            require=(*_PLAIN_ONLY, {"ops": ["Conv"], "metric": "stride", "equal": True, "consequence": "host"}),
            title="rows, then columns, for a device that wants equal strides",
        ),
        Example(
            "g (float[2,3,7,9] x) => (y) <int64[1] s = {4}, int64[1] e = {-1}, int64[1] a = {-1}, int64[1] t = {3}>"
            "{ y = Slice(x, s, e, a, t) }",
            ops=("Slice", "Conv"),
            require=_PLAIN_ONLY,
            title="from the fifth column on",
        ),
        Example(
            "g (float[1,8,9] x) => (y) <int64[1] s = {2}, int64[1] e = {9000}, int64[1] a = {2}, int64[1] t = {4}>"
            "{ y = Slice(x, s, e, a, t) }",
            ops=("Slice", "Conv"),
            require=_PLAIN_ONLY,
            title="a sequence",
        ),
        Example(
            "g (float[1,8,5,5] x) => (y) <int64[2] s = {0, 2}, int64[2] e = {5, 6}, int64[2] a = {2, 1}, int64[2] t = {2, 1}>"
            "{ y = Slice(x, s, e, a, t) }",
            ops=("Slice", "Conv"),
            require=_PLAIN_ONLY,
            title="rows of some channels",
        ),
    )
    bad = (
        Example(
            "g (float[1,8,6,10] x) => (y) <int64[1] s = {0}, int64[1] e = {8}, int64[1] a = {1}, int64[1] t = {2}>"
            "{ y = Slice(x, s, e, a, t) }",
            refused="it steps over axis 1, which is no axis of space",
            require=_PLAIN_ONLY,
        ),
        Example(
            "g (float[1,8,6,10] x) => (y) <int64[1] s = {-1}, int64[1] e = {-9}, int64[1] a = {3}, int64[1] t = {-2}>"
            "{ y = Slice(x, s, e, a, t) }",
            refused="it steps backwards",
            require=_PLAIN_ONLY,
        ),
        Example(
            "g (float[1,8,6,10] x, int64[1] s) => (y) <int64[1] e = {8}, int64[1] a = {2}, int64[1] t = {2}>"
            "{ y = Slice(x, s, e, a, t) }",
            refused="where it begins and ends is computed",
            require=_PLAIN_ONLY,
        ),
        Example(
            "g (int32[1,8,6,10] x) => (y) <int64[1] s = {0}, int64[1] e = {8}, int64[1] a = {2}, int64[1] t = {2}>"
            "{ y = Slice(x, s, e, a, t) }",
            refused="its elements are neither float32, float16 nor double",
            require=_PLAIN_ONLY,
        ),
    )

    def match(self, node: Node, ctx: Context) -> Sequence[Match]:
        extents = numbers(node.input(0))
        if extents is None:
            raise Refused("its shapes are not known; fix them with --input-shape")
        cuts = _cuts(node, ctx, extents)
        matches = [Match(self, node, (node,), (node.output,), (extents, {node.output: cuts}))] if _strided(cuts) else []
        readers = [] if node.output.is_output else node.output.consumers
        if readers and len(set(readers)) == len(readers) and all(r.op_type == "Slice" and not r.domain for r in readers):
            # Devices that want equal strides along both axes take a Slice of rows and one of columns as one.
            parts = {r.output: _composed(cuts, _cuts(r, ctx, numbers(node.output) or ()), extents) for r in readers}
            if any(map(_strided, parts.values())):
                nodes = (node, *readers)
                matches.append(Match(self, node, nodes, tuple(parts), (extents, parts), variant="with its readers"))
        for match in matches:
            _expect(match.root, extents, [cut for part in match.facts[1].values() for cut in part.items()])
        return matches

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return self._write(match, build, 1.0)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """The weight is not quite 1."""
        return self._write(match, build, 0.999)

    def _write(self, match: Match, build: Builder, weight: float) -> Mapping[Value, str]:
        (extents, parts), x = match.facts, match.root.inputs[0]
        assert x is not None
        return {value: _part(build, x, extents, cuts, weight) for value, cuts in parts.items()}


def _part(build: Builder, x: Value, extents: tuple[int, ...], cuts: dict[int, range], weight: float) -> str:
    """Emit the plain Slices and the Conv of one part."""
    name: str | Value = x
    strides = [1] * (len(extents) - SPACE)
    for axis, cut in sorted(cuts.items()):
        # Behind the last window nothing may follow that would make room for one more.
        end = cut.start + (len(cut) - 1) * cut.step + 1
        if cut.start or extents[axis] - end >= cut.step:
            name = build.slice(name, axis, cut.start, end)
        if cut.step > 1:
            strides[axis - SPACE] = cut.step
    if max(strides) == 1:
        return name if isinstance(name, str) else build.op("Identity", name)
    channels = len(cuts.get(1, range(extents[1])))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(x.dtype)
    ones = np.full((channels, 1, *(1 for _ in strides)), weight, dtype)
    return build.op("Conv", name, build.constant(ones, "ones"), group=channels, strides=strides)


def _strided(cuts: Mapping[int, range]) -> bool:
    return any(cut.step != 1 for cut in cuts.values())


def _composed(outer: Mapping[int, range], inner: Mapping[int, range], extents: tuple[int, ...]) -> dict[int, range]:
    """A part of a part, as a part of the whole."""
    whole = {axis: outer.get(axis, range(extents[axis])) for axis in {*outer, *inner}}
    return {axis: r[inner[axis].start : inner[axis].stop : inner[axis].step] if axis in inner else r for axis, r in whole.items()}


def _expect(node: Node, extents: tuple[int, ...], cuts: Sequence[tuple[int, range]]) -> None:
    """Raise Refused where no stride of a Conv does what the cuts do."""
    strided = [(axis, cut) for axis, cut in cuts if cut.step != 1]
    if any(cut.step < 0 for _, cut in strided):
        raise Refused("it steps backwards")
    if any(not len(cut) for _, cut in cuts):
        raise Refused("nothing is left")
    axis = min(axis for axis, _ in strided)
    if axis < SPACE or len(extents) not in (3, 4):
        raise Refused(f"it steps over axis {axis}, which is no axis of space")
    if node.output.dtype not in FLOATS:
        raise Refused("its elements are neither float32, float16 nor double")


def _cuts(node: Node, ctx: Context, extents: tuple[int, ...]) -> dict[int, range]:
    """Positions along each axis that the Slice takes."""
    try:
        starts, ends, axes, steps = (ctx.array(ctx.input(node, i)) if node.input(i) is not None else None for i in range(1, 5))
    except Undecidable:
        raise Refused("where it begins and ends is computed") from None
    if starts is None or ends is None:  # attributes, before opset 10: no steps
        starts, ends, axes = (None if node.attr(n) is None else np.asarray(node.attr(n)) for n in ("starts", "ends", "axes"))
    assert starts is not None
    assert ends is not None
    steps = np.ones(len(starts), int) if steps is None else steps
    over = range(len(starts)) if axes is None else (int(a) % len(extents) for a in axes)
    lists = zip(over, starts, ends, steps, strict=True)
    return {axis: range(extents[axis])[slice(int(a), int(b), int(step))] for axis, a, b, step in lists}
