"""Drawn inputs with which the original runs: a value that its operators refuse tells nothing of a rewrite."""

from __future__ import annotations

from collections.abc import Sequence

from npu_guard.analysis.analyze import Analysis
from npu_guard.file.document import Document
from npu_guard.graph.graph import Node
from npu_guard.verification.compare import run_document
from npu_guard.verification.drawing import Spec, tamed
from npu_guard.verification.feeds import Feed, seeded_feeds
from npu_guard.verification.runtime import CannotRun, Runtime


def runnable_feeds(
    runtime: Runtime, model: Document, analysis: Analysis, wanted: Sequence[Spec], seeds: Sequence[int]
) -> list[Feed]:
    """Drawn inputs of these seeds; where the model does not run with one of them, with smaller numbers in it.

    Integers of their whole type are no indices, and what a network makes of huge numbers may be no box. Only models that may
    refuse a value are asked. An input that does not run either way stays, so that whoever compares on it says why.
    """
    drawn = [feed for seed in seeds for feed in seeded_feeds(wanted, seed)]
    if not _may_refuse_some(wanted, analysis):
        return drawn
    try:
        run_document(runtime, model, drawn)
    except CannotRun:
        return [_runnable(runtime, model, wanted, feed) for feed in drawn]
    return drawn


def feeds_beside(
    runtime: Runtime, model: Document, analysis: Analysis, wanted: Sequence[Spec], seeds: Sequence[int], given: Sequence[Feed]
) -> tuple[list[Feed], tuple[int, ...]]:
    """Drawn inputs, and the seeds that they are of: where the user gives some, seeds with one that the model refuses fall away.

    A mode or a sampling rate may have a few values that the model is made for, which nobody draws.
    """
    drawn = runnable_feeds(runtime, model, analysis, wanted, seeds)
    if not given or not seeds or not _may_refuse_some(wanted, analysis):
        return drawn, tuple(seeds)
    each = len(drawn) // len(seeds)
    kept: list[Feed] = []
    used: list[int] = []
    for number, seed in enumerate(seeds):
        feeds = drawn[number * each : (number + 1) * each]
        try:
            run_document(runtime, model, feeds)
        except CannotRun:
            continue
        kept += feeds
        used.append(seed)
    return kept, tuple(used)


_REFUSING = frozenset(
    {"Compress", "Expand", "Gather", "GatherElements", "GatherND", "Loop", "MaxUnpool", "OneHot", "Range", "Reshape", "RoiAlign",
     "Scan", "ScatterElements", "ScatterND", "Tile", "TopK"}
)  # fmt: skip
"""Operators that a runtime refuses for some values of what is computed: for an index out of range, a count, a box."""
_SMALLER = 3
"""How often an input is made smaller before it is given up."""


def _may_refuse_some(wanted: Sequence[Spec], analysis: Analysis) -> bool:
    integers = any(spec.free and spec.dtype.kind in "iu" and spec.dtype.itemsize > 1 for spec in wanted)
    return integers or any(_may_refuse(node, analysis) for node in analysis.model.graph.walk())


def _may_refuse(node: Node, analysis: Analysis) -> bool:
    return node.op_type in _REFUSING and any(v is not None and not analysis.is_constant(v) for v in node.inputs[1:])


def _runnable(runtime: Runtime, model: Document, wanted: Sequence[Spec], drawn: Feed) -> Feed:
    feed = drawn
    for _ in range(_SMALLER + 1):
        try:
            run_document(runtime, model, [feed])
        except CannotRun:
            feed = {spec.name: tamed(spec, feed[spec.name], large=True) for spec in wanted}
        else:
            return feed
    return drawn
