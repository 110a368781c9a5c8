"""`fix` on a quantized network: forms work on the network in real numbers, and what they make becomes integers again.

Forms know nothing of integers. So a quantized network is read as the one that it stands for, that is fixed and proved as any
other, and then each tensor is held as before; the two networks in integers are compared in steps of their outputs' scales.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.analysis.quantized.encoding import quantizes
from npu_guard.analysis.quantized.held import FLOAT, Held, held_of
from npu_guard.analysis.quantized.reading import read
from npu_guard.analysis.types import DTYPE_NAMES
from npu_guard.base.errors import NotVerified
from npu_guard.base.limits import Limits
from npu_guard.device import Profile
from npu_guard.file.document import Document
from npu_guard.fixing.counterparts import Range, seen
from npu_guard.fixing.twin import MOVED, ROUNDED, Twin, scheme_findings
from npu_guard.graph.graph import Value
from npu_guard.results.findings import Applied, Finding
from npu_guard.results.proof import SAMPLED, Proof
from npu_guard.results.verification import Roundings, Verification
from npu_guard.rewriting.integers.grid import Style, widened
from npu_guard.rewriting.integers.restore import Restoration, in_style, moves, style_of_model
from npu_guard.rewriting.integers.scheme import Wanted, of_other_sign
from npu_guard.rewriting.integers.writing import WIDE_OPSET
from npu_guard.rewriting.substitution import APPROXIMATE, EXACT, Refused
from npu_guard.verification.compare import not_run, run_document
from npu_guard.verification.feeds import Feed, calibration_feeds, input_specs
from npu_guard.verification.run_limits import run_limits
from npu_guard.verification.runtime import CannotRun, Runtime
from npu_guard.verification.steps import compare_in_steps, feeds_in_range, ranges_of

TYPES = {name: number for number, name in DTYPE_NAMES.items()}
DRAWN, GIVEN = 8, 64
"""Inputs on which ranges are measured and results compared: drawn ones, and at most so many of calibration."""


def in_integers(
    twin: Twin,
    fixed: Document,
    profile: Profile,
    calibration: Path | None,
    limits: Limits,
    shapes: Mapping[str, Sequence[int]],
    *,
    approximate: bool = False,
) -> list[tuple[Document, Verification]]:
    """What was made of the twin, in integers, and how it compares with the quantized network: each way that there is, the one
    with the most integers first.

    Where none can be had, the verification says why and the document is that of real numbers. Raises UsageError for
    calibration that does not go with the network.
    """
    changed = analyze(fixed.skeleton(), shapes)
    changed.write_branches(fixed.proto)
    wanted_scheme = _wanted(profile, approximate=approximate)
    style = in_style(style_of_model(twin.analysis, twin.real), wanted_scheme)
    wide = _has_wide(twin.analysis)
    try:
        wanted = input_specs(twin.analysis.model.graph.inputs, twin.analysis.constants)
    except NotVerified as error:
        return [(fixed, not_run(str(error)))]
    if calibration is not None:
        feeds: Sequence[Feed] = calibration_feeds(calibration, wanted)[:GIVEN]
        inputs = f"{len(feeds)} of calibration"
    else:
        feeds = feeds_in_range(wanted, ranges_of(twin.analysis), DRAWN)
        inputs = f"{DRAWN} drawn in the range of the inputs' scales"
    allowed = run_limits(limits, (twin.document, twin.analysis), (fixed, changed))
    if why := allowed.refusal(len(feeds)):
        return [(fixed, not_run(why))]
    names = [o.name for o in twin.document.proto.graph.output]
    try:
        with Runtime(allowed) as runtime:
            loose = _unheld(twin, changed)
            found = seen(runtime, twin.real.document, fixed, feeds, _old(twin), loose, changed.model.graph.values)
            left_out = _left_out(twin, changed, found.kept)
            again = {n for n, old in found.of.items() if n in twin.real.known and old not in changed.model.graph.values}
            made, why = [], ""
            for way in _ways(found.ranges, profile, style, wide=wide):
                try:
                    restoration = Restoration(
                        twin.real, fixed, changed, style, wanted_scheme, wide=way.wide, alike=found.alike, tied=way.tied,
                        again=again,
                    )  # fmt: skip
                    document = restoration.write(way.measured)
                    results = run_document(runtime, document, feeds, names)
                except (CannotRun, Refused) as error:
                    why = why or str(error)
                    continue
                anew = [value for value in restoration.inexact if value.name not in found.alike]
                kind = "are held in 16 bits" if way.wide else "" if way.measured else "stay in floating point"
                words = f"; {len(anew)} new tensors, such as parts of sums, {kind}" if anew and kind else ""
                rounded = Roundings(len(anew) if way.measured else 0, restoration.otherwise, left_out, restoration.rounded)
                made.append((document, results, words, rounded))
                if not restoration.inexact and not way.tied:
                    break
            if not made:
                return [(fixed, not_run(f"not in integers again: {why}"))]
            before, first, second = (run_document(runtime, d, feeds, names) for d in (twin.document, twin.real.document, fixed))
    except CannotRun as error:
        return [(fixed, not_run(f"not in integers again: {error}"))]
    growth = sum(1 for _ in changed.nodes()) / max(1, sum(1 for _ in twin.numbers.nodes()))
    scales = _scales(twin)
    return [
        (document, compare_in_steps(names, before, after, (first, second), scales, growth, inputs + words, rounded))
        for document, after, words, rounded in made
    ]


def _wanted(profile: Profile, *, approximate: bool) -> Wanted:
    def types(key: str) -> list[int]:
        return [TYPES[name] for name in profile.limit(f"quantization.{key}") or () if name in TYPES]

    granularity = profile.limit("quantization.weight_scales")
    return Wanted(
        types("activation_types"), types("activations_symmetric"), bool(profile.limit("quantization.power_of_two")),
        tuple(profile.limit("quantization.same_scale") or ()), tuple(profile.limit("quantization.same_operands") or ()),
        profile.limit("quantization.channel_operators"), granularity is None or "channel" in granularity,
        types("weight_types"), types("weights_symmetric"), bool(profile.limit("quantization.whole")), approximate,
    )  # fmt: skip


def _is_free(profile: Profile) -> bool:
    """Whether new sums need not have the type of all others: the device's file neither names types nor wants integers alone."""
    return not profile.limit("quantization.activation_types") and not profile.limit("quantization.whole")


class _Way(NamedTuple):
    """One way to write integers."""

    measured: Mapping[str, Range]
    """Ranges of new sums that become integers."""
    wide: bool
    """Whether these have 16 bits."""
    tied: bool
    """Whether scales that are known are given up for shared ones."""


def _ways(ranges: Mapping[str, Range], profile: Profile, style: Style, *, wide: bool) -> list[_Way]:
    """Each way to be tried.

    New sums become integers where the device wants that or has 16 bits, and stay in floating point where it takes that beside
    integers.
    """
    if _is_free(profile):
        sums: list[tuple[Mapping[str, Range], bool]] = [*([(ranges, True)] if wide else []), ({}, False)]
    else:
        sums = [(ranges, False), *([(ranges, True)] if _takes_wide(profile, style) else [])]
        sums += [] if profile.limit("quantization.whole") else [({}, False)]
    shares = profile.limit("quantization.same_operands") or profile.limit("quantization.same_scale")
    return [_Way(one, fine, tied) for one, fine in sums for tied in ((True, False) if shares else (False,))]


def _takes_wide(profile: Profile, style: Style) -> bool:
    """Whether the device names 16 bits among the types of activations, where the network has 8."""
    own = Held(style.activation, np.ones((), np.float32), 0)
    wider = widened(own)
    types = {TYPES.get(name) for name in profile.limit("quantization.activation_types") or ()}
    return wider is not own and not types.isdisjoint({wider.dtype, of_other_sign(wider).dtype})


def _left_out(twin: Twin, changed: Analysis, kept: Collection[str]) -> int:
    """Tensors that were rounded and whose numbers no tensor has any more; what was only moved was not rounded."""
    count = 0
    for name, held in twin.real.held.items():
        maker = twin.numbers.model.graph.values[name].producer
        read = maker.inputs if maker is not None and moves(maker) else ()
        sources = [twin.real.held.get(v.name) for v in read if v is not None]
        moved = any(source is not None and source.same(held) for source in sources)
        count += not moved and name not in kept and name not in changed.model.graph.values
    return count


def _has_wide(analysis: Analysis) -> bool:
    """Whether a network can hold 16 bits without operators that are not ONNX's own, or has those already."""
    own = analysis.model.opsets.get("", 1) >= WIDE_OPSET
    return own or any(quantizes(node) and node.domain for node in analysis.model.graph.nodes)


def proof_in_integers(real: Proof | None) -> Proof:
    """What is known of the network in integers, where in real numbers this is known: to round at other places is no identity."""
    label = "" if real is None or real.label == SAMPLED else f"in real numbers it is {real.label}; "
    return Proof(SAMPLED, reason=f"{label}what rounding to integers makes of it is compared on inputs")


def repairs(
    before: Sequence[Finding], after: Sequence[Finding], verification: Verification, *, rounding: bool
) -> tuple[Applied, ...]:
    """What was changed in the scheme alone, a step for each rule that has less to say; none where no rule has.

    `rounding`: whether numbers are rounded to other scales.
    """
    left = {(f.rule, f.location.node) for f in scheme_findings(after)}
    gone: dict[str, list[Finding]] = {}
    for finding in scheme_findings(before):
        if (finding.rule, finding.location.node) not in left:
            gone.setdefault(finding.rule, []).append(finding)
    name, exactness = (ROUNDED, APPROXIMATE) if rounding else (MOVED, EXACT)
    steps = []
    for rule, found in sorted(gone.items()):
        first, nodes = found[0], tuple(dict.fromkeys(f.location.node for f in found))
        steps.append(
            Applied(
                substitution=name, exactness=exactness, node=first.location.node, rules=(rule,), nodes_before=nodes,
                nodes_after=nodes, verification=verification, at=first.location.output, op_type=first.location.op_type,
                source=first.source,
            )
        )  # fmt: skip
    return tuple(steps)


def _scales(twin: Twin) -> dict[str, tuple[float, int]]:
    """Scale and zero point of outputs that are held as integers; of those that are integers, the step is 1."""
    found: dict[str, tuple[float, int]] = {}
    for value in twin.analysis.model.graph.outputs:
        held = twin.real.held.get(value.name)
        own = held_of(read(twin.analysis).encodings.get(value), twin.analysis)
        if held is not None:
            found[value.name] = float(held.scale), held.zero
        elif own is not None:
            found[value.name] = 1.0, own.zero
    return found


def _old(twin: Twin) -> dict[str, tuple[Value, Held]]:
    """Tensors of the network in real numbers with how they are held, in the order of the graph."""
    held = {**twin.real.native, **twin.real.held}
    return {name: (value, held[name]) for name, value in twin.numbers.model.graph.values.items() if name in held}


def _unheld(twin: Twin, changed: Analysis) -> list[Value]:
    """Activations of the changed network that nothing says the scale of."""
    graph = changed.model.graph
    values = [*graph.inputs, *(v for node in graph.nodes for v in node.outputs if v is not None)]
    some = [v for v in values if v.dtype == FLOAT and not changed.is_constant(v)]
    return [v for v in some if v.name not in twin.real.held and v.name not in twin.real.native]
