"""How new tensors of a network that becomes integers again are held, from what they are seen to be on inputs.

A form writes most tensors of its block again: in another layout, in parts that are padded, repeated, or times a number that was
folded into weights. One that holds the numbers of an old tensor in other places is rounded as that one was, so that the network
keeps its own rounding and its results hardly move. Of all others the range is measured.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from npu_guard.analysis.constants import Array
from npu_guard.analysis.quantized.held import FLOAT, Held
from npu_guard.file.document import Document
from npu_guard.fixing.bounded import bounded
from npu_guard.graph.graph import Value
from npu_guard.verification.capture import capture, capture_bytes
from npu_guard.verification.feeds import Feed
from npu_guard.verification.runtime import Runtime

Range = tuple[float, float]
_NEAR = 1e-5
"""Part of its own size by which a figure may be beside that of another tensor: sums in float32 are right to less."""
_ONE = 1e-4
"""Part by which a factor may be beside 1 to be none."""


class Figures(Struct, frozen=True):
    """What a tensor is on one input, wherever its numbers are and however often each is there; zeros do not count."""

    low: float
    """The least number, or 0."""
    high: float
    """The largest number, or 0."""
    mean: float
    """The sum of all numbers over the sum of their sizes."""
    square: float
    """The sum of squares over the sum of sizes."""
    cube: float
    """The root of the sum of cubes of sizes over the sum of sizes."""

    @property
    def peak(self) -> float:
        """The largest size."""
        return max(-self.low, self.high)


class Seen(NamedTuple):
    """What values of a changed network are on inputs."""

    ranges: dict[str, Range]
    """The range of each on all inputs."""
    usual: dict[str, Range]
    """The same on the usual ones alone."""
    alike: dict[str, Held]
    """How the tensor of before is held that one has the numbers of."""
    of: dict[str, str]
    """The name of that tensor."""
    kept: set[str]
    """Tensors of before whose numbers one has, or one that is there as before."""


def figures(array: Array) -> Figures:
    """The figures of a tensor; numbers that are not finite are left out."""
    x = array[np.isfinite(array)].astype(np.float64)
    sizes = np.abs(x)
    whole = float(sizes.sum())
    if whole <= 0:
        return Figures(0.0, 0.0, 0.0, 0.0, 0.0)
    return Figures(
        min(float(x.min()), 0.0), max(float(x.max()), 0.0), float(x.sum()) / whole, float((x * x).sum()) / whole,
        math.sqrt(float((sizes**3).sum()) / whole),
    )  # fmt: skip


def factor(old: Sequence[Figures], new: Sequence[Figures]) -> float | None:
    """The number that the old tensor is multiplied by to be the new one, the same on all inputs; None where there is none.

    It is 1 where numbers are only moved. On a single input a factor would say nothing, so it has to be 1 there.
    """
    ratio: float | None = None
    for a, b in zip(old, new, strict=True):
        if a.peak == 0 or b.peak == 0:
            if a.peak != b.peak:
                return None
            continue
        own = b.peak / a.peak
        ratio = own if ratio is None else ratio
        ends = (b.low - own * a.low, b.high - own * a.high, b.square - own * a.square, b.cube - own * a.cube)
        if abs(own - ratio) > _NEAR * ratio or max(map(abs, ends)) > _NEAR * b.peak or abs(b.mean - a.mean) > _NEAR:
            return None
    if ratio is None or abs(ratio - 1) <= _ONE:
        return None if ratio is None else 1.0
    return ratio if len(old) > 1 else None


def seen(
    runtime: Runtime, before: Document, after: Document, feeds: Sequence[Feed], held: Mapping[str, tuple[Value, Held]],
    values: Sequence[Value], there: Collection[str], further: Sequence[Feed] = (),
) -> Seen:  # fmt: skip
    """What values of the second network are on inputs, and which have the numbers of a tensor of the first.

    `held` are the tensors of the first network with their encodings, `there` the names of all tensors of the second. On `further`
    inputs ranges alone are measured, and no tensor goes further than integers can hold: numbers that should be 0 are noise there,
    and like no others. Raises CannotRun.
    """
    old: dict[str, list[Figures]] = {name: [] for name in held}
    made: dict[str, list[Figures]] = {value.name: [] for value in values}
    several = capture_bytes(runtime)
    for document, wanted, table in ((before, [v for v, _ in held.values()], old), (after, values, made)):
        for group in _groups(wanted, several):
            for feed in feeds:
                (arrays,) = capture(runtime, document, [feed], group)
                for name, array in arrays.items():
                    table[name].append(figures(array))
    usual = {name: _range(own) for name, own in made.items()}
    ranges = dict(usual)
    clipped = bounded(after, {name: own for name, (value, own) in held.items() if name in there and value.dtype == FLOAT})
    for group in _groups(values, several) if further else ():
        for feed in further:
            (arrays,) = capture(runtime, clipped, [feed], group)
            ranges.update({name: _range([figures(array)], ranges[name]) for name, array in arrays.items()})
    found = {name: one for name, own in made.items() if (one := _counterpart(old, own, held)) is not None}
    alike = {name: own for name, (_, own) in found.items()}
    kept = {name for name, own in old.items() if any(len(own) == len(b) and factor(own, b) is not None for b in made.values())}
    staying = [name for name in held if name in there]
    kept |= {n for n, own in old.items() if any(held[n][1].same(held[s][1]) and factor(own, old[s]) == 1 for s in staying)}
    return Seen(ranges, usual, alike, {name: one for name, (one, _) in found.items()}, kept)


def _range(own: Sequence[Figures], known: Range = (0.0, 0.0)) -> Range:
    """The least and the largest number of a tensor on all inputs, and of a range that is known."""
    return min([known[0], *(f.low for f in own)]), max([known[1], *(f.high for f in own)])


def _groups(values: Sequence[Value], most: int) -> Iterator[list[Value]]:
    """The values in rows that are captured at once, as many as `most` bytes hold, but one at least."""
    group: list[Value] = []
    room = most
    for value in values:
        own = 4 * math.prod(d if isinstance(d, int) else 1 for d in value.shape or ())
        if group and own > room:
            yield group
            group, room = [], most
        group.append(value)
        room -= own
    if group:
        yield group


def _counterpart(
    old: Mapping[str, Sequence[Figures]], new: Sequence[Figures], held: Mapping[str, tuple[Value, Held]]
) -> tuple[str, Held] | None:
    """The old tensor with the same numbers, and how it is held; with the same times a factor only where none has these."""
    scaled: tuple[str, Held] | None = None
    for name, own in old.items():
        ratio = factor(own, new) if len(own) == len(new) else None
        if ratio is None:
            continue
        found = held[name][1]
        if ratio == 1.0:
            return name, found
        power = math.frexp(float(found.scale))[0] == 0.5
        if scaled is None and (not power or math.frexp(ratio)[0] == 0.5):
            scaled = name, Held(found.dtype, np.asarray(float(found.scale) * ratio, np.float32), found.zero)
    return scaled
