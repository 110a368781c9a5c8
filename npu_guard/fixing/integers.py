"""`fix` on a quantized network: forms work on the network in real numbers, and what they make becomes integers again.

Forms know nothing of integers. So a quantized network is read as the one that it stands for, that is fixed and proved as any
other, and then each tensor is held as before; the two networks in integers are compared in steps of their outputs' scales.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from npu_guard.analysis.analyze import analyze
from npu_guard.base.errors import NotVerified
from npu_guard.base.limits import Limits
from npu_guard.device import Profile
from npu_guard.file.document import Document
from npu_guard.fixing.twin import Twin
from npu_guard.graph.graph import Value
from npu_guard.results.verification import Verification
from npu_guard.rewriting.integers.restore import Restoration, style_of_model
from npu_guard.rewriting.substitution import Refused
from npu_guard.verification.capture import capture
from npu_guard.verification.compare import not_run, run_document
from npu_guard.verification.feeds import Feed, calibration_feeds, input_specs
from npu_guard.verification.run_limits import run_limits
from npu_guard.verification.runtime import CannotRun, Runtime
from npu_guard.verification.steps import compare_in_steps, feeds_in_range, ranges_of

DRAWN, GIVEN = 8, 64
"""Inputs on which ranges are measured and results compared: drawn ones, and at most so many of calibration."""


def in_integers(
    twin: Twin, fixed: Document, profile: Profile, calibration: Path | None, limits: Limits, shapes: Mapping[str, Sequence[int]]
) -> tuple[Document, Verification]:
    """What was made of the twin, in integers, and how it compares with the quantized network.

    Where that cannot be had, the verification says why and the document is that of real numbers. Raises UsageError for
    calibration that does not go with the network.
    """
    changed = analyze(fixed.skeleton(), shapes)
    changed.write_branches(fixed.proto)
    restoration = Restoration(
        twin.real, fixed, changed, style_of_model(twin.analysis, twin.real),
        same_scale=profile.limit("quantization.same_scale") or (),
        channel_operators=profile.limit("quantization.channel_operators"), wide=_has_wide(profile),
    )  # fmt: skip
    try:
        wanted = input_specs(twin.analysis.model.graph.inputs, twin.analysis.constants)
    except NotVerified as error:
        return fixed, not_run(str(error))
    if calibration is not None:
        feeds: Sequence[Feed] = calibration_feeds(calibration, wanted)[:GIVEN]
        inputs = f"{len(feeds)} of calibration"
    else:
        feeds = feeds_in_range(wanted, ranges_of(twin.analysis), DRAWN)
        inputs = f"{DRAWN} drawn in the range of the inputs' scales"
    allowed = run_limits(limits, (twin.document, twin.analysis), (fixed, changed))
    if why := allowed.refusal(len(feeds)):
        return fixed, not_run(why)
    names = [o.name for o in twin.document.proto.graph.output]
    try:
        with Runtime(allowed) as runtime:
            measured = _ranges(runtime, fixed, feeds, restoration.inexact)
            made = restoration.write(measured)
            results = [run_document(runtime, d, feeds, names) for d in (twin.document, made, twin.real.document, fixed)]
    except (CannotRun, Refused) as error:
        return fixed, not_run(f"not in integers again: {error}")
    if restoration.inexact and _has_wide(profile):
        inputs += f"; {len(restoration.inexact)} new tensors, such as parts of sums, are held in 16 bits"
    growth = len(changed.model.graph.nodes) / max(1, len(twin.numbers.model.graph.nodes))
    return made, compare_in_steps(names, results[0], results[1], (results[2], results[3]), _scales(twin), growth, inputs)


def _has_wide(profile: Profile) -> bool:
    """Whether new sums may have 16 bits: where the device's file neither names types nor wants a network wholly in integers."""
    return not profile.limit("quantization.activation_types") and not profile.limit("quantization.whole")


def _scales(twin: Twin) -> dict[str, float]:
    """Scales of outputs that are held as integers; a step of those that are integers is 1."""
    found: dict[str, float] = {}
    for value in twin.analysis.model.graph.outputs:
        held = twin.real.held.get(value.name)
        if held is not None:
            found[value.name] = float(held.scale)
        elif value.producer is not None and value.producer.op_type == "QuantizeLinear":
            found[value.name] = 1.0
    return found


def _ranges(
    runtime: Runtime, document: Document, feeds: Sequence[Feed], values: Sequence[Value]
) -> dict[str, tuple[float, float]]:
    """The least and the largest number of each tensor over all inputs. Raises CannotRun."""
    found: dict[str, tuple[float, float]] = {}
    for feed in feeds if values else ():
        (seen,) = capture(runtime, document, [feed], values)
        for name, array in seen.items():
            finite = array[np.isfinite(array)]
            low, high = found.get(name, (0.0, 0.0))
            found[name] = min(low, float(finite.min(initial=0.0))), max(high, float(finite.max(initial=0.0)))
    return {value.name: found.get(value.name, (0.0, 0.0)) for value in values}
