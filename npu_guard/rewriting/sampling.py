"""How a DeformConv reads its input, and how a convolution does: places of taps, and the pixels that lie there."""

from __future__ import annotations

import itertools
import math

import numpy as np
from msgspec import Struct

from npu_guard.rewriting.substitution import Array


class Geometry(Struct, frozen=True):
    """A DeformConv: input [C, H, W], output positions, and what places the taps. Pairs are (height, width)."""

    size: tuple[int, int]
    out: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    begin: tuple[int, int]
    dilations: tuple[int, int]
    groups: int
    offset_groups: int

    @property
    def taps(self) -> list[tuple[int, int]]:
        """Places of the taps without offsets, relative to the stride's position."""
        (p, q), (d, e) = self.begin, self.dilations
        return [(i * d - p, j * e - q) for i in range(self.kernel[0]) for j in range(self.kernel[1])]


class Sample(Struct, frozen=True):
    """One run of the real model: `x` [B, C, H, W], `offset` [B, G T 2, h, w], `mask` [B, G T, h, w] or None, `y` [B, O, h, w]."""

    x: Array
    offset: Array
    mask: Array | None
    y: Array

    def places(self, geometry: Geometry) -> Array:
        """[G, T, 2, B h w]: where each tap reads, relative to the stride's position."""
        count = len(self.x), geometry.offset_groups, len(geometry.taps), 2, *geometry.out
        offset = np.broadcast_to(self.offset, (len(self.x), *self.offset.shape[1:])).reshape(count).astype(np.float64)
        placed = offset + np.asarray(geometry.taps, np.float64)[None, None, :, :, None, None]
        return placed.transpose(1, 2, 3, 0, 4, 5).reshape(*count[1:4], -1)

    def weights(self, geometry: Geometry) -> Array:
        """[G, T, B h w]: the mask, ones where there is none."""
        count = len(self.x), geometry.offset_groups, len(geometry.taps), *geometry.out
        if self.mask is None:
            return np.ones((*count[1:3], count[0] * math.prod(geometry.out)))
        mask = np.broadcast_to(self.mask, (len(self.x), *self.mask.shape[1:])).reshape(count).astype(np.float64)
        return mask.transpose(1, 2, 0, 3, 4).reshape(*count[1:3], -1)


class Window(Struct, frozen=True):
    """Pixels that a kernel reads, relative to the stride's position; ends included."""

    low: tuple[int, int]
    high: tuple[int, int]

    @property
    def extent(self) -> tuple[int, int]:
        """Height and width."""
        return self.high[0] - self.low[0] + 1, self.high[1] - self.low[1] + 1

    def inside(self, other: Window) -> Array:
        """Which of the other's pixels, in order, this window has."""
        rows, columns = (
            np.isin(np.arange(other.low[a], other.high[a] + 1), np.arange(self.low[a], self.high[a] + 1)) for a in (0, 1)
        )
        return np.flatnonzero(np.outer(rows, columns))

    def padded(self, geometry: Geometry) -> tuple[Window, list[int]]:
        """The window with zeros put around it until a convolution has it, and that convolution's pads."""
        low, high, begin, end = list(self.low), list(self.high), [0, 0], [0, 0]
        for a in (0, 1):
            low[a] = min(low[a], 0)
            begin[a] = -low[a]
            last = (geometry.out[a] - 1) * geometry.strides[a]
            # The last window ends at the input's edge or beyond, and no further one fits in.
            high[a] = max(high[a], geometry.size[a] - last - geometry.strides[a])
            end[a] = max(0, last + high[a] + 1 - geometry.size[a])
        return Window((low[0], low[1]), (high[0], high[1])), begin + end


def spread(places: Array, masks: Array, window: Window) -> Array:
    """[G, T, pixels of the window]: the mean of the weights that bilinear samples give each pixel."""
    groups, taps = masks.shape[:2]
    height, width = window.extent
    found = np.zeros((groups, taps, height * width))
    whole = np.floor(places)
    part = places - whole
    for corner in itertools.product((0, 1), (0, 1)):
        at = [whole[:, :, a].astype(np.int64) + corner[a] - window.low[a] for a in (0, 1)]
        share = masks * math.prod(part[:, :, a] if corner[a] else 1.0 - part[:, :, a] for a in (0, 1))
        inside = (at[0] >= 0) & (at[0] < height) & (at[1] >= 0) & (at[1] < width)
        pixel = np.where(inside, at[0] * width + at[1], 0)
        for g, t in np.ndindex(groups, taps):
            found[g, t] += np.bincount(pixel[g, t], np.where(inside[g, t], share[g, t], 0.0), height * width)
    return np.asarray(found / masks.shape[-1])


def patches(x: Array, window: Window, geometry: Geometry) -> Array:
    """[pixels, C, B h w]: what each pixel of the window reads."""
    wide, (height, width) = extended(x, window, geometry), window.extent
    return np.stack([read_pixel(wide, i, j, geometry) for i in range(height) for j in range(width)])


def extended(x: Array, window: Window, geometry: Geometry) -> Array:
    """The map with zeros as far as the window reads, so that its first pixel is the window's first one at position 0."""
    pads, start = [], []
    for a in (0, 1):
        last = (geometry.out[a] - 1) * geometry.strides[a] + window.high[a]
        pads.append((max(0, -window.low[a]), max(0, last + 1 - geometry.size[a])))
        start.append(max(0, window.low[a]))
    return np.pad(x, ((0, 0), (0, 0), *pads))[:, :, start[0] :, start[1] :]


def read_pixel(wide: Array, i: int, j: int, geometry: Geometry) -> Array:
    """[C, B h w]: one pixel of the window, in a map that has been extended for it."""
    (s, t), (h, w) = geometry.strides, geometry.out
    part = wide[:, :, i : i + (h - 1) * s + 1 : s, j : j + (w - 1) * t + 1 : t]
    return part.transpose(1, 0, 2, 3).reshape(wide.shape[1], -1)


def sampled(x: Array, places: Array, masks: Array, step: int, geometry: Geometry) -> Array:
    """[T, C, positions]: what the taps read, times the mask, at every `step`-th position."""
    height, width = geometry.size
    index = np.arange(len(x) * math.prod(geometry.out))[::step]
    image, row, column = np.unravel_index(index, (len(x), *geometry.out))
    flat = x.transpose(1, 0, 2, 3).reshape(x.shape[1], -1)
    whole = np.floor(places)
    part = places - whole
    result = np.zeros((len(places), x.shape[1], len(index)))
    for corner in itertools.product((0, 1), (0, 1)):
        at = [whole[:, a].astype(np.int64) + corner[a] + base * geometry.strides[a] for a, base in ((0, row), (1, column))]
        share = masks * math.prod(part[:, a] if corner[a] else 1.0 - part[:, a] for a in (0, 1))
        inside = (at[0] >= 0) & (at[0] < height) & (at[1] >= 0) & (at[1] < width)
        pixel = np.where(inside, (image * height + at[0]) * width + at[1], 0)
        for t in range(len(places)):
            result[t] += flat[:, pixel[t]] * np.where(inside[t], share[t], 0.0)
    return result
