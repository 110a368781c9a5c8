"""Before against after: what two models, or two spellings of a block, give for the same inputs.

"Could not run" is a verdict of its own and never counts as accepted. The tolerance follows from the arithmetic: rounding
grows with the square root of the number of accumulated terms (Higham, Accuracy and Stability, 2002, section 3.1). A model
that is itself uncertain by more, because its inputs' last bits move its outputs further, is judged by that, up to a bound.
An input on which it is uncertain by more than that bound proves nothing, and is left out in so many words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.cost import elements
from npu_guard.file.document import Document
from npu_guard.results.findings import OutputComparison, Verification
from npu_guard.verification.feeds import Feed
from npu_guard.verification.runtime import CannotRun, Runtime

Array = NDArray[Any]
BACKEND = "onnxruntime, optimisations off"
SNR_CAP = 300.0
"""dB that are written for equal outputs, where the ratio is infinite."""
_SAFETY = 8.0
_NUDGES = 4
_FEW = 4
"""Numbers in an output that may all come out near zero by chance, for one of the inputs: sums whose terms cancel. With each
number more, that gets ten times less likely."""
_MOST = 2.0**-10
"""Of an output's peak: what an ill-conditioned model may differ by at the most where an input is to count as evidence."""
_OWN = 2.0
"""How often its own uncertainty a model may differ where it counts. Right rewrites of EfficientNets with such weights that one
ulp moves the output by 1e-4 to 0.5 of its peak were found to differ by 0 to 1.2 times that (36 inputs)."""
_BEYOND = 8.0
"""The same where the input is left out: so far it still has to agree."""
_EVIDENCE = 3
"""One in so many inputs has to be evidence, or none is left out."""


def accumulated_terms(analysis: Analysis) -> int:
    """Terms that are summed on the way through the model: the lengths of all reductions, one after the other."""
    total = 1
    for node, cost in analysis.costs.items():
        out = elements(node.output.shape)
        if out:
            total += max(1, cost.macs // out)
    return total


def tolerance(terms: int, reference: Array, size: float = 0.0) -> float:
    """Absolute tolerance for an output whose values come from `terms` accumulated terms, in its own precision.

    It follows from the largest value, or from `size` where that is larger.
    """
    if reference.dtype.kind != "f":
        return 0.0
    epsilon = float(np.finfo(reference.dtype).eps) if reference.dtype != np.float64 else float(np.finfo(np.float32).eps)
    return _SAFETY * epsilon * math.sqrt(terms) * max(_peak(reference), size)


def _peak(reference: Array) -> float:
    finite = np.abs(reference[np.isfinite(reference)].astype(np.float64))
    return float(finite.max()) if finite.size else 0.0


def compare_output(
    name: str, before: Sequence[Array], after: Sequence[Array], terms: int, noise: Sequence[float] = ()
) -> OutputComparison:
    """One output over all inputs: the worst of each measure. `noise` is what the reference itself is uncertain by.

    Inputs on which it is too uncertain are no part of the measures, but still have to agree as far as the model does.
    """
    max_abs = max_rel = worst_tolerance = 0.0
    cosine, snr, ok = 1.0, SNR_CAP, True
    few = all(a.size <= _FEW and a.dtype.kind == "f" for a in before)
    size = float(np.median([_peak(a) for a in before])) if few else 0.0
    out = _left_out(before, noise)
    for i, (a, b) in enumerate(zip(before, after, strict=True)):
        if a.shape != b.shape or a.dtype != b.dtype:
            return OutputComparison(name, math.inf, math.inf, 0.0, -SNR_CAP, 0.0, 0.0, False)
        allowed = tolerance(terms, a, size)
        if noise:
            allowed = max(allowed, _BEYOND * noise[i] if i in out else min(_OWN * noise[i], _MOST * _peak(a)))
        x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
        finite = np.isfinite(x) & np.isfinite(y)
        same_pattern = bool(
            (np.isnan(x) == np.isnan(y)).all()
            and (np.isposinf(x) == np.isposinf(y)).all()
            and (np.isneginf(x) == np.isneginf(y)).all()
        )
        x, y = x[finite], y[finite]
        difference = np.abs(x - y)
        largest = float(difference.max()) if difference.size else 0.0
        agrees = same_pattern and largest <= allowed
        ok = ok and agrees
        if i in out and agrees:
            continue
        worst_tolerance = max(worst_tolerance, allowed)
        max_abs = max(max_abs, largest)
        max_rel = max(max_rel, _relative(x, difference))
        cosine = min(cosine, _cosine(x, y))
        # Where one side alone is not finite, no ratio of what is left means anything.
        snr = min(snr, _snr(x, difference) if same_pattern else -SNR_CAP)
    return OutputComparison(name, max_abs, max_rel, cosine, snr, worst_tolerance, 0.0, ok)


def _left_out(before: Sequence[Array], noise: Sequence[float]) -> frozenset[int]:
    """Inputs on which the reference is so uncertain of itself that a difference says nothing; none, if few would be left."""
    out = frozenset(i for i, own in enumerate(noise) if _OWN * own > _MOST * _peak(before[i]))
    return out if len(before) - len(out) >= len(before) / _EVIDENCE else frozenset()


def left_out(before: Sequence[Mapping[str, Array]], noise: Mapping[str, Sequence[float]], labels: Sequence[str]) -> str:
    """One line on the inputs that are no evidence, empty where all are."""
    told: dict[str, float] = {}
    for name, own in noise.items():
        for i in sorted(_left_out([r[name] for r in before], own)):
            label = labels[i] if i < len(labels) else f"input {i + 1}"
            told[label] = max(told.get(label, 0.0), own[i] / (_peak(before[i][name]) or 1.0))
    each = ", ".join(f"{label} ({100 * share:.2g} %)" for label, share in told.items())
    return f"left out, as the model's own output moves so far when its input moves by one ulp: {each}" if told else ""


def _relative(reference: Array, difference: Array) -> float:
    """Largest difference relative to the value, values below a millionth of the peak left out: there it says nothing."""
    if not difference.size:
        return 0.0
    magnitude = np.abs(reference)
    counted = magnitude > 1e-6 * float(magnitude.max())
    return float((difference[counted] / magnitude[counted]).max()) if counted.any() else 0.0


def _cosine(x: Array, y: Array) -> float:
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    if norm == 0.0:
        return 1.0 if np.array_equal(x, y) else 0.0
    return max(-1.0, min(1.0, float(x @ y) / norm))


def _snr(reference: Array, difference: Array) -> float:
    """Signal-to-noise ratio in dB, power of the reference over power of the difference."""
    noise = float((difference**2).sum())
    signal = float((reference**2).sum())
    if noise == 0.0:
        return SNR_CAP
    if signal == 0.0:
        return -SNR_CAP
    return max(-SNR_CAP, min(SNR_CAP, 10.0 * math.log10(signal / noise)))


def judge_outputs(
    before: Sequence[Mapping[str, Array]], after: Sequence[Mapping[str, Array]], names: Mapping[str, str], terms: int, *,
    exact: bool, seeds: Sequence[int], kinds: str, minimum_snr_db: float = -math.inf,
    noise: Mapping[str, Sequence[float]] | None = None, labels: Sequence[str] = (),
) -> Verification:  # fmt: skip
    """Compare outputs over several inputs; `names` maps outputs of the one side to those of the other.

    Exact: all within tolerance, else `differs`. Approximate: `close` down to the least ratio that is asked for, else `differs`.
    """
    outputs = tuple(
        compare_output(b, [r[a] for r in before], [r[b] for r in after], terms, (noise or {}).get(a, ()))
        for a, b in names.items()
    )
    told = [
        name for name in names if any(np.isfinite(r[name]).any() for r in before if r[name].size and r[name].dtype.kind in "fiub")
    ]
    if not names or not told:
        return not_run("no output has a finite value, so nothing was compared", seeds)
    worst, reason = min(o.snr_db for o in outputs), ""
    verdict = "equal" if all(o.ok for o in outputs) else "differs" if exact else "close"
    if verdict == "close" and worst < minimum_snr_db:
        verdict, reason = "differs", f"it comes within {worst:.1f} dB only, not the {minimum_snr_db:.1f} dB that are asked of it"
    if verdict == "equal" and noise:
        reason = left_out(before, noise, labels)
    return Verification(verdict, BACKEND, tuple(seeds), kinds, reason, outputs)


def not_run(reason: str, seeds: Sequence[int] = ()) -> Verification:
    """The verdict where nothing could be compared. Never accepted."""
    return Verification("not_run", BACKEND, tuple(seeds), "", reason, ())


def run_document(
    runtime: Runtime, document: Document, feeds: Sequence[Feed], outputs: Sequence[str] | None = None
) -> list[dict[str, Array]]:
    """Outputs of a document's model. Raises CannotRun."""
    content, folder = document.runnable()
    return runtime.run(content, folder.resolve(), feeds, outputs)


def compare_documents(
    runtime: Runtime, before: Document, after: Document, feeds: Sequence[Feed], terms: int, *,
    exact: bool, seeds: Sequence[int], kinds: str, known: Mapping[int, Mapping[str, Array]] | None = None,
    labels: Sequence[str] = (),
) -> Verification:  # fmt: skip
    """End to end: every output of two models with the same inputs and outputs.

    `known` are outputs of the first one that have been computed before, by the index of the feed; `labels` name the feeds.
    """
    known = known or {}
    names = [o.name for o in before.proto.graph.output]
    if names != [o.name for o in after.proto.graph.output]:
        return not_run("the models have different outputs", seeds)
    try:
        missing = [i for i in range(len(feeds)) if i not in known]
        ran = run_document(runtime, before, [feeds[i] for i in missing]) if missing else []
        results = {**known, **dict(zip(missing, ran, strict=True))}
        first = [results[i] for i in range(len(feeds))]
        second = run_document(runtime, after, feeds)
    except CannotRun as error:
        return not_run(str(error), seeds)
    same = {n: n for n in names}
    result = judge_outputs(first, second, same, terms, exact=exact, seeds=seeds, kinds=kinds)
    if exact and result.verdict == "differs":
        noise = measure_noise(runtime, before, feeds, first, names)
        result = judge_outputs(first, second, same, terms, exact=exact, seeds=seeds, kinds=kinds, noise=noise, labels=labels)
    return result


def measure_noise(
    runtime: Runtime, model: Document, feeds: Sequence[Feed], reference: Sequence[Mapping[str, Array]], names: Sequence[str]
) -> dict[str, list[float]]:
    """How far each output moves when every number that is fed moves by its last bit, up or down at random.

    Softmax over large scores, say, turns one rounding of a near tie into percents; no spelling of the model is better than that.
    """
    found = {name: [0.0] * len(feeds) for name in names}
    for seed in range(_NUDGES):
        rng = np.random.default_rng(seed)
        try:
            moved = run_document(runtime, model, [{k: _nudged(v, rng) for k, v in feed.items()} for feed in feeds])
        except CannotRun:
            break
        for i, (a, b) in enumerate(zip(reference, moved, strict=True)):
            for name in names:
                with np.errstate(invalid="ignore"):  # what is infinite on both sides has no difference, and is left out
                    difference = np.abs(a[name].astype(np.float64) - b[name]) if a[name].dtype.kind == "f" else np.zeros(1)
                finite = difference[np.isfinite(difference)]
                found[name][i] = max(found[name][i], float(finite.max()) if finite.size else 0.0)
    return found


def _nudged(array: Array, rng: np.random.Generator) -> Array:
    if array.dtype.kind != "f":
        return array
    moved: Array = np.nextafter(array, np.where(rng.random(array.shape) < 0.5, np.inf, -np.inf).astype(array.dtype))
    return moved
