"""Before against after: what two models, or two spellings of a block, give for the same inputs.

"Could not run" is a verdict of its own and never counts as accepted. `outputs.py` says what an output may differ by. A model
that is itself uncertain by more, because its last bits move its outputs further, is judged by that, up to a bound. An input on
which it is uncertain by more than that bound proves nothing, and is left out in so many words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from npu_guard.analysis.analyze import Analysis
from npu_guard.file.document import Document
from npu_guard.results.verification import Verification
from npu_guard.verification import outputs
from npu_guard.verification.accumulation import accumulated_terms
from npu_guard.verification.borders import seen_across_borders, tail_of
from npu_guard.verification.description import LEFT_OUT, OVERFLOWN
from npu_guard.verification.drawing import NARROW, Spec, tamed
from npu_guard.verification.feeds import Array, Feed
from npu_guard.verification.flips import ties
from npu_guard.verification.outputs import compare_inputs, compare_output, peak
from npu_guard.verification.runtime import CannotRun, Runtime
from npu_guard.verification.uncertainty import DRAWS, MORE, Noise, measure_noise

__all__ = [
    "accumulated_terms", "compare_documents", "compare_output", "differs", "judge_outputs", "left_out", "measure_noise",
    "measure_uncertainty", "not_run", "run_document",
]  # fmt: skip
BACKEND = "onnxruntime, optimisations off"
Terms = float | Mapping[str, float]
"""Roundings that are accumulated on the way to each output, or to all alike."""


def left_out(before: Sequence[Mapping[str, Array]], noises: Mapping[str, Sequence[Noise]], labels: Sequence[str]) -> str:
    """One line on the inputs that are no evidence, empty where all are."""
    told: dict[str, float] = {}
    for name, own in noises.items():
        reference = [r[name] for r in before]
        for i in sorted(outputs.left_out(reference, own)):
            label = labels[i] if i < len(labels) else f"input {i + 1}"
            share = own[i].whole / (peak(reference[i]) or 1.0) if reference[i].dtype.kind == "f" else ties(reference[i], own[i])
            told[label] = max(told.get(label, 0.0), share)
    each = ", ".join(f"{label} ({100 * share:.2g} %)" for label, share in told.items())
    return f"{LEFT_OUT}: {each}" if told else ""


def judge_outputs(
    before: Sequence[Mapping[str, Array]], after: Sequence[Mapping[str, Array]], names: Mapping[str, str], terms: Terms, *,
    exact: bool, seeds: Sequence[int], kinds: str, minimum_snr_db: float = -math.inf,
    noise: Mapping[str, Sequence[Noise]] | None = None, labels: Sequence[str] = (),
) -> Verification:  # fmt: skip
    """Compare outputs over several inputs; `names` maps outputs of the one side to those of the other.

    Exact: all within tolerance, else `differs`. Approximate: `close` down to the least ratio that is asked for, else `differs`.
    """
    compared = tuple(
        compare_output(b, [r[a] for r in before], [r[b] for r in after], terms_of(terms, a), (noise or {}).get(a, ()), labels)
        for a, b in names.items()
    )
    told = [
        name for name in names if any(np.isfinite(r[name]).any() for r in before if r[name].size and r[name].dtype.kind in "fiub")
    ]
    if not names or not told:
        return not_run("no output has a finite value, so nothing was compared", seeds)
    worst, reason = min(o.snr_db for o in compared), ""
    verdict = "equal" if all(o.ok for o in compared) else "differs" if exact else "close"
    if verdict == "close" and worst < minimum_snr_db:
        verdict, reason = "differs", f"it comes within {worst:.1f} dB only, not the {minimum_snr_db:.1f} dB that are asked of it"
    if verdict == "equal":
        remarks = (left_out(before, noise or {}, labels), _not_compared(before, names, labels))
        reason = "; ".join(filter(None, remarks))
    return Verification(verdict, BACKEND, tuple(seeds), kinds, reason, compared)


def _not_compared(before: Sequence[Mapping[str, Array]], names: Mapping[str, str], labels: Sequence[str]) -> str:
    """One line on values that are no evidence, as the first model itself overflows there; empty where it does not."""
    count = sum(outputs.overflown(r[name], label) for r, label in zip(before, labels, strict=False) for name in names)
    return f"{OVERFLOWN} (values: {count:,})" if count else ""


def not_run(reason: str, seeds: Sequence[int] = ()) -> Verification:
    """The verdict where nothing could be compared. Never accepted."""
    return Verification("not_run", BACKEND, tuple(seeds), "", reason, ())


def differs(reason: str, seeds: Sequence[int] = ()) -> Verification:
    """The verdict where two models take or give something else, so that nothing needs to be run."""
    return Verification("differs", BACKEND, tuple(seeds), "", reason, ())


def run_document(
    runtime: Runtime, document: Document, feeds: Sequence[Feed], outputs: Sequence[str] | None = None
) -> list[dict[str, Array]]:
    """Outputs of a document's model. Raises CannotRun."""
    content, folder = document.runnable()
    return runtime.run(content, folder.resolve(), feeds, outputs)


def terms_of(terms: Terms, name: str) -> float:
    """The terms of one output."""
    return terms.get(name, 1.0) if isinstance(terms, Mapping) else terms


def compare_documents(
    runtime: Runtime, before: Document, after: Document, feeds: Sequence[Feed], terms: Terms, *,
    exact: bool, seeds: Sequence[int], kinds: str, known: Mapping[int, Mapping[str, Array]] | None = None,
    labels: Sequence[str] = (), analysis: Analysis | None = None, pairs: Mapping[str, str] | None = None,
    wanted: Sequence[Spec] = (),
) -> Verification:  # fmt: skip
    """End to end: every output of two models with the same inputs and outputs.

    `known` are outputs of the first one that have been computed before, by the index of the feed; `labels` name the feeds.
    `analysis` is that of the first one, `pairs` maps its inputs and outputs to those of the second where they have other names,
    and with `wanted` inputs, those that the first model gives nothing finite for are made smaller.
    """
    known, pairs = known or {}, pairs or {}
    names = {o.name: pairs.get(o.name, o.name) for o in before.proto.graph.output}
    given, wanted_names = [o.name for o in after.proto.graph.output], [*names.values()]
    if (sorted(given) != sorted(wanted_names)) if pairs else given != wanted_names:
        return not_run("the models have different outputs", seeds)
    try:
        missing = [i for i in range(len(feeds)) if i not in known]
        ran = run_document(runtime, before, [feeds[i] for i in missing]) if missing else []
        results = {**known, **dict(zip(missing, ran, strict=True))}
        first = [results[i] for i in range(len(feeds))]
        feeds, first = _finite(runtime, before, feeds, first, labels, wanted)
    except CannotRun as error:
        return not_run(f"the first model does not run: {error}", seeds)
    try:
        second = run_document(runtime, after, [{pairs.get(k, k): v for k, v in feed.items()} for feed in feeds])
    except CannotRun as error:
        return not_run(f"the second model does not run, where the first does: {error}", seeds)
    result = judge_outputs(first, second, names, terms, exact=exact, seeds=seeds, kinds=kinds, labels=labels)
    if not exact or result.verdict != "differs":
        return result
    return _in_doubt(runtime, before, feeds, first, second, names, terms, analysis, labels, seeds=seeds, kinds=kinds)


def _finite(
    runtime: Runtime, model: Document, feeds: Sequence[Feed], results: Sequence[Mapping[str, Array]], labels: Sequence[str],
    wanted: Sequence[Spec],
) -> tuple[list[Feed], list[Mapping[str, Array]]]:  # fmt: skip
    """Inputs and outputs, with smaller numbers in those large inputs for which hardly anything finite comes out."""
    made, told = list(feeds), list(results)
    for i, (feed, label) in enumerate(zip(feeds, labels, strict=False)):
        kind = label.split(" of seed ")[0]
        if kind not in ("large", "edge", *NARROW) or not wanted or _mostly_finite(results[i]):
            continue
        smaller = {s.name: tamed(s, feed[s.name], large=kind != "edge") for s in wanted}
        if any(not np.array_equal(smaller[name], feed[name]) for name in smaller):
            made[i], told[i] = smaller, run_document(runtime, model, [smaller])[0]
    return made, told


def _mostly_finite(result: Mapping[str, Array]) -> bool:
    return all(array.dtype.kind != "f" or not array.size or np.isfinite(array).mean() > 0.5 for array in result.values())


def measure_uncertainty(
    runtime: Runtime, model: Document, feeds: Sequence[Feed], reference: Sequence[Mapping[str, Array]], names: Sequence[str],
    analysis: Analysis | None = None, chosen: Sequence[int] | None = None, draws: int = DRAWS,
) -> dict[str, list[Noise]]:  # fmt: skip
    """The noise of each output on each of the feeds, or on those that are `chosen`; of one in steps, what else it may be."""
    measured = measure_noise(runtime, model, feeds, reference, names, analysis, chosen, draws)
    for name in names:
        if analysis is None or (tail := tail_of(model, analysis, name)) is None:
            continue
        for i in range(len(feeds)) if chosen is None else chosen:
            across = seen_across_borders(runtime, model, analysis, feeds[i], name, tail)
            measured[name][i] = Noise(seen=(*measured[name][i].seen, *across), ordered=not tail.labels)
    return measured


def _in_doubt(
    runtime: Runtime, before: Document, feeds: Sequence[Feed], first: Sequence[Mapping[str, Array]],
    second: Sequence[Mapping[str, Array]], names: Mapping[str, str], terms: Terms, analysis: Analysis | None,
    labels: Sequence[str], *, seeds: Sequence[int], kinds: str,
) -> Verification:  # fmt: skip
    """The verdict where something differs by more than rounding: that of a model which is uncertain of itself.

    Its noise is measured on one input at a time, and no more once one shows a difference that noise is no reason for.
    """
    measured: dict[str, list[Noise]] = {name: [Noise() for _ in feeds] for name in names}

    def failing(noises: Mapping[str, Sequence[Noise]]) -> set[int]:
        return {
            i
            for a, b in names.items()
            for i in compare_inputs(
                b, [r[a] for r in first], [r[b] for r in second], terms_of(terms, a), noises.get(a, ()), labels
            )[1]
        }

    for i in sorted(failing({})):
        for draws in (DRAWS, MORE):
            own = measure_uncertainty(runtime, before, feeds, first, list(names), analysis, [i], draws)
            for name in names:
                measured[name][i] = own[name][i]
            if i not in failing(measured):
                break
        else:
            break
    return judge_outputs(first, second, names, terms, exact=True, seeds=seeds, kinds=kinds, noise=measured, labels=labels)
