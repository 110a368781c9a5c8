"""Kinds of inputs, each of which shows errors that others hide.

Numbers from [0, 1) make Relu and Identity agree, and zeros a lost bias stand out; a bound at 128 shows on none but large
numbers, and an error at edges on none but images. So each kind is there, in the range that the graph tells (`roles.py`), and
beyond it. A function that is wrong below -7 alone, or where one input is large and another small, shows on numbers of one
size, and on inputs of several kinds at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Generator = np.random.Generator
_IMAGE_CHANNELS = (1, 3, 4)
_WIDE = 10.0
_EDGES = (0.0, -0.0, 1.0, -1.0, 100.0, -100.0, 1e-6, -1e-6, 0.5, -0.5)
MIXED = "mixed"
"""Each input of a kind of its own."""
NARROW = ("negative", "sparse", "scaled", "deep", "flat", "levels", MIXED)
"""Kinds whose numbers may all be of one size, so that what comes out may be small as a whole."""
FAR = ("edge", "large", "scaled", "deep", "flat", MIXED)
"""Kinds whose numbers may be larger than a model is made for: what it gives nothing finite for says nothing of another."""
_MIXABLE = ("normal", "large", "zero", "constant", "sparse", "scaled", "scaled", "deep", "flat", "levels")
_BESIDE_MODES = ("edge", "large", "levels")
"""Kinds in which such numbers are others than those that a graph asks for."""
_OPPOSED = 3
"""One in so many mixed inputs is of different kinds; of the others, each is very large or very small."""
_LARGEST_COUNT = 32
"""Near a larger number that a model knows, no count is drawn: a few of them may multiply."""
_PART = 0.03
"""Of the elements of a sparse input, those that are not zero."""


@dataclass(frozen=True, slots=True)
class Spec:
    """An input that has to be fed."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    high: int = 2
    """One more than the largest index, or than the largest integer where `free` is not set."""
    most: int = 0
    """The same where a model may refuse what lies between: a count, or an index that something is added to."""
    free: bool = False
    """Whether an integer may be any of its type."""
    span: tuple[float, float] | None = None
    """The range that the graph tells."""
    positive: bool = False
    """Whether negative numbers have no meaning, as for a logarithm."""
    index: bool = False
    """Whether floating-point numbers are indices all the same, as where a graph casts them."""
    levels: tuple[float, ...] = ()
    """Numbers that the model itself compares or computes with (`levels.py`): values near them are drawn."""
    modes: tuple[int, ...] = ()
    """Integers that a graph asks the numbers to equal: most draws are of these."""
    rows: tuple[int, ...] = ()
    """Indices at which tables of two models differ (`rows.py`): among edges and levels an index is one of these."""
    extents: tuple[int, ...] = ()
    """What indices point at, where each along the last axis of the input points at a number of things of its own."""
    wraps: bool = False
    """Whether an index may be negative, and counts from the end then."""


def draw(spec: Spec, kind: str, seed: int) -> Array:
    """An input of a kind, the same for the same seed and name."""
    # A generator for each input of its own, so that one input more changes nothing of the others.
    digest = hashlib.sha256(f"{seed}/{kind}/{spec.name}".encode("utf-8", "backslashreplace")).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    if kind == MIXED:
        return _opposed(spec, rng) if seed % _OPPOSED and spec.dtype.kind == "f" else draw(spec, str(rng.choice(_MIXABLE)), seed)
    if spec.dtype == np.bool_:
        return np.full(spec.shape, kind == "constant") if kind in ("zero", "constant") else np.less(rng.random(spec.shape), 0.5)
    if np.issubdtype(spec.dtype, np.integer):
        return _integers(spec, kind, rng)
    if spec.index:
        return rng.integers(0, max(spec.high, 1), spec.shape).astype(spec.dtype)
    numbers = np.asarray(_FLOATS[kind](spec, rng), np.float64)
    if spec.positive and kind not in ("negative", "edge"):  # these tell what becomes of numbers that have no meaning
        numbers = np.abs(numbers)
    return numbers.astype(spec.dtype)


def tamed(spec: Spec, array: Array, *, large: bool) -> Array:
    """An input of smaller numbers, for a model that gives nothing finite for those that were drawn, or does not run with them."""
    if np.issubdtype(spec.dtype, np.integer):
        if spec.modes:
            return np.asarray(np.asarray(spec.modes)[np.abs(array) % len(spec.modes)], spec.dtype)
        return np.clip(array, 0, max(spec.high - 1, 0)).astype(spec.dtype)
    return (array * array.dtype.type(0.01)).astype(spec.dtype) if large and spec.dtype.kind == "f" else array


def _span(spec: Spec) -> tuple[float, float]:
    """The range of an image: what the graph tells, pixels where the input has the axes of one, else either sign."""
    if spec.span is not None:
        return spec.span
    image = len(spec.shape) == 4 and (spec.shape[1] in _IMAGE_CHANNELS or spec.shape[3] in _IMAGE_CHANNELS)
    return (0.0, 255.0) if image else (-_WIDE, _WIDE)


def _normal(spec: Spec, rng: Generator) -> Array:
    return rng.standard_normal(spec.shape)


def _image(spec: Spec, rng: Generator) -> Array:
    """Smooth ramps and waves along the last two axes with rectangles that have sharp edges, over the whole range."""
    low, high = _span(spec)
    if len(spec.shape) < 2 or min(spec.shape[-2:], default=0) < 2:
        return rng.uniform(low, high, spec.shape)
    leading = (*spec.shape[:-2], 1, 1)
    y, x = (np.linspace(0.0, 1.0, n) for n in spec.shape[-2:])
    grid = y[:, None] * rng.uniform(-1, 1, leading) + x[None, :] * rng.uniform(-1, 1, leading)
    wave = np.sin(2 * np.pi * (rng.uniform(0.5, 3, leading) * y[:, None] + rng.uniform(0.5, 3, leading) * x[None, :]))
    shape = 0.5 + 0.3 * grid + 0.2 * wave
    for _ in range(3):
        (top, bottom), (left, right) = (np.sort(rng.integers(0, n + 1, 2)) for n in spec.shape[-2:])
        shape[..., top:bottom, left:right] = rng.uniform(0, 1, leading)
    numbers = low + (high - low) * np.clip(shape, 0.0, 1.0)
    return np.round(numbers) if high - low > 100 else numbers


def _even(spec: Spec, rng: Generator) -> Array:
    return rng.uniform(-_WIDE, _WIDE, spec.shape)


def _edge(spec: Spec, rng: Generator) -> Array:
    return rng.choice([*_EDGES, *(spec.span or ())], spec.shape)


def _negative(spec: Spec, rng: Generator) -> Array:
    return -np.abs(rng.standard_normal(spec.shape)) * 10.0 ** rng.uniform(-1.0, 1.0, spec.shape)


def _large(spec: Spec, rng: Generator) -> Array:
    powers = (1.0, 3.0) if spec.dtype == np.float16 else (2.0, 5.0)
    return rng.choice([-1.0, 1.0], spec.shape) * 10.0 ** rng.uniform(*powers, spec.shape)


def _zero(spec: Spec, rng: Generator) -> Array:
    return np.zeros(spec.shape)


def _constant(spec: Spec, rng: Generator) -> Array:
    low, high = _span(spec)
    return np.full(spec.shape, low + 0.45 * (high - low) if low >= 0.0 else 0.75)


def _sparse(spec: Spec, rng: Generator) -> Array:
    chosen = rng.random(spec.shape) < _PART
    if chosen.size and not chosen.any():
        chosen.flat[rng.integers(chosen.size)] = True
    return np.where(chosen, rng.standard_normal(spec.shape) * 3.0, 0.0)


def _scaled(spec: Spec, rng: Generator) -> Array:
    """All of one size, from hundredths to millions."""
    return np.asarray(rng.standard_normal(spec.shape) * 10.0 ** rng.uniform(-2.0, 3.0 if spec.dtype == np.float16 else 6.0))


def _opposed(spec: Spec, rng: Generator) -> Array:
    """All tiny or all huge, so that of two inputs the one drowns in the other."""
    power = rng.uniform(2.5, 4.5) if spec.dtype == np.float16 else rng.uniform(4.0, 7.5)
    numbers = rng.standard_normal(spec.shape) * 10.0 ** (rng.choice([-1.0, 1.0]) * power)
    return _fitting(np.abs(numbers) if spec.positive else numbers, spec)


def _fitting(numbers: Array, spec: Spec) -> Array:
    most = 6e4 if spec.dtype == np.float16 else np.inf
    return np.clip(numbers, -most, most).astype(spec.dtype)


def _deep(spec: Spec, rng: Generator) -> Array:
    """All far on one side of zero, more often below: from 3 to 1,000."""
    sign = 1.0 if rng.random() < 0.25 else -1.0
    return np.asarray(sign * 10.0 ** rng.uniform(0.5, 3.0) * rng.uniform(0.7, 1.3, spec.shape))


def _flat(spec: Spec, rng: Generator) -> Array:
    """A constant, or one for each channel, of either sign also where the graph tells a range."""
    axis = 1 if len(spec.shape) > 2 else len(spec.shape) - 1
    leading = tuple(n if a == axis else 1 for a, n in enumerate(spec.shape))
    if rng.random() < 0.5:  # as a whole
        leading = (1,) * len(spec.shape)
    low, high = _span(spec)
    if low >= 0.0 and rng.random() < 0.5:
        return np.broadcast_to(rng.uniform(low, high, leading), spec.shape)
    return np.broadcast_to(rng.choice([-1.0, 1.0], leading) * 10.0 ** rng.uniform(-0.5, 2.0, leading), spec.shape)


def _levels(spec: Spec, rng: Generator) -> Array:
    """Numbers on both sides of those that the model knows, near and less near, and some at them."""
    known = [n for n in spec.levels if abs(n) < np.finfo(spec.dtype).max / 4] or [0.0, 1.0]
    chosen = rng.choice(known, spec.shape)
    away = rng.choice([-1.0, 0.0, 1.0], spec.shape) * 10.0 ** rng.uniform(-6.0, 0.0, spec.shape)
    return np.asarray(chosen + away * np.maximum(np.abs(chosen), 0.1))


_FLOATS: dict[str, Callable[[Spec, Generator], Array]] = {
    "normal": _normal, "wide": _even, "image": _image, "edge": _edge, "negative": _negative, "large": _large, "zero": _zero,
    "constant": _constant, "sparse": _sparse, "scaled": _scaled, "deep": _deep, "flat": _flat, "levels": _levels,
}  # fmt: skip


def _integers(spec: Spec, kind: str, rng: Generator) -> Array:
    """Indices and sizes lie where they are valid; others are of the whole type, but for kinds that small numbers show best."""
    info = np.iinfo(spec.dtype)
    if spec.modes and kind not in _BESIDE_MODES:
        return np.asarray(rng.choice(np.array(spec.modes), spec.shape), spec.dtype)
    if not spec.free:
        return _indices(spec, kind, rng).astype(spec.dtype)
    narrow = info.bits <= 8
    if kind == "zero":
        return np.zeros(spec.shape, spec.dtype)
    if kind == "constant":
        return np.full(spec.shape, info.max // 2 if narrow else 1, spec.dtype)
    if kind == "image":
        low, high = (float(info.min), float(info.max)) if narrow else (0.0, 255.0)
        drawn = _image(Spec(spec.name, np.dtype(np.float64), spec.shape, span=(low, high)), rng)
        return np.clip(np.round(drawn), low, high).astype(spec.dtype)
    if kind == "edge":
        powers = [2**n + d for n in (7, 8, 15, 24, 31, 53, 60) for d in (-1, 0, 1)]
        numbers = [n for n in (0, 1, -1, 2, info.min, info.max, *powers) if info.min <= n <= info.max]
        return np.array(numbers, spec.dtype)[rng.integers(0, len(numbers), spec.shape)]
    if kind == "negative" and info.min < 0:
        return rng.integers(max(info.min, -1000), 0, spec.shape).astype(spec.dtype)
    if kind == "sparse":
        return np.where(rng.random(spec.shape) < _PART, info.max if narrow else 1, 0).astype(spec.dtype)
    if kind == "levels" and (known := [int(n) for n in spec.levels if info.min < n < info.max and n == int(n)]):
        return np.array([n + d for n in known for d in (-1, 0, 1)], spec.dtype)[rng.integers(0, 3 * len(known), spec.shape)]
    if kind in ("large", "scaled") or narrow:
        return rng.integers(info.min, info.max, spec.shape, dtype=spec.dtype, endpoint=True)
    return rng.integers(0, 2, spec.shape).astype(spec.dtype)  # as a mask has them


def _indices(spec: Spec, kind: str, rng: Generator) -> Array:
    """Indices and sizes, each below what it points at."""
    top = max(spec.high, 1)
    tops = np.broadcast_to(np.array(spec.extents or top), spec.shape)
    if kind in ("zero", "constant"):
        return np.zeros(spec.shape) if kind == "zero" else tops - 1
    if kind in ("levels", "edge") and spec.rows:
        return rng.choice(np.array(spec.rows), spec.shape)
    if kind == "negative" and spec.wraps and np.iinfo(spec.dtype).min <= -tops.max(initial=0):
        return rng.integers(-tops, tops)
    if kind in ("scaled", "levels") and spec.most > top:
        near = [int(n) + d for n in spec.levels if 0 < n <= _LARGEST_COUNT and n == int(n) for d in (-1, 0, 1)]
        return rng.choice(near, spec.shape) if near and kind == "levels" else rng.integers(0, spec.most, spec.shape)
    return rng.choice(2, spec.shape) * (tops - 1) if kind == "edge" else rng.integers(0, tops)
