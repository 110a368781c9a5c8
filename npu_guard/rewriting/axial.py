"""An axial convolution that comes as close as it can to attention: fitted by ridge regression, judged on held-out samples.

For each channel of V, on its own: taps along its column, taps along its row, and its global mean. All are linear in their
weights, so the best ones are the solution of a small system of equations.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from npu_guard.graph.graph import Value
from npu_guard.rewriting.fitting import fit_parts, sample_weights
from npu_guard.rewriting.mixing import Mixing
from npu_guard.rewriting.substitution import Array, Builder, Refused
from npu_guard.verification.ratio import signal_to_noise

GAIN_DB = 0.1
"""What the fit has to gain over trivial ones; less is chance."""
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Weights of the penalty on taps, relative to the power of what they read."""
_ALWAYS = 1e-6
"""Penalty on V and its mean, which only keeps the equations solvable."""
_CHUNK = 4 << 20
"""Numbers that are held at once for a part of the channels."""


class Fit(Struct, frozen=True):
    """Weights for each channel, and signal-to-noise ratios in dB."""

    down: Array
    """[C, k]: taps along columns of the map; the one in the middle is the weight on V itself."""
    across: Array
    """[C, k]: taps along rows of the map; the one in the middle is zero."""
    mean: Array
    """[C]: weights on the global mean."""
    held_out: float
    mean_alone: float
    value_alone: float
    worst: float
    """Of all samples, those of the fit too."""

    def describe(self) -> str:
        """The three ratios that decide."""
        return f"held-out {self.held_out:.1f} dB (mean alone {self.mean_alone:.1f}, V alone {self.value_alone:.1f})"


def write_axial(mixing: Mixing, build: Builder, *, summed: bool = False) -> Mapping[Value, str]:
    """Fit and emit. Raises Refused where trivial fits are as good. A mutant takes the sum in the place of the mean."""
    v = mixing.values
    samples = build.activations(v, mixing.result)
    found = fit_axial([s[v.name] for s in samples], [s[mixing.result.name] for s in samples], mixing.kernel)
    if not found.held_out >= max(found.mean_alone, found.value_alone) + GAIN_DB:
        raise Refused(f"an axial convolution does not beat the trivial fits: {found.describe()}")
    build.promise(found.worst, found.describe())
    dtype = samples[0][v.name].dtype
    build.origin = mixing.product
    channels, (rows, columns) = len(found.mean), (found.down.shape[1], found.across.shape[1])

    def depthwise(taps: Array, kernel: tuple[int, int]) -> str:
        weight = build.constant(taps.reshape(channels, 1, *kernel).astype(dtype))
        pads = [k // 2 for k in kernel] * 2
        return build.op("Conv", v, weight, group=channels, kernel_shape=list(kernel), pads=pads)

    total = depthwise(found.down, (rows, 1))
    if columns > 1:
        total = build.op("Add", total, depthwise(found.across, (1, columns)))
    pooled = build.reduce("ReduceSum", v, (2, 3)) if summed else build.op("GlobalAveragePool", v)
    weighted = build.op("Mul", pooled, build.constant(found.mean.reshape(1, channels, 1, 1).astype(dtype)))
    return {mixing.result: build.op("Add", total, weighted)}


def fit_axial(values: Sequence[Array], targets: Sequence[Array], kernel: tuple[int, int]) -> Fit:
    """Weights that bring [B, C, H, W] maps closest to their targets. A third of the samples, the last, is held out."""
    positions = [v.size // v.shape[1] for v in values]
    scales = sample_weights(values, targets)
    parts = fit_parts(positions)
    channels = values[0].shape[1]
    taps = kernel[0] + kernel[1]  # the middle of the second kernel is the mean's column
    step = max(1, _CHUNK // (taps * sum(positions)))
    pieces = [slice(c, min(c + step, channels)) for c in range(0, channels, step)]
    systems = [_System.of(_design(values, targets, scales, kernel, piece), parts) for piece in pieces]
    # The two halves of the fit choose the penalty between them; what is held out has no say in it.
    errors = [sum(s.error(s.solve(ridge, kernel, 1), 1, 2) for s in systems) for ridge in RIDGES]
    ridge = RIDGES[int(np.argmin(errors))]
    weights = [s.solve(ridge, kernel, 2) for s in systems]
    held_out, mean_alone, value_alone = (
        signal_to_noise(sum(s.power for s in systems), sum(s.error(w, 2, 3) for s, w in zip(systems, found, strict=True)))
        for found in (weights, [s.alone(kernel[0]) for s in systems], [s.alone(kernel[0] // 2) for s in systems])
    )
    noise, power = np.zeros(len(values)), np.zeros(len(values))
    edges = np.cumsum([0, *positions])[:-1]
    for piece, found in zip(pieces, weights, strict=True):
        x, y = _design(values, targets, scales, kernel, piece)
        noise += np.add.reduceat(((np.einsum("cf,cfr->cr", found, x) - y) ** 2).sum(0), edges)
        power += np.add.reduceat((y**2).sum(0), edges)
    whole = np.concatenate(weights)
    middle = kernel[1] // 2
    across = np.concatenate(
        [whole[:, kernel[0] + 1 :][:, :middle], np.zeros((channels, 1)), whole[:, kernel[0] + 1 + middle :]], 1
    )
    worst = min(signal_to_noise(p, n) for p, n in zip(power, noise, strict=True))
    return Fit(whole[:, : kernel[0]], across, whole[:, kernel[0]], held_out, mean_alone, value_alone, worst)


def _design(
    values: Sequence[Array], targets: Sequence[Array], scales: Sequence[float], kernel: tuple[int, int], piece: slice
) -> tuple[Array, Array]:
    """What is weighted, [channels, features, positions], and what is to come out, [channels, positions]."""
    columns, results = [], []
    up, left = kernel[0] // 2, kernel[1] // 2
    for v, t, scale in zip(values, targets, scales, strict=True):
        x = v[:, piece].astype(np.float64) * scale
        height, width = x.shape[2:]
        padded = np.pad(x, ((0, 0), (0, 0), (up, up), (left, left)))
        features = [padded[:, :, i : i + height, left : left + width] for i in range(kernel[0])]
        features.append(np.broadcast_to(x.mean((2, 3), keepdims=True), x.shape))
        features += [padded[:, :, up : up + height, i : i + width] for i in range(kernel[1]) if i != left]
        columns.append(np.stack(features).transpose(2, 0, 1, 3, 4).reshape(x.shape[1], len(features), -1))
        results.append((t[:, piece].astype(np.float64) * scale).transpose(1, 0, 2, 3).reshape(x.shape[1], -1))
    return np.concatenate(columns, 2), np.concatenate(results, 1)


class _System(Struct, frozen=True):
    """Sums of products over the positions of each part, for some of the channels: all that least squares need."""

    gram: Array
    """[parts, channels, features, features]"""
    cross: Array
    """[parts, channels, features]"""
    square: Array
    """[parts]: power of the targets."""

    @staticmethod
    def of(design: tuple[Array, Array], ends: Sequence[int]) -> _System:
        x, y = design
        pieces = [(x[:, :, a:b], y[:, a:b]) for a, b in itertools.pairwise(ends)]
        return _System(
            np.stack([a @ a.transpose(0, 2, 1) for a, _ in pieces]),
            np.stack([np.einsum("cfr,cr->cf", a, b) for a, b in pieces]),
            np.array([float((b**2).sum()) for _, b in pieces]),
        )

    @property
    def power(self) -> float:
        """Of the part that is held out."""
        return float(self.square[2])

    def solve(self, ridge: float, kernel: tuple[int, int], end: int) -> Array:
        """Weights from the first parts, [channels, features]."""
        gram, cross = self.gram[:end].sum(0), self.cross[:end].sum(0)
        scale = np.sqrt(np.einsum("cff->cf", gram))
        scale[scale == 0.0] = 1.0
        penalty = np.full(gram.shape[-1], ridge)
        penalty[[kernel[0] // 2, kernel[0]]] = _ALWAYS
        matrix = gram / (scale[:, :, None] * scale[:, None, :]) + np.diag(penalty)
        solved: Array = np.linalg.solve(matrix, (cross / scale)[:, :, None])[:, :, 0] / scale
        return solved

    def alone(self, feature: int) -> Array:
        """Weights of the fit with one feature only."""
        weights = np.zeros(self.cross.shape[1:])
        power = self.gram[:2].sum(0)[:, feature, feature]
        weights[:, feature] = self.cross[:2].sum(0)[:, feature] / np.where(power == 0.0, 1.0, power)
        return weights

    def error(self, weights: Array, start: int, end: int) -> float:
        """Power of what is left of the targets in some parts."""
        gram, cross = self.gram[start:end].sum(0), self.cross[start:end].sum(0)
        left = self.square[start:end].sum() - 2 * (weights * cross).sum() + np.einsum("cf,cfg,cg->", weights, gram, weights)
        return max(0.0, float(left))
