"""Inputs of other sizes than the model is judged with: of another batch, and of twice the size that the user has given."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from npu_guard.base.errors import NotVerified
from npu_guard.base.text import text
from npu_guard.file.document import Document
from npu_guard.verification.compare import run_document
from npu_guard.verification.feeds import Feed, Spec, feed_count, seeded_feeds
from npu_guard.verification.run_limits import RunLimits
from npu_guard.verification.runtime import CannotRun, Runtime

BATCH = 2
"""Where the batch is open, results are compared for this one too."""


def expect_room(allowed: RunLimits, seeds: Sequence[int]) -> None:
    """Raise NotVerified where so many inputs, and what comes out of them, take more memory than the model may have."""
    if why := allowed.refusal(feed_count(seeds)):
        raise NotVerified(why)


def open_axes(document: Document) -> dict[str, set[int]]:
    """The axes of each input that the file leaves open."""
    return {
        text(i.name): {a for a, dim in enumerate(i.type.tensor_type.shape.dim) if not dim.HasField("dim_value")}
        for i in document.proto.graph.input
    }


def other_sizes(
    runtime: Runtime, document: Document, wanted: Sequence[Spec], opened: Mapping[str, set[int]],
    given: Mapping[str, Sequence[int]], seeds: Sequence[int], *, sizes: bool = False,
) -> tuple[list[Feed], list[str]]:  # fmt: skip
    """Inputs of another batch and, with `sizes`, of twice the size that the user has given, as far as the model runs with them.

    `opened` are the axes of each input that may vary. What goes with the model has to run with these as well.
    """
    if not seeds:
        return [], []
    shapes: dict[str, dict[str, tuple[int, ...]]] = {f"a batch of {BATCH}": {}, "twice the size": {}}
    for spec in wanted:
        axes = opened[spec.name]
        if spec.name not in given and 0 in axes and spec.shape:
            shapes[f"a batch of {BATCH}"][spec.name] = (BATCH, *spec.shape[1:])
        elif spec.name in given and sizes and axes - {0}:
            shapes["twice the size"][spec.name] = tuple(d * 2 if a in axes and a else d for a, d in enumerate(spec.shape))
    found: list[Feed] = []
    words = []
    for word, larger in shapes.items():
        if not larger:
            continue
        specs = [dataclasses.replace(s, shape=larger.get(s.name, s.shape)) for s in wanted]
        drawn = seeded_feeds(specs, seeds[0])[:1]
        try:
            run_document(runtime, document, drawn)
        except CannotRun:
            continue
        found += drawn
        words.append(word)
    return found, words
