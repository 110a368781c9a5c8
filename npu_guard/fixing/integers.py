"""`fix` on a quantized network: forms work on the network in real numbers, and what they make becomes integers again.

Forms know nothing of integers. So a quantized network is read as the one that it stands for, that is fixed and proved as any
other, and then each tensor is held as before; the two networks in integers are compared in steps of their outputs' scales.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.analysis.quantized.encoding import quantizes
from npu_guard.analysis.quantized.held import FLOAT, Held, held_of
from npu_guard.analysis.quantized.reading import read
from npu_guard.base.errors import NotVerified
from npu_guard.base.limits import Limits
from npu_guard.device import Profile
from npu_guard.file.document import Document
from npu_guard.fixing.counterparts import Seen, seen
from npu_guard.fixing.integer_formats import TYPES, Way, narrower, ways
from npu_guard.fixing.twin import MOVED, ROUNDED, Twin, scheme_findings
from npu_guard.graph.graph import Value
from npu_guard.results.findings import Applied, Finding
from npu_guard.results.proof import SAMPLED, Proof
from npu_guard.results.verification import Roundings, Verification
from npu_guard.rewriting.integers.grid import Style
from npu_guard.rewriting.integers.restore import Restoration, in_style, moves, style_of_model
from npu_guard.rewriting.integers.scheme import Wanted
from npu_guard.rewriting.integers.writing import WIDE_OPSET
from npu_guard.rewriting.substitution import APPROXIMATE, EXACT, Refused
from npu_guard.verification.compare import not_run, run_document
from npu_guard.verification.feeds import Feed, calibration_feeds, input_specs
from npu_guard.verification.run_limits import run_limits
from npu_guard.verification.runtime import CannotRun, Runtime
from npu_guard.verification.steps import FAR, compare_in_steps, far_feeds, feeds_in_range, ranges_of

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
    scales, known = _scales(twin), ranges_of(twin.analysis)
    if calibration is not None:
        feeds: Sequence[Feed] = calibration_feeds(calibration, wanted)[:GIVEN]
        inputs = f"{len(feeds)} of calibration"
    else:
        feeds = feeds_in_range(wanted, known, DRAWN)
        inputs = f"{DRAWN} drawn in the range of the inputs' scales"
    allowed = run_limits(limits, (twin.document, twin.analysis), (fixed, changed))
    if why := allowed.refusal(len(feeds) + len(FAR)):
        return [(fixed, not_run(why))]
    names = [o.name for o in twin.document.proto.graph.output]
    growth = sum(1 for _ in changed.nodes()) / max(1, sum(1 for _ in twin.numbers.nodes()))
    try:
        with Runtime(allowed) as runtime:
            far, kinds = _finite(runtime, twin.real.document, far_feeds(wanted, known), names)
            used = [*feeds, *far]
            loose, old, there = _unheld(twin, changed), _old(twin), changed.model.graph.values
            found = seen(runtime, twin.real.document, fixed, feeds, old, loose, there, far)
            before, first, second = (run_document(runtime, d, used, names) for d in (twin.document, twin.real.document, fixed))

            inputs += f", and {', '.join(kinds)} ones" if kinds else ""

            def compared(document: Document, words: str, rounded: Roundings) -> Verification:
                after = run_document(runtime, document, used, names)
                return compare_in_steps(names, before, after, (first, second), scales, growth, inputs + words, rounded, kinds)

            trials = _Trials(twin, fixed, changed, style, wanted_scheme, found, compared)
            made, why = trials.made(ways(found.ranges, profile, style, wide=wide))
    except CannotRun as error:
        made, why = [], str(error)
    return made or [(fixed, not_run(f"not in integers again: {why}"))]


def _finite(runtime: Runtime, document: Document, feeds: Sequence[Feed], names: Sequence[str]) -> tuple[list[Feed], list[str]]:
    """The inputs on which a network gives what is finite, and the words for each."""
    results = run_document(runtime, document, feeds, names)
    kept = [all(np.isfinite(result[name]).all() for name in names) for result in results]
    left = [(feed, kind) for feed, kind, own in zip(feeds, FAR, kept, strict=True) if own]
    return [feed for feed, _ in left], [kind for _, kind in left]


@dataclass(frozen=True, slots=True)
class _Trials:
    """Ways to write a changed network in integers, each tried."""

    twin: Twin
    fixed: Document
    changed: Analysis
    style: Style
    wanted: Wanted
    found: Seen
    compared: Callable[[Document, str, Roundings], Verification]
    """How a document compares, with words on what is new in it. Raises CannotRun."""

    def made(self, tried: Sequence[Way]) -> tuple[list[tuple[Document, Verification]], str]:
        """What came of each way, and why others were not written."""
        made, why = [], ""
        for way in tried:
            best: tuple[Document, Verification] | None = None
            new = True
            for one in narrower(way, self.found.usual):
                try:
                    document, own, new = self._tried(one)
                except (CannotRun, Refused) as error:
                    why = why or str(error)
                    continue
                best = (document, own) if best is None or _moved(own) < _moved(best[1]) else best
                if own.verdict == "equal" or not new:
                    break
            if best is None:
                continue
            made.append(best)
            if not new and not way.tied:
                break
        return made, why

    def _tried(self, way: Way) -> tuple[Document, Verification, bool]:
        """The network in integers, how it compares, and whether ranges had to be measured. Raises CannotRun and Refused."""
        known, there = self.twin.real.known, self.changed.model.graph.values
        alike = self.found.alike
        again = {name for name, old in self.found.of.items() if name in known and old not in there}
        restoration = Restoration(
            self.twin.real, self.fixed, self.changed, self.style, self.wanted, wide=way.wide, alike=alike, tied=way.tied,
            again=again,
        )  # fmt: skip
        document = restoration.write(way.measured, way.room)
        anew = [value for value in restoration.inexact if value.name not in alike]
        kind = "are held in 16 bits" if way.wide else "" if way.measured else "stay in floating point"
        words = f"; {len(anew)} new tensors, such as parts of sums, {kind}" if anew and kind else ""
        left_out = _left_out(self.twin, self.changed, self.found.kept)
        rounded = Roundings(len(anew) if way.measured else 0, restoration.otherwise, left_out, restoration.rounded)
        return document, self.compared(document, words, rounded), bool(restoration.inexact)


def _moved(verification: Verification) -> tuple[int, float]:
    """How far results move: by the verdict, then in steps."""
    order = ("equal", "close", "differs")
    return order.index(verification.verdict), max((output.steps or 0.0 for output in verification.outputs), default=0.0)


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
