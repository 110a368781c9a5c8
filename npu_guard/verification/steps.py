"""Two quantized networks compared as what they are: integers, in steps of the scale that an output is held with.

To round at another place moves a result by a step and says nothing about the network. So up to a step is equal; beyond, the noise
of the second network against itself in real numbers may not be more than that of the first one, as `int8.py` grants it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace as replaced
from typing import Any, NamedTuple

import numpy as np
import onnx
from msgspec.structs import replace
from numpy.typing import NDArray

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.quantized.held import held_of, span
from npu_guard.analysis.quantized.reading import read
from npu_guard.base.text import short
from npu_guard.graph.graph import Value
from npu_guard.graph.handlers import OfKind
from npu_guard.results.verification import OutputComparison, Roundings, Verification
from npu_guard.verification.compare import BACKEND
from npu_guard.verification.drawing import Spec, draw
from npu_guard.verification.feeds import Feed, normal_feed
from npu_guard.verification.int8 import least_ratio, ratio_over
from npu_guard.verification.outputs import compare_output

Array = NDArray[Any]
Results = Sequence[Mapping[str, Array]]
Range = tuple[float, float, float]
"""The least number, the one in the middle of what is usual, and the largest."""
_MOVES = OfKind("view", "data mover", "identity")
_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE})
_SLACK = 1e-3
"""Steps by which a result may be beside one: it is a product in float32."""
_BY_ITSELF = 2.0
"""Steps that are granted on an input that is judged by itself: it may have few numbers, which are all rounded the same way."""
_FLIPS = 0.01
"""Share of integers without a scale, such as classes, that may be others than the first network gives."""
FAR = ("zero", "constant", "negative", "sparse", "large")
"""Kinds of inputs that are unlike what a network is calibrated on: a variance may be 0 on them, or the largest that there is."""
_SIGMAS = 3.0
"""Standard deviations from the middle of an input's numbers, which is 0 where they have both signs, to the end of their range."""


def feeds_in_range(wanted: Sequence[Spec], ranges: Mapping[str, Range], count: int) -> list[Feed]:
    """Inputs as the network was made for: normal ones in the range that the integers of each input have. [count]"""
    feeds: list[Feed] = []
    for seed in range(count):
        feed, random = dict(normal_feed(wanted, seed)), np.random.default_rng(seed)
        for spec in wanted:
            if spec.name in ranges:
                low, middle, high = ranges[spec.name]
                normal = feed[spec.name].astype(np.float64) if spec.dtype.kind == "f" else random.standard_normal(spec.shape)
                numbers = np.clip(middle + normal * min(middle - low, high - middle) / _SIGMAS, low, high)
                feed[spec.name] = (numbers if spec.dtype.kind == "f" else np.rint(numbers)).astype(spec.dtype)
        feeds.append(feed)
    return feeds


def far_feeds(wanted: Sequence[Spec], ranges: Mapping[str, Range]) -> list[Feed]:
    """An input of each kind in `FAR`, in the range that the integers of each input have. [kinds]"""
    return [{spec.name: _far(spec, ranges.get(spec.name), kind) for spec in wanted} for kind in FAR]


def _far(spec: Spec, known: Range | None, kind: str) -> Array:
    if known is None:
        return draw(spec, kind, 0)
    low, middle, high = known
    floats = spec.dtype.kind == "f"
    drawn = draw(replaced(spec, dtype=np.dtype(np.float64), span=None), kind, 0)
    middle = 0.0 if floats and kind == "zero" else middle
    numbers = np.clip(middle + drawn * min(known[1] - low, high - known[1]) / _SIGMAS, low, high)
    return np.asarray(numbers if floats else np.rint(numbers), spec.dtype)


def ranges_of(analysis: Analysis) -> dict[str, Range]:
    """The range of each input that is integers, or becomes integers before anything else than a move is done with it."""
    found = {}
    for value in analysis.model.graph.inputs:
        integers = (_rounded(value) if value.dtype in _FLOATS else None) or value
        held = held_of(read(analysis).encodings.get(integers), analysis)
        if held is None:
            continue
        low, high = span(held.dtype)
        if value.dtype not in _FLOATS:
            found[value.name] = float(low), float(min(max(held.zero, low + 1), high - 1)), float(high)
            continue
        least, most = (low - held.zero) * float(held.scale), (high - held.zero) * float(held.scale)
        found[value.name] = least, 0.0 if least < 0 < most else (least + most) / 2, most
    return found


def _rounded(value: Value) -> Value | None:
    """What a tensor becomes in integers, at once or behind what only moves its numbers."""
    for node in value.consumers:
        if node.op_type == "QuantizeLinear":
            return node.output
        if not node.domain and node.op_type in _MOVES and node.input(0) is value and (found := _rounded(node.output)) is not None:
            return found
    return None


def in_steps(before: Sequence[Array], after: Sequence[Array], scale: float | None) -> float | None:
    """The largest difference in steps; None for numbers without a scale, infinity where shapes or what is finite differ."""
    if before[0].dtype.kind == "f" and scale is None:
        return None
    step = 1.0 if before[0].dtype.kind != "f" or scale is None else scale
    largest = 0.0
    for a, b in zip(before, after, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return float("inf")
        with np.errstate(invalid="ignore"):
            apart = np.where(a == b, 0.0, np.abs(a.astype(np.float64) - b.astype(np.float64)) / step)
        largest = max(largest, float("inf") if np.isnan(apart).any() else float(apart.max(initial=0.0)))
    return largest


def with_steps(result: Verification, analysis: Analysis, names: Mapping[str, str] | None = None) -> Verification:
    """The same with the largest difference of each output in steps, where the model of the analysis holds it in integers.

    `names` are those that the model has for the outputs, where these are other ones.
    """
    quantized = read(analysis)
    if not quantized:
        return result

    def told(output: OutputComparison) -> OutputComparison:
        value = analysis.model.graph.values.get((names or {}).get(output.name, output.name))
        held = None if value is None else held_of(quantized.encodings.get(value) or quantized.held(value), analysis)
        if value is None or held is None or not np.isfinite(output.max_abs):
            return output
        step = float(held.scale) if value.dtype in _FLOATS else 1.0
        return replace(output, steps=output.max_abs / step) if step > 0 else output

    return replace(result, outputs=tuple(map(told, result.outputs)))


def compare_in_steps(
    names: Sequence[str], before: Results, after: Results, real: tuple[Results, Results], scales: Mapping[str, tuple[float, int]],
    growth: float, inputs: str, roundings: Roundings | None = None, apart: Sequence[str] = (),
) -> Verification:  # fmt: skip
    """What the second of two quantized networks gives against the first one; `real` is what both give in real numbers.

    `scales` are scale and zero point of outputs that are held as integers, of those that are integers 1 and theirs; `growth` is
    how many times more operators the second has; `apart` names the last inputs, each of which is judged by itself, as a few among
    many would drown. The verdict is `equal` up to a step, `close` where it is no noisier than it may be, else `differs`.
    """
    found = []
    noise: dict[str, tuple[float, float]] = {}
    verdict = "equal"
    usual = len(before) - len(apart)
    for name in names:
        a, b, first, second = ([result[name] for result in side] for side in (before, after, *real))
        scale, zero = scales.get(name, (None, 0))
        steps = in_steps(a, b, scale)
        compared = replace(compare_output(name, a, b, 1.0), steps=steps)
        equal = _is_equal(compared, held=name in scales)
        if a[0].dtype.kind != "f" and name in scales:  # numbers like others, but for their scale
            a, b, first, second = ([array.astype(np.float64) - zero for array in side] for side in (a, b, first, second))
        note = "" if equal else _beyond(_Sides(a, b, first, second), compared, scale, usual, apart, growth, held=name in scales)
        if a[0].dtype.kind == "f" and not equal:
            noise[name] = ratio_over(first[:usual], a[:usual]), ratio_over(second[:usual], b[:usual])
        verdict = "differs" if note else "close" if not equal and verdict == "equal" else verdict
        found.append(replace(compared, ok=not note, note=note))
    told = max((o.steps for o in found if o.steps is not None and o.name in scales), default=None)
    reason = "" if told is None or told <= 0 else f"results move by {_number(told)} of the outputs' scales at the most"
    if noise:
        name, (old, new) = min(noise.items(), key=lambda entry: entry[1][1] - entry[1][0])
        own = f"{short(name)!r} keeps {new:.0f} dB of what it is in real numbers, and kept {old:.0f} dB before"
        reason = f"{reason}; {own}" if reason else own
    if roundings is not None:
        reason = "; ".join(part for part in (reason, _where(roundings)) if part)
    return Verification(verdict, BACKEND, (), inputs, reason, tuple(found), roundings=roundings)


class _Sides(NamedTuple):
    """An output on all inputs: of the first network, of the second, and of both in real numbers."""

    before: Sequence[Array]
    after: Sequence[Array]
    first: Sequence[Array]
    second: Sequence[Array]

    def on(self, inputs: slice) -> _Sides:
        """The same on some of the inputs."""
        return _Sides(*(side[inputs] for side in self))


def _is_equal(compared: OutputComparison, *, held: bool) -> bool:
    """Whether an output is equal up to a step, or wholly where it has no scale."""
    steps = compared.steps
    return compared.ok if steps is None else steps <= 1 + _SLACK and (held or steps == 0)


def _beyond(
    sides: _Sides, compared: OutputComparison, scale: float | None, usual: int, apart: Sequence[str], growth: float, *, held: bool
) -> str:
    """How an output moves by more than its own noise explains, on the usual inputs or on one of the others; empty where not."""
    power = sum(float(np.square(x[np.isfinite(x)], dtype=np.float64).sum()) for x in sides.first[:usual]) / max(1, usual)
    for label, inputs in (("", slice(usual)), *((kind, slice(usual + i, usual + i + 1)) for i, kind in enumerate(apart))):
        own = sides.on(inputs)
        if not own.before:
            continue
        part = replace(compare_output(compared.name, own.before, own.after, 1.0), steps=in_steps(own.before, own.after, scale))
        near = bool(label) and held and part.steps is not None and part.steps <= _BY_ITSELF + _SLACK
        if near or _is_equal(part, held=held) or _keeps(own, growth, power if label else 0.0, of_its_own=bool(label)):
            continue
        return f"{f'on the {label} input ' if label else ''}{_moved(part)}, more than its own noise explains"
    return ""


def _where(roundings: Roundings) -> str:
    """Where numbers are rounded that were not before."""
    if roundings.same:
        return "each tensor is rounded as before"
    counts = (
        (roundings.anew, "rounded anew"),
        (roundings.otherwise, "rounded to other scales"),
        (roundings.left_out, "no more rounded"),
    )
    told = [f"{count} tensor{'' if count == 1 else 's'} {words}" for count, words in counts if count]
    told += [f"{roundings.weights} new weight{'' if roundings.weights == 1 else 's'} rounded"] if roundings.weights else []
    return ", ".join(told)


def _keeps(sides: _Sides, growth: float, power: float, *, of_its_own: bool) -> bool:
    """Whether the second network is no noisier than it may be; `power` is what the signal has at the least.

    Of integers without a scale few may be others; where an input is `of_its_own`, and all may be at a tie, as many as rounding
    alone makes others there.
    """
    before, after, first, second = sides
    if any(a.shape != b.shape or a.dtype != b.dtype for a, b in zip(before, after, strict=True)):
        return False
    if before[0].dtype.kind == "f":
        return ratio_over(second, after, power) >= least_ratio(ratio_over(first, before, power), growth)
    granted = _FLIPS * sum(a.size for a in before)
    return _flips(before, after) <= max(granted, _flips(first, before) if of_its_own else 0)


def _flips(one: Sequence[Array], other: Sequence[Array]) -> int:
    return sum(int((a != b).sum()) for a, b in zip(one, other, strict=True))


def _moved(output: OutputComparison) -> str:
    moved = f"it moves by {_number(output.steps)}" if output.steps is not None else f"it moves by {output.max_abs:.3g}"
    return f"{moved}, {output.snr_db:.0f} dB"


def _number(steps: float) -> str:
    rounded = round(steps, 2)
    return f"{rounded:g} step{'' if rounded == 1 else 's'}"
