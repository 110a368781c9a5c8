"""Weights that are inputs of the model as well, for commands that write models for a device."""

from __future__ import annotations

import onnx
from msgspec.structs import replace

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.analysis.interface import hold_inputs
from npu_guard.base.text import short
from npu_guard.file import load
from npu_guard.file.constant_inputs import Held
from npu_guard.file.skeleton import Skeleton
from npu_guard.graph.build import build
from npu_guard.project.config import Config
from npu_guard.results.summary import plural

LEARNED = frozenset(("weight", "bias", "mean", "variance"))
"""Roles of inputs for what training has found."""


def with_frozen_weights(path: str, config: Config) -> tuple[Config, tuple[str, ...]]:
    """The settings, with weights frozen that are inputs of the model as well; and the names of these.

    From IR version 4 on a caller may override such a weight, and older exporters list every weight so. What is compiled into a
    device nobody overrides, and a weight that may change cannot be written anew. Raises ModelError for what cannot be read.
    """
    found = _overridable(load.load(path, config.limits), config)
    return (replace(config, held=replace(config.held, freeze_weights=True)) if found else config), found


def with_weights_held(analysis: Analysis, config: Config) -> Analysis | None:
    """What is known of a model once such weights are frozen; None where it has none, or they are already."""
    skeleton = analysis.model.skeleton
    if not _overridable(skeleton, config):
        return None
    proto = onnx.ModelProto()
    proto.CopyFrom(skeleton.proto)
    held = replace(skeleton, proto=proto)
    hold_inputs(held, Held(freeze_weights=True))
    return analyze(held, config.input_shapes)


def _overridable(skeleton: Skeleton, config: Config) -> tuple[str, ...]:
    """Names of learned weights that a caller may override."""
    weights = {t.name for t in skeleton.proto.graph.initializer}
    listed = weights & {entry.name for entry in skeleton.proto.graph.input}
    if config.held.freeze_weights or not listed or skeleton.proto.ir_version < 4:
        return ()
    behind = {name: {name: None} if name in listed else {} for name in weights}  # what follows from weights alone, as in Q/DQ
    found: dict[str, None] = {}
    for node in build(skeleton).graph.walk():
        given = [(i, value.name) for i, value in enumerate(node.inputs) if value is not None]
        for i, name in given:
            if node.operator.role(i) in LEARNED:
                found |= behind.get(name, {})
        if not node.subgraphs and all(name in behind for _, name in given):
            made = {weight: None for _, name in given for weight in behind[name]}
            behind |= {value.name: made for value in node.outputs if value is not None}
    return tuple(found)


def told_frozen(weights: tuple[str, ...], what: str) -> str:
    """A sentence on weights that were frozen in `what` is written."""
    first, more = repr(short(weights[0])), len(weights) - 1
    listed = f"weight {first} is an input" if not more else f"weight {first} and {plural(more, 'other')} are inputs"
    return f"{listed} as well; {what} holds the values of the file, which nobody can override"
