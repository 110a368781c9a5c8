"""Before against after as integers: does a rewrite that is exact in float keep its precision on a device that runs int8?

Both models are quantized alike by ONNX Runtime (static, QDQ, weights per channel), with the same calibration data, and each is
compared with its own float model. What a rewrite may lose follows from the arithmetic: every tensor adds rounding of its
own, so noise grows with the number of operators; and one bit of eight is granted beyond that. But noise stays below the signal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu_guard.analysis.analyze import analyze
from npu_guard.analysis.opening import open_to_write
from npu_guard.base.errors import ModelError, NotVerified
from npu_guard.base.limits import DEFAULT, Limits
from npu_guard.file.document import Document
from npu_guard.verification.feeds import Spec, calibration_feeds, input_specs, normal_feed
from npu_guard.verification.ratio import LIMIT_DB, signal_to_noise
from npu_guard.verification.run_limits import run_limits
from npu_guard.verification.runtime import CannotRun, Runtime
from npu_guard.verification.scheme import Scheme

Array = NDArray[Any]
DRAWN = 8
"""Inputs that are drawn where the user gives none: normal ones, as extreme values would set the range of every tensor."""
OWN_DB = 40.0
"""What one int8 tensor keeps of normally distributed values: steps of 2 * 4 sigma / 255 have noise of step^2 / 12, or -41 dB.
More than this on the one side is luck, such as values that fall on the steps, and nothing that the other side has to match."""
BIT_DB = 6.02
SIGNAL_DB = 10.0
"""What a rewrite of many operators has to keep: noise of a tenth of the signal."""
LOSES, KEPT, NOT_RUN = "loses", "kept", "not_run"


@dataclass(frozen=True, slots=True)
class OutputLoss:
    """One output: signal-to-noise ratios in dB of each int8 model against its own float model, and against each other."""

    name: str
    before_db: float
    after_db: float
    between_db: float
    least_db: float
    """What the second model has to reach."""

    @property
    def ok(self) -> bool:
        """Whether it does."""
        return self.after_db >= self.least_db


@dataclass(frozen=True, slots=True)
class Int8:
    """`kept`, `loses`, or `not_run` with a reason, which is no pass."""

    verdict: str
    inputs: str
    reason: str = ""
    outputs: tuple[OutputLoss, ...] = ()


def compare_int8_files(
    before: str, after: str, input_shapes: Mapping[str, Sequence[int]], calibration: Path | None, limits: Limits = DEFAULT
) -> Int8:
    """Two model files. Raises ModelError and UsageError as the comparison in float does."""
    return compare_int8_fixed(before, open_to_write(after, input_shapes, limits)[0], input_shapes, calibration, limits)


def compare_int8_fixed(
    before: str, after: Document, input_shapes: Mapping[str, Sequence[int]], calibration: Path | None, limits: Limits = DEFAULT
) -> Int8:
    """A model file and what has become of it, which need not be written yet."""
    document, first = open_to_write(before, input_shapes, limits)
    second = analyze(after.skeleton(), input_shapes)
    try:
        wanted, others = (input_specs(analysis.model.graph.inputs) for analysis in (first, second))
    except NotVerified as error:
        return Int8(NOT_RUN, "", str(error))
    if [(w.name, w.shape) for w in wanted] != [(w.name, w.shape) for w in others]:
        return Int8(NOT_RUN, "", "the models have different inputs")
    allowed = run_limits(limits, (document, first), (after, second), int8=True)
    if why := allowed.refusal(DRAWN):
        return Int8(NOT_RUN, "", why)
    with Runtime(allowed) as runtime:
        return compare_int8(document, after, wanted, calibration, runtime)


def compare_int8(before: Document, after: Document, wanted: Sequence[Spec], calibration: Path | None, runtime: Runtime) -> Int8:
    """Quantize two models with the same inputs and outputs and compare. Raises UsageError for calibration that does not fit."""
    if calibration is not None:
        given = calibration_feeds(calibration, wanted)
        what = f"{len(given)} of calibration"
    else:
        given = [normal_feed(wanted, seed) for seed in range(DRAWN)]
        what = f"{DRAWN} of drawn noise"
    names = [o.name for o in before.proto.graph.output]
    if names != [o.name for o in after.proto.graph.output]:
        return Int8(NOT_RUN, what, "the models have different outputs")
    results = []
    for label, document in (("first", before), ("second", after)):
        for int8 in (False, True):
            try:
                content, folder = document.runnable()
                results.append(runtime.run(content, folder.resolve(), given, names, scheme=Scheme() if int8 else None))
            except (CannotRun, ModelError) as error:
                how = "could not be quantized or run as int8" if int8 else "could not be run"
                return Int8(NOT_RUN, what, f"the {label} model {how}: {error}")
    growth = len(after.proto.graph.node) / max(1, len(before.proto.graph.node))
    outputs = tuple(_loss(n, results, growth) for n in names if _is_float(results[0], n))
    if not outputs:
        return Int8(NOT_RUN, what, "no output has a finite floating-point value, so nothing was compared")
    return Int8(KEPT if all(o.ok for o in outputs) else LOSES, what, "", outputs)


def _is_float(results: Sequence[Mapping[str, Array]], name: str) -> bool:
    return any(r[name].dtype.kind == "f" and np.isfinite(r[name]).any() and r[name].any() for r in results)


def least_ratio(before: float, growth: float) -> float:
    """What a model has to reach in dB whose original reaches `before` with so many times fewer operators.

    However many operators a rewrite has, noise stays a tenth of the signal where the original leaves room for a bit, stays within
    a bit where it does not, and is never above the signal where the original's is not.
    """
    own = min(before, OWN_DB)
    grown = own - BIT_DB - 10 * math.log10(max(1.0, growth))
    return max(grown, min(own - BIT_DB, SIGNAL_DB), min(own, 0.0))


def _loss(name: str, results: Sequence[Sequence[Mapping[str, Array]]], growth: float) -> OutputLoss:
    """From the results of the first model, of its int8 form, and of the second model and its int8 form."""
    before, before8, after, after8 = ([r[name] for r in result] for result in results)
    first = ratio_over(before, before8)
    return OutputLoss(name, first, ratio_over(after, after8), ratio_over(before8, after8), least_ratio(first, growth))


def ratio_over(reference: Sequence[Array], other: Sequence[Array], least: float = 0.0) -> float:
    """Over all inputs together, for a signal of `least` power or more; values that are not finite count as lost."""
    power = noise = 0.0
    for a, b in zip(reference, other, strict=True):
        if a.shape != b.shape:
            return -LIMIT_DB
        x, y = a.astype(np.float64), b.astype(np.float64)
        x, y = np.where(np.isfinite(x), x, 0.0), np.where(np.isfinite(y), y, 0.0)
        power, noise = power + float(np.square(x).sum()), noise + float(np.square(x - y).sum())
    return signal_to_noise(max(power, least), noise)
