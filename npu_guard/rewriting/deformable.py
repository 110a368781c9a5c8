"""The plain convolution that comes closest to a deformable one: fitted by ridge regression, judged on held-out samples.

A bilinear sample at a computed place is a sum of four pixels, so a mean over places is a small kernel for each tap. From
there least squares on activations move it to what neighbouring pixels have in common.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from npu_guard.rewriting import sampling
from npu_guard.rewriting.fitting import fit_parts, sample_weights
from npu_guard.rewriting.sampling import Geometry, Sample, Window
from npu_guard.rewriting.substitution import Array, Refused
from npu_guard.verification.ratio import signal_to_noise

RIDGES = (1e-4, 1e-2, 1.0, 1e2, 1e4)
"""Weights of the penalty on leaving the mean kernel, relative to the power of a pixel."""
RING_DB = 0.5
"""What one more ring of pixels around the kernel has to gain."""
_TAIL = 0.001
"""Part of the places that is left out on each side of the largest kernel."""
_NUMBERS = 4 << 20
"""Numbers that are held at once for the equations; more positions or channels are passed over evenly."""


class Fit(Struct, frozen=True):
    """The kernel `weight` [O, C/groups, *window.extent], and signal-to-noise ratios in dB."""

    weight: Array
    window: Window
    held_out: float
    unmoved: float
    """Of the same taps without offsets, times the mean of their masks and the best factor."""
    worst: float
    constant: bool
    """Whether offsets and mask are the same everywhere, so that nothing is lost."""

    def describe(self) -> str:
        """What decides, in words."""
        size = "x".join(map(str, self.window.extent))
        exact = ", exact as offsets and mask do not change" if self.constant else ""
        return f"held-out {self.held_out:.1f} dB (without offsets {self.unmoved:.1f}), a kernel of {size}{exact}"


def fit_deformable(samples: Sequence[Sample], weight: Array, bias: Array, geometry: Geometry, longest: int) -> Fit:
    """The plain convolution of at most `longest` taps along an axis that comes closest. Raises Refused."""
    scales = sample_weights([s.x for s in samples], [s.y for s in samples])
    if not all(np.isfinite(a).all() for s in samples for a in (s.offset, s.mask) if a is not None):
        raise Refused("offsets are not finite on the samples that it is fitted on")
    places = np.concatenate([s.places(geometry) for s in samples], -1)
    masks = np.concatenate([s.weights(geometry) for s in samples], -1)
    constant = bool((np.ptp(places, -1) == 0).all() and (np.ptp(masks, -1) == 0).all())
    cut = fit_parts([len(s.x) * math.prod(geometry.out) for s in samples])[2]
    places, masks = places[..., :cut], masks[..., :cut]
    windows = _windows(places, longest)
    largest = windows[-1]
    mean = sampling.spread(places, masks, largest)
    if constant:
        spread, window = mean, largest
    else:
        spread, window = _solve(samples, scales, weight, geometry, windows, mean)
    window, taps = _grown(spread, window, geometry, longest)
    dense = _combined(weight, taps, geometry)
    base = Window(geometry.taps[0], geometry.taps[-1])
    unmoved = np.zeros((*masks.shape[:2], *base.extent))
    for t, (i, j) in enumerate(geometry.taps):
        unmoved[:, t, i - base.low[0], j - base.low[1]] = masks[:, t].mean(-1)
    base, unmoved = _grown(unmoved.reshape(*masks.shape[:2], -1), base, geometry, None)
    targets = [_flat(s.y - bias[:, None, None]) * scale for s, scale in zip(samples, scales, strict=True)]
    close, still = (
        [_run(s.x, w, at, geometry) * scale for s, scale in zip(samples, scales, strict=True)]
        for w, at in ((dense, window), (_combined(weight, unmoved, geometry), base))
    )
    (y, left), (_, held), (alone, rest) = (np.split(np.concatenate(a, 1), [cut], 1) for a in (targets, close, still))
    factor = float((alone * y).sum()) / (float((alone**2).sum()) or 1.0)
    worst = min(map(_ratio, targets, close))
    return Fit(dense, window, _ratio(left, held), _ratio(left, factor * rest), worst, constant)


def _windows(places: Array, longest: int) -> list[Window]:
    """From the pixels around the taps' mean places to those around nearly all places, ring by ring."""
    rings: list[list[tuple[int, int]]] = []
    for axis in (0, 1):
        along = places[:, :, axis]
        mean = along.mean(-1)
        low, high = math.floor(mean.min()), math.ceil(mean.max())
        if high - low + 1 > longest:
            raise Refused(f"its taps reach over {high - low + 1} pixels, more than the {longest} of the longest kernel")
        first, last = np.quantile(along, [_TAIL, 1.0 - _TAIL])
        most = (longest - (high - low + 1)) // 2
        rings.append(
            [(max(low - r, min(low, math.floor(first))), min(high + r, max(high, math.ceil(last)))) for r in range(most + 1)]
        )
    count = max(map(len, rings))
    pairs = [tuple(ring[min(r, len(ring) - 1)] for ring in rings) for r in range(count)]
    return [Window((y[0], x[0]), (y[1], x[1])) for y, x in dict.fromkeys(pairs)]


def _solve(
    samples: Sequence[Sample], scales: Sequence[float], weight: Array, geometry: Geometry, windows: Sequence[Window], mean: Array
) -> tuple[Array, Window]:  # fmt: skip
    """Kernels of each tap by ridge regression towards the mean; the penalty and window are chosen on the second half."""
    largest = windows[-1]
    systems = [_system(samples, scales, geometry, largest, g) for g in range(geometry.offset_groups)]
    power = _powers(weight, geometry)
    chosen: tuple[float, Window, float] | None = None
    for window in windows:
        kept = window.inside(largest)
        errors = [
            sum(s.error(s.solve(mean[g], kept, ridge, 1), kept, power[g], 1, 2) for g, s in enumerate(systems))
            for ridge in RIDGES
        ]
        best = int(np.argmin(errors))
        if chosen is None or errors[best] < chosen[0] * 10 ** (-RING_DB / 10):
            chosen = errors[best], window, RIDGES[best]
    assert chosen is not None
    _, window, ridge = chosen
    kept = window.inside(largest)
    return np.stack([s.solve(mean[g], kept, ridge, 2) for g, s in enumerate(systems)]), window


class _System(Struct, frozen=True):
    """Sums of products over the positions of each part, for the channels of one offset group."""

    gram: Array
    """[parts, pixels, pixels]"""
    cross: Array
    """[parts, taps, pixels]"""
    square: Array
    """[parts, taps]"""

    def solve(self, mean: Array, kept: Array, ridge: float, end: int) -> Array:
        """[taps, kept pixels]"""
        gram, cross = self.gram[:end].sum(0)[np.ix_(kept, kept)], self.cross[:end].sum(0)[:, kept]
        scale = float(np.trace(gram)) / len(kept) or 1.0
        matrix = gram + ridge * scale * np.eye(len(kept))
        solved: Array = mean[:, kept] + np.linalg.solve(matrix, (cross - mean[:, kept] @ gram).T).T
        return solved

    def error(self, spread: Array, kept: Array, power: Array, start: int, end: int) -> float:
        """What is left of the samples, each tap weighted by the power of its weights."""
        gram, cross = self.gram[start:end].sum(0)[np.ix_(kept, kept)], self.cross[start:end].sum(0)[:, kept]
        left = self.square[start:end].sum(0) - 2 * (spread * cross).sum(1) + ((spread @ gram) * spread).sum(1)
        return float(np.maximum(left, 0.0) @ power)


def _powers(weight: Array, geometry: Geometry) -> Array:
    """[G, T]: power of the weights of each tap on the channels of each offset group."""
    each = np.square(_by_channel(weight, geometry)).sum(0)
    return np.asarray(each.reshape(geometry.offset_groups, -1, each.shape[-1]).sum(1))


def _by_channel(weight: Array, geometry: Geometry) -> Array:
    """[O/groups, C, T]: weights with all input channels side by side, whatever group they are of."""
    flat = weight.reshape(geometry.groups, weight.shape[0] // geometry.groups, weight.shape[1], -1).astype(np.float64)
    return flat.transpose(1, 0, 2, 3).reshape(flat.shape[1], -1, flat.shape[3])


def _system(samples: Sequence[Sample], scales: Sequence[float], geometry: Geometry, window: Window, group: int) -> _System:
    """The equations of one offset group, on channels and positions spread evenly over all that there are."""
    each = samples[0].x.shape[1] // geometry.offset_groups
    positions = [len(s.x) * math.prod(geometry.out) for s in samples]
    rows = max(1, _NUMBERS // (math.prod(window.extent) + len(geometry.taps)))
    channels = group * each + np.unique(np.linspace(0, each - 1, min(each, max(1, rows // sum(positions)))).astype(np.int64))
    step = -(-sum(positions) * len(channels) // rows)
    pixels, targets, counts = [], [], []
    for sample, scale in zip(samples, scales, strict=True):
        x = sample.x[:, channels].astype(np.float64) * scale
        places, masks = sample.places(geometry)[group], sample.weights(geometry)[group]
        pixels.append(sampling.patches(x, window, geometry)[:, :, ::step])
        targets.append(sampling.sampled(x, places[:, :, ::step], masks[:, ::step], step, geometry))
        counts.append(pixels[-1].shape[2])
    a, b = np.concatenate(pixels, 2), np.concatenate(targets, 2)
    pieces = [
        (a[:, :, i:j].reshape(len(a), -1), b[:, :, i:j].reshape(len(b), -1)) for i, j in itertools.pairwise(fit_parts(counts))
    ]
    return _System(
        np.stack([p @ p.T for p, _ in pieces]),
        np.stack([t @ p.T for p, t in pieces]),
        np.stack([(t**2).sum(1) for _, t in pieces]),
    )


def _grown(spread: Array, window: Window, geometry: Geometry, longest: int | None) -> tuple[Window, Array]:
    """Kernels [G, T, height, width] on a window that a convolution can have."""
    whole, _ = window.padded(geometry)
    if longest is not None and max(whole.extent) > longest:
        raise Refused(f"its offsets carry the taps further than a kernel of {longest} reaches")
    taps = np.zeros((*spread.shape[:2], math.prod(whole.extent)))
    taps[:, :, window.inside(whole)] = spread
    return whole, taps.reshape(*spread.shape[:2], *whole.extent)


def _combined(weight: Array, taps: Array, geometry: Geometry) -> Array:
    """[O, C/groups, height, width]: each tap's weight spread over the pixels of its kernel."""
    wide = _by_channel(weight, geometry)
    by_group = wide.reshape(wide.shape[0], geometry.offset_groups, -1, wide.shape[2])
    dense = np.einsum("ogct,gtyx->ogcyx", by_group, taps)
    per = weight.shape[1]
    split = dense.reshape(wide.shape[0], geometry.groups, per, *taps.shape[2:]).transpose(1, 0, 2, 3, 4)
    return np.asarray(split.reshape(weight.shape[0], per, *taps.shape[2:]))


def _run(x: Array, weight: Array, window: Window, geometry: Geometry) -> Array:
    """[O, B h w]: the convolution with this kernel."""
    wide = sampling.extended(x.astype(np.float64), window, geometry)
    groups = geometry.groups
    made = np.zeros((groups, len(weight) // groups, len(x) * math.prod(geometry.out)))
    for i, j in np.ndindex(*window.extent):
        pixels = sampling.read_pixel(wide, i, j, geometry).reshape(groups, -1, made.shape[2])
        made += weight[:, :, i, j].reshape(groups, -1, weight.shape[1]) @ pixels
    return made.reshape(len(weight), -1)


def _flat(y: Array) -> Array:
    return np.asarray(y.astype(np.float64).transpose(1, 0, 2, 3).reshape(y.shape[1], -1))


def _ratio(y: Array, made: Array) -> float:
    return signal_to_noise(float((y**2).sum()), float(((made - y) ** 2).sum()))
