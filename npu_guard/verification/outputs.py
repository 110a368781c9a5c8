"""One output of two models, over all inputs: how far apart, where, and whether that is more than rounding.

Floating-point outputs are judged slice by slice (`slices.py`): each may differ by what rounding adds up to on the way to the
output (`accumulation.py`), relative to the slice, and by what the first model itself is uncertain of (`uncertainty.py`).
Integers and booleans are compared as such, and may differ where the first model gives that other value itself once its last
bits move: a flip, which is counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from npu_guard.results.verification import OutputComparison, Worst
from npu_guard.verification import slices
from npu_guard.verification.drawing import FAR, NARROW
from npu_guard.verification.feeds import Array
from npu_guard.verification.flips import compare_integers, ties
from npu_guard.verification.ratio import LIMIT_DB, signal_to_noise
from npu_guard.verification.slices import Vector
from npu_guard.verification.tolerance import (
    BEYOND,
    EVIDENCE,
    FEW,
    FLIPS,
    MOST,
    OWN,
    POPULATION,
    TIES,
    floor,
    relative_tolerance,
)  # fmt: skip
from npu_guard.verification.uncertainty import Noise


def compare_output(
    name: str, before: Sequence[Array], after: Sequence[Array], terms: float, noise: Sequence[Noise | float] = (),
    labels: Sequence[str] = (),
) -> OutputComparison:  # fmt: skip
    """One output over all inputs: the worst of each measure. `noise` is what the reference itself is uncertain by.

    Inputs on which it is too uncertain are no part of the measures, but still have to agree as far as the model does.
    """
    return compare_inputs(name, before, after, terms, noise, labels)[0]


def compare_inputs(
    name: str, before: Sequence[Array], after: Sequence[Array], terms: float, noise: Sequence[Noise | float] = (),
    labels: Sequence[str] = (),
) -> tuple[OutputComparison, set[int]]:  # fmt: skip
    """As `compare_output`, with the inputs on which the output differs by more than it may."""
    labels = [labels[i] if i < len(labels) else f"input {i + 1}" for i in range(len(before))]
    apart = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a.dtype != b.dtype or a.shape != b.shape]
    if apart:
        a, b = before[apart[0]], after[apart[0]]
        what, x, y = ("type", a.dtype, b.dtype) if a.dtype != b.dtype else ("shape", list(a.shape), list(b.shape))
        return _incomparable(name, f"{what} {x} before and {y} after on {labels[apart[0]]}", labels[apart[0]]), set(apart)
    known = [n if isinstance(n, Noise) else Noise(n) for n in noise]
    if all(a.dtype.kind == "f" for a in before):
        return _floats(name, before, after, terms, known, labels)
    return compare_integers(name, before, after, known, labels, left_out(before, known))


def _incomparable(name: str, note: str, label: str) -> OutputComparison:
    worst = Worst(label, "", math.inf, 0.0, None, None)
    return OutputComparison(name, math.inf, math.inf, 0.0, -LIMIT_DB, 0.0, 0.0, False, worst, 0, note)


def peak(reference: Array) -> float:
    """The largest finite magnitude, 0 where there is none."""
    finite = np.abs(reference[np.isfinite(reference)].astype(np.float64))
    return float(finite.max()) if finite.size else 0.0


def left_out(before: Sequence[Array], noise: Sequence[Noise]) -> frozenset[int]:
    """Inputs on which the reference is so uncertain of itself that a difference says nothing; none, if few would be left."""
    if all(a.dtype.kind == "f" for a in before):
        out = frozenset(i for i, own in enumerate(noise) if OWN * own.whole > MOST * peak(before[i]))
    else:
        out = frozenset(i for i, own in enumerate(noise) if ties(before[i], own) > TIES)
    return out if len(before) - len(out) >= len(before) / EVIDENCE else frozenset()


def overflown(reference: Array, label: str) -> int:
    """How many values of an output are not finite because numbers are fed that the first model may not be made for."""
    if reference.dtype.kind != "f" or label.split(" of seed ", maxsplit=1)[0] not in FAR:
        return 0
    return int(reference.size - np.isfinite(reference).sum())


class _Pair:
    """One output on one input, both sides: magnitudes and differences in float64, slice by slice."""

    def __init__(self, a: Array, b: Array) -> None:
        self.shape = a.shape
        self.axes = slices.slice_axes(a.shape)
        self.equal = np.array_equal(a, b, equal_nan=True)
        magnitude, finite = _magnitude(a)
        self.peak = float(magnitude.max(initial=0.0))
        self.peaks = {axis: slices.slice_peaks(magnitude, axis) for axis in self.axes}
        self.errors: dict[int, Vector] = {axis: np.zeros(a.shape[axis]) for axis in self.axes}
        self.ratios: Vector = np.zeros(0)
        self.error = self.relative = 0.0
        self.cosine, self.snr, self.pattern = 1.0, LIMIT_DB, ""
        if not self.equal:
            self._measure(a, b, magnitude, finite)

    def _measure(self, a: Array, b: Array, magnitude: Array, finite: Array) -> None:
        self.pattern = _pattern(a, b)
        both = finite & np.isfinite(b)
        x, y = np.where(both, a, 0).astype(np.float64), np.where(both, b, 0).astype(np.float64)
        difference = np.abs(x - y)
        self.error = float(difference.max(initial=0.0))
        self.errors = {axis: slices.slice_peaks(difference, axis) for axis in self.axes}
        counted = magnitude > 1e-6 * self.peak
        self.relative = float((difference[counted] / magnitude[counted]).max(initial=0.0))
        squared, signal = np.square(difference), np.square(x)
        self.cosine = _cosine(x, y, float(signal.sum()))
        # Where one side alone is not finite, no ratio of what is left means anything.
        self.snr = -LIMIT_DB if self.pattern else _ratio(float(signal.sum()), float(squared.sum()))
        if a.ndim > 1:
            others = tuple(i for i in range(a.ndim) if i != 1)
            noise, power = squared.sum(axis=others), signal.sum(axis=others)
            self.ratios = np.sqrt(np.divide(noise, power, out=np.zeros_like(noise), where=power > 0.0))


def _magnitude(a: Array) -> tuple[Array, Array]:
    finite = np.isfinite(a)
    return np.where(finite, np.abs(np.where(finite, a, 0).astype(np.float64)), 0.0), finite


def _floats(
    name: str, before: Sequence[Array], after: Sequence[Array], terms: float, noise: Sequence[Noise], labels: Sequence[str]
) -> tuple[OutputComparison, set[int]]:
    after = [
        np.where(np.isfinite(a), b, a) if overflown(a, label) else b for a, b, label in zip(before, after, labels, strict=True)
    ]
    pairs = [_Pair(a, b) for a, b in zip(before, after, strict=True)]
    few = all(a.size <= FEW for a in before)
    usual = float(np.median([p.peak for p in pairs])) if few and pairs else 0.0
    floors = _floors(pairs, labels)
    wholes = [max(p.peak, usual, least) for p, least in zip(pairs, floors, strict=True)]
    out = left_out(before, noise)
    relative = relative_tolerance(terms, before[0].dtype) if before else 0.0
    limits = _limits(pairs, wholes, relative, noise, out, [least > 0.0 for least in floors])
    max_abs = max_rel = worst_tolerance = of_largest = 0.0
    cosine, snr, failing = 1.0, LIMIT_DB, set[int]()
    note, worst, most, flips = "", None, -1.0, 0
    for i, measured in enumerate(pairs):
        pair = measured
        if noise and noise[i].seen and not pair.equal:
            pair, flipped = _without_flips(before[i], after[i], noise[i], limits[i])
            flips += flipped
        excess, axis, index, allowed = _excess(pair, limits[i])
        drowned = pair.error > relative * floors[i] and _drowned(pair, before[i].dtype, noise[i] if noise else None)
        agrees = not pair.pattern and excess <= 1.0 and not drowned
        if pair.pattern and not note:
            note = f"{pair.pattern} on {labels[i]}"
        failing |= set() if agrees else {i}
        if (i in out and agrees) or pair.equal:
            continue
        if excess > most:
            most = excess
            worst = _worst(before[i], after[i], labels[i], axis, index, allowed)
        worst_tolerance = max(worst_tolerance, float(limits[i][-1].max(initial=0.0)))
        max_abs, max_rel = max(max_abs, pair.error), max(max_rel, pair.relative)
        of_largest = max(of_largest, pair.error / pair.peak if pair.peak else math.inf if pair.error else 0.0)
        cosine, snr = min(cosine, pair.cosine), min(snr, pair.snr)
    return OutputComparison(
        name,
        max_abs,
        max_rel,
        cosine,
        snr,
        worst_tolerance,
        relative,
        not failing,
        worst,
        flips,
        note,
        of_largest=of_largest if math.isfinite(of_largest) else None,
    ), failing


def _floors(pairs: Sequence[_Pair], labels: Sequence[str]) -> list[float]:
    """The least size that an output counts with on each input.

    Where all numbers of an input lie far out, all of an output may be next to zero, as a sigmoid of -20 is. Spellings of one
    function differ there by roundings of the numbers that the output usually has, which those of normal inputs tell.
    """
    kinds = [label.split(" of seed ")[0] for label in labels]
    normal = [p.peak for p, kind in zip(pairs, kinds, strict=True) if kind == "normal"]
    usual = float(np.median(normal)) if normal else 0.0
    return [usual if kind in NARROW else 0.0 for kind in kinds]


def _limits(
    pairs: Sequence[_Pair],
    wholes: Sequence[float],
    relative: float,
    noise: Sequence[Noise],
    out: frozenset[int],
    apart: Sequence[bool],
) -> list[dict[int, Vector]]:
    """What each slice may differ by on each input, by axis; axis -1 is the output as a whole."""
    limits: list[dict[int, Vector]] = [{-1: np.array([relative * whole + slices.TINY])} for whole in wholes]
    for i, own in enumerate(noise):
        excused = BEYOND * own.whole if i in out else min(OWN * own.whole, MOST * pairs[i].peak)
        limits[i][-1] = np.maximum(limits[i][-1], excused)
    for axis in sorted({axis for p in pairs for axis in p.axes}):
        cut = [i for i, p in enumerate(pairs) if axis in p.axes]
        counts = [math.prod(pairs[i].shape) // max(1, pairs[i].shape[axis]) for i in cut]
        sizes = slices.slice_sizes(
            [pairs[i].peaks[axis] for i in cut], [wholes[i] for i in cut], counts, apart=[apart[i] for i in cut]
        )
        for i, size in zip(cut, sizes, strict=True):
            limits[i][axis] = relative * size + slices.TINY
        if not noise:
            continue
        moved = [noise[i].by_slice.get(axis, np.full(pairs[i].shape[axis], noise[i].whole)) for i in cut]
        drawn = slices.slice_sizes(moved, [noise[i].whole for i in cut], counts, 0.0)
        for i, size in zip(cut, drawn, strict=True):
            room = BEYOND * size if i in out else np.minimum(OWN * size, MOST * pairs[i].peak)
            limits[i][axis] = np.maximum(limits[i][axis], room)
    return limits


def _without_flips(a: Array, b: Array, noise: Noise, limits: dict[int, Vector]) -> tuple[_Pair, int]:
    """The output but for numbers that differ by a step which the first model takes as well; and how many these are."""
    axis = next(iter(slices.slice_axes(a.shape)), -1)
    allowed = limits[axis].reshape([-1 if i == axis else 1 for i in range(a.ndim)]) if axis >= 0 else limits[-1][0]
    with np.errstate(invalid="ignore"):
        beyond = ~(np.abs(a.astype(np.float64) - b) <= allowed)
    seen = [other for other in noise.seen if other.shape == a.shape]
    near = (np.fmin.reduce([a, *seen]) - allowed <= b) & (b <= np.fmax.reduce([a, *seen]) + allowed)
    flipped = beyond & near
    count = int(flipped.sum())
    if count > max(1.0, FLIPS * a.size):
        return _Pair(a, b), 0
    return _Pair(a, np.where(flipped, a, b)), count


def _excess(pair: _Pair, limits: dict[int, Vector]) -> tuple[float, int, int, float]:
    """The largest error relative to its limit, the axis and index of its slice (-1 where there is none), and that limit."""
    worst = (pair.error / float(limits[-1][0]), -1, -1, float(limits[-1][0]))
    for axis in pair.axes:
        shares = pair.errors[axis] / limits[axis]
        if shares.size and (share := float(shares.max())) >= worst[0]:
            index = int(shares.argmax())
            worst = share, axis, index, float(limits[axis][index])
    return worst


def _drowned(pair: _Pair, dtype: np.dtype[Any], noise: Noise | None) -> bool:
    """Whether the error of a channel, in all, is more of its signal than any rounding is, and than the model's own
    uncertainty."""
    if not pair.ratios.size or math.prod(pair.shape) // pair.shape[1] < POPULATION:
        return False
    drowned = pair.ratios > floor(dtype)
    if noise is not None:
        drowned &= pair.errors[1] > OWN * noise.by_slice.get(1, np.full(pair.shape[1], noise.whole))
    return bool(drowned.any())


def _worst(a: Array, b: Array, label: str, axis: int, index: int, allowed: float) -> Worst:
    """The element with the largest error, in the slice that was found."""
    chosen: tuple[slice | int, ...] = tuple(index if i == axis else slice(None) for i in range(a.ndim)) if axis >= 0 else ()
    x, y = (np.asarray(side[chosen] if chosen else side, np.float64).ravel() for side in (a, b))
    both = np.isfinite(x) & np.isfinite(y)
    difference = np.where(both, np.abs(np.where(both, x, 0.0) - np.where(both, y, 0.0)), -1.0)
    place = int(difference.argmax()) if difference.size else 0
    if not both.any():
        return Worst(label, "", math.inf, allowed, None, None)
    return Worst(label, _slice_words(a.ndim, axis, index), float(difference[place]), allowed, float(x[place]), float(y[place]))


def _slice_words(rank: int, axis: int, index: int) -> str:
    if axis < 0:
        return ""
    return f"channel {index}" if axis == 1 and rank != 3 else f"index {index} of axis {axis}"


def _pattern(a: Array, b: Array) -> str:
    """Where one side alone is NaN or infinite, in words; empty where both are alike."""
    for what, test in (("NaN", np.isnan), ("infinite", np.isposinf), ("negative infinite", np.isneginf)):
        x, y = test(a), test(b)
        if not np.array_equal(x, y):
            first, second = int((x & ~y).sum()), int((y & ~x).sum())
            return f"{first:,} of {a.size:,} values are {what} before only, {second:,} after only"
    return ""


def _ratio(signal: float, noise: float) -> float:
    return LIMIT_DB if noise == 0.0 else signal_to_noise(signal, noise)


def _cosine(x: Array, y: Array, power: float) -> float:
    """Of two float64 arrays; `power` is the sum of the first one's squares.

    Sums and no products of BLAS, whose threads wait for each other on a machine that is busy, and sum in an order of their own.
    """
    norm = math.sqrt(power) * math.sqrt(float(np.square(y).sum()))
    if norm == 0.0:
        return 1.0 if np.array_equal(x, y) else 0.0
    return max(-1.0, min(1.0, float(np.multiply(x, y).sum()) / norm))
