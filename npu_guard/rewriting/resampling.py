"""A Resize on a static grid, written with operators whose weights are constant.

Where the same taps come back every few positions it is a transposed convolution or a strided window. Where each position has
weights of its own, neighbours are brought there, times constant maps, and summed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import onnx

from npu_guard.graph.graph import Value
from npu_guard.proof.exact import Exact
from npu_guard.rewriting.interpolation import Sampling, gathers
from npu_guard.rewriting.resample_forms import ANY, Blended, Form, Reach, Regular
from npu_guard.rewriting.substitution import Array, Builder, Refused

NODE_BUDGET = 512
"""Operators that may take the place of one Resize."""


class Resampler:
    """Writes the two axes of space of one map."""

    def __init__(self, reach: Reach, build: Builder, like: Value, channels: int) -> None:
        self.reach = reach
        self.build = build
        self.channels = channels
        self.dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(like.dtype))

    def write(self, x: str | Value, height: Form, width: Form) -> str:
        """The resized map. Raises Refused."""
        axes: list[tuple[int, Form]] = [(2, height), (3, width)]
        name = x if isinstance(x, str) else x.name
        for axes in self._together(height, width):
            if all(isinstance(f, Regular) for _, f in axes):
                name = self._regular(name, {a: f for a, f in axes if isinstance(f, Regular)})
            elif all(isinstance(f, Blended) for _, f in axes):
                name = self._blended(name, {a: f for a, f in axes if isinstance(f, Blended)})
            else:
                ((axis, found),) = axes
                assert isinstance(found, Sampling)
                name = self._fetched(name, axis, found)
        if len(self.build.nodes) > NODE_BUDGET:
            raise Refused(f"it would take {len(self.build.nodes)} operators, more than {NODE_BUDGET}")
        return name

    def _together(self, height: Form, width: Form) -> list[list[tuple[int, Form]]]:
        """Which axes are done at once, and which first: what makes the map smaller."""
        both: list[tuple[int, Form]] = [(2, height), (3, width)]
        active = [(a, f) for a, f in both if not _is_kept(f)]
        if isinstance(height, Regular) and isinstance(width, Regular):
            if (height.up == 1) == (width.up == 1) or len(active) < 2:
                return [both] if active else []
        elif isinstance(height, Blended) and isinstance(width, Blended) and self._steps(height.factor, width.factor):
            return [both]
        return [[entry] for entry in sorted(active, key=lambda e: _growth(e[1]))]

    # A fixed kernel

    def _regular(self, name: str, axes: Mapping[int, Regular]) -> str:
        grows = any(f.up > 1 for f in axes.values())
        pooled = not grows and all(self._pools(f) for f in axes.values())
        fronts = {}
        for axis, f in axes.items():
            name = self._replicated(name, axis, f.low, f.high, f.size)
            fronts[axis] = 0 if grows else f.begin
            if not grows:
                long = f.begin + len(f.kernel) > self.reach.kernel
                start, end = f.begin if pooled or long else 0, f.begin + (f.out - 1) * f.down + len(f.kernel)
                # What is left over behind the last window matters only where it has room for another one.
                if start or f.size + f.low + f.high - end >= f.down:
                    name = self.build.slice(name, axis, start, end)
                    fronts[axis] -= start
        kernels = [
            np.array([Fraction(0)] * fronts[a] + list(axes[a].kernel) if a in axes else [Fraction(1)], object) for a in (2, 3)
        ]
        shape = [len(k) for k in kernels]
        steps = [max(axes[a].up, axes[a].down) if a in axes else 1 for a in (2, 3)]
        if pooled:
            return self.build.op("AveragePool", name, kernel_shape=shape, strides=steps)
        window = np.outer(*kernels)
        if not grows:
            return self._window("Conv", name, window, steps)
        pads: list[list[int]] = [[], []]
        for a, k in zip((2, 3), kernels, strict=True):
            if a not in axes:
                pads = [[*pads[0], 0], [*pads[1], 0]]
                continue
            f = axes[a]
            begin, whole = f.up * f.low - f.begin, f.up * (f.size + f.low + f.high - 1) + len(k)
            pads = [[*pads[0], begin], [*pads[1], whole - begin - f.out]]
        return self._window("ConvTranspose", name, window, steps, pads=pads[0] + pads[1])

    def _pools(self, f: Regular) -> bool:
        """Whether the axis is a mean that is to be a pool."""
        return self.reach.pool and f.uniform

    def _window(self, op_type: str, name: str, window: Array, steps: Sequence[int], pads: Sequence[int] = (0, 0, 0, 0)) -> str:
        """One window for all channels, each by itself."""
        every = Exact.of(window).map(lambda v: np.tile(v, (self.channels, 1, 1, 1)))
        shape = (self.channels, 1, *window.shape)
        weight = self.build.later(shape, lambda: every.rounded(self.dtype), self.dtype, exact=lambda: every)
        return self.build.op(
            op_type, name, weight, group=self.channels, kernel_shape=list(window.shape),
            strides=list(steps), pads=list(pads),
        )  # fmt: skip

    def _replicated(self, name: str, axis: int, low: int, high: int, size: int) -> str:
        """The map with its edges repeated."""
        if not low and not high:
            return name
        first = [self.build.slice(name, axis, 0, 1)] * low if low else []
        last = [self.build.slice(name, axis, size - 1, size)] * high if high else []
        return self.build.op("Concat", *first, name, *last, axis=axis)

    # Neighbours, each with a map of weights

    def _blended(self, name: str, axes: Mapping[int, Blended]) -> str:
        before = {a: max(0, -min(f.maps)) for a, f in axes.items()}
        for axis, f in axes.items():
            name = self._replicated(name, axis, before[axis], max(0, *f.maps), f.size)
        name = self._repeated(name, [axes[a].factor if a in axes else 1 for a in (2, 3)])
        for axis, f in axes.items():
            terms, out, single = [], f.size * f.factor, len(f.maps) == 1
            for j, weights in f.maps.items():
                start = (before[axis] + j) * f.factor
                part = name if single and not start else self.build.slice(name, axis, start, start + out)
                terms.append(self._weighted(part, axis, weights))
            name = self._sum(terms)
        return name

    def _steps(self, rows: int, columns: int) -> list[int]:
        """Scales of Resize that give a factor one after the other, none where they do not."""
        if rows != columns or self.build.opset < 11:
            return []
        if self.reach.nearest == ANY:
            return [rows]
        for scale in self.reach.nearest:
            count = round(math.log(rows, scale))
            if scale**count == rows:
                return [scale] * count
        return []

    def _repeated(self, name: str, factors: Sequence[int]) -> str:
        """Every pixel so many times: by Resize, or by kernels of ones."""
        if steps := self._steps(*factors):
            for step in steps:
                name = self.build.resize(
                    name, [1, 1, step, step], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
                )
            return name
        return self._window("ConvTranspose", name, np.ones(factors, self.dtype), factors)

    def _fetched(self, name: str, axis: int, found: Sampling) -> str:
        parts: dict[tuple[int, int], str] = {}
        terms = []
        for indices, weights in gathers(found.clamped()):
            names = []
            for start, stop in _runs(indices):
                if (start, stop) not in parts:
                    parts[start, stop] = self.build.slice(name, axis, start, stop)
                names.append(parts[start, stop])
            moved = names[0] if len(names) == 1 else self.build.op("Concat", *names, axis=axis)
            terms.append(self._weighted(moved, axis, weights))
            if len(self.build.nodes) > NODE_BUDGET:
                raise Refused(f"it would take more than {NODE_BUDGET} operators")
        return self._sum(terms)

    def _weighted(self, name: str, axis: int, weights: Sequence[Fraction]) -> str:
        if all(w == 1 for w in weights):
            return name
        return self.build.op(
            "Mul",
            name,
            self.build.rounded(Exact.of(np.array(weights, object).reshape([-1] + [1] * (3 - axis))), self.dtype, "map"),
        )

    def _sum(self, names: Sequence[str]) -> str:
        total = names[0]
        for name in names[1:]:
            total = self.build.op("Add", total, name)
        return total


def _is_kept(found: Form) -> bool:
    if isinstance(found, Regular):
        return (
            found.size == found.out
            and found.up == found.down == 1
            and found.kernel == (Fraction(1),)
            and not found.low + found.high
        )
    return isinstance(found, Sampling) and found.trivial


def _growth(found: Form) -> float:
    return found.factor if isinstance(found, Blended) else found.out / found.size


def _runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for index in indices:
        if runs and runs[-1][1] == index:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs
