"""Forms of one axis of a Resize on a static grid: a kernel that comes back every few positions, or weights at each of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from npu_guard.checking.context import Context
from npu_guard.rewriting.interpolation import Sampling, Taps

MOST_NEIGHBOURS = 8
KERNEL = 17
"""The longest kernel that is made on a device without a limit."""


class Regular(Struct, frozen=True):
    """An axis on which `up` outputs read `down` inputs further on, one of both being 1: a fixed kernel.

    `kernel` begins at input position `begin` where the axis shrinks, and at output position `begin` where it grows;
    `low` and `high` are the pixels that are repeated at the edges.
    """

    size: int
    out: int
    up: int
    down: int
    kernel: tuple[Fraction, ...]
    begin: int
    low: int
    high: int

    @property
    def uniform(self) -> bool:
        """Whether the kernel is a mean."""
        return self.up == 1 and all(w == Fraction(1, len(self.kernel)) for w in self.kernel)


class Blended(Struct, frozen=True):
    """An axis that grows by a whole factor, with weights of its own at each position.

    `maps` has, for each of the neighbours j, the weights of input o // factor + j at output o.
    """

    size: int
    factor: int
    maps: Mapping[int, tuple[Fraction, ...]]


Form = Regular | Blended | Sampling
"""A Sampling as it is: each position is fetched."""


class Reach(Struct, frozen=True):
    """How far the windows of a form go, and how it repeats pixels: what devices differ in."""

    kernel: int = KERNEL
    stride: int = 2 * KERNEL
    pool: bool = True
    """Whether a mean is a pool, where it is one."""
    nearest: tuple[int, ...] = ()
    """Factors by which a Resize of whole pixels repeats, one after the other, largest first; none where windows of ones do."""


def reaches(ctx: Context) -> tuple[Reach, ...]:
    """Those that are worth a try on a device, the most convenient first."""
    kernels, strides = (
        {n for op in ("Conv", "ConvTranspose") for n in ctx.bounds(op, metric, f"conv.{metric}_max") if 1 < n < most}
        for metric, most in (("kernel", KERNEL), ("stride", 2 * KERNEL))
    )
    forms = [f for f in ctx.limit("resize") or () if f.mode == "nearest"]
    factors = {int(s) for f in forms if not isinstance(f.scales, str) for s in f.scales if s == int(s) and s > 1}
    resizes = [tuple(sorted(factors, reverse=True))] if factors else []
    return tuple(
        Reach(kernel, stride, pool, nearest)
        for kernel in (KERNEL, *sorted(kernels, reverse=True))
        for stride in (2 * KERNEL, *sorted(strides, reverse=True))
        for pool in (True, False)
        for nearest in (ANY, *resizes, ())
    )


ANY = (0,)
"""For `Reach.nearest`: whatever the factor is, at once."""


def differ(axes: Sequence[Sampling], tried: Sequence[Reach]) -> list[Reach]:
    """Those of the reaches with which the axes are written in different ways; of equal ones the first."""
    known: dict[tuple[object, ...], Reach] = {}
    for reach in tried:
        forms = [form(axis, reach) for axis in axes]
        fixed = [f for f in forms if isinstance(f, Regular)]
        pooled = any(f.uniform for f in fixed) and reach.pool
        repeated = reach.nearest if len(fixed) < len(forms) else ()
        known.setdefault((*map(type, forms), *(f.begin + len(f.kernel) > reach.kernel for f in fixed), pooled, repeated), reach)
    return list(known.values())


def form(axis: Sampling, reach: Reach) -> Form:
    """The cheapest form of an axis within reach."""
    found = regular(axis)
    if found is not None and max(found.up, found.down) <= reach.stride and len(found.kernel) <= reach.kernel:
        return found
    factor, rest = divmod(axis.out, axis.size)
    if not rest and factor > 1:
        maps: dict[int, list[Fraction]] = {}
        for o, taps in enumerate(axis.taps):
            for index, weight in taps:
                maps.setdefault(index - o // factor, [Fraction(0)] * axis.out)[o] += weight
        if len(maps) <= MOST_NEIGHBOURS:
            return Blended(axis.size, factor, {j: tuple(maps[j]) for j in sorted(maps)})
    return axis


@functools.lru_cache(maxsize=64)
def regular(axis: Sampling) -> Regular | None:
    """The fixed kernel of an axis, None where it has none."""
    taps = axis.taps
    for up in range(1, min(axis.out, 2 * KERNEL) + 1):
        down = taps[up][0][0] - taps[0][0][0] if up < axis.out else 1
        if down >= 1 and min(up, down) == 1 and all(_shifted(taps[o], taps[o + up], down) for o in range(axis.out - up)):
            break
    else:
        return None
    first, last = min(t[0][0] for t in taps), max(t[-1][0] for t in taps)
    low, high = max(0, -first), max(0, last - axis.size + 1)
    if up == 1:
        begin = taps[0][0][0]
        kernel = [Fraction(0)] * (taps[0][-1][0] - begin + 1)
        for index, weight in taps[0]:
            kernel[index - begin] += weight
        return Regular(axis.size, axis.out, 1, down, tuple(kernel), begin + low, low, high)
    reach = {o - up * index: weight for o, at in enumerate(taps[:up]) for index, weight in at}
    begin = min(*reach, up * low)
    kernel = [reach.get(m, Fraction(0)) for m in range(begin, max(reach) + 1)]
    # The last position of the transposed convolution has to be there, be it of zero taps.
    short = axis.out + up * low - begin - (up * (axis.size + low + high - 1) + len(kernel))
    return Regular(axis.size, axis.out, up, 1, (*kernel, *([Fraction(0)] * max(0, short))), begin, low, high)


def _shifted(taps: Taps, later: Taps, by: int) -> bool:
    """Whether taps are the same, so many pixels further on; taps of no weight are none."""
    a, b = ({i: w for i, w in t if w} for t in (taps, later))
    return a.keys() == {i - by for i in b} and all(a[i - by] == w for i, w in b.items())


def wrong(axis: Sampling) -> Sampling:
    """For the mutant: every tap one pixel further on."""
    return replace(axis, taps=tuple(tuple((i + 1, w) for i, w in t) for t in axis.taps))
