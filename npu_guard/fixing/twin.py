"""A quantized network beside the one in real numbers that it stands for, on which forms are searched. Runs nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.analysis.quantized.standing import StandsFor, stand, stood
from npu_guard.base.errors import ModelError
from npu_guard.checking import registry
from npu_guard.checking.engine import Checked
from npu_guard.checking.quantization import QuantizationRule
from npu_guard.file.document import Document
from npu_guard.fixing.severities import fails
from npu_guard.results.findings import Finding
from npu_guard.rewriting.integers.held import Real
from npu_guard.rewriting.integers.real import in_real_numbers
from npu_guard.rewriting.substitution import Refused

MOVED, ROUNDED = "scales-as-they-are", "scales-of-the-device"
"""Names of steps that change the scheme alone, without rounding and with. They follow from the device; no plan has them."""


@dataclass(frozen=True, slots=True)
class Twin:
    """A quantized network, and the one in real numbers that it stands for."""

    document: Document
    analysis: Analysis
    real: Real
    numbers: Analysis
    """What is known of the one in real numbers."""


def twin_of(document: Document, analysis: Analysis, shapes: Mapping[str, Sequence[int]]) -> Twin | None:
    """The twin in real numbers; None where nothing is quantized, or it cannot be told what the network stands for."""
    try:
        real = in_real_numbers(document, analysis)
    except Refused:
        return None
    if real is None:
        return None
    try:
        numbers = analyze(real.document.skeleton(), shapes)
    except ModelError:  # as where an output of the model has no type
        return None
    numbers.write_branches(real.document.proto)
    types = {name: held.dtype for name, held in {**real.native, **real.held}.items()}
    usual = Counter(types.values()).most_common(1)
    stand(numbers, StandsFor(types, frozenset(numbers.model.graph.values), usual[0][0]) if usual else None)
    return Twin(document, analysis, real, numbers)


def of_analysis(analysis: Analysis) -> Analysis | None:
    """What is known of the twin, for whoever writes nothing; None as above."""
    skeleton = analysis.model.skeleton
    twin = twin_of(Document(skeleton.proto, Path(skeleton.path), skeleton.payloads, skeleton.limits), analysis, {})
    return None if twin is None else twin.numbers


def without_scheme(check: Callable[[Analysis], Checked], numbers: Analysis) -> Callable[[Analysis], Checked]:
    """The same check without the rules for quantization, which have nothing to look at in real numbers.

    What is made of `numbers`, the twin, stands for integers of the same types.
    """
    codes = {rule.code for rule in registry.rules() if isinstance(rule, QuantizationRule)}

    def checked(analysis: Analysis) -> Checked:
        stand(analysis, stood(numbers))
        found = check(analysis)
        return replace(found, findings=tuple(f for f in found.findings if f.rule not in codes))

    return checked


def scheme_findings(findings: Sequence[Finding]) -> list[Finding]:
    """Those of the rules for quantization that count."""
    codes = {rule.code for rule in registry.rules() if isinstance(rule, QuantizationRule)}
    return [f for f in findings if f.rule in codes and fails(f)]


_ENCODINGS = frozenset({"NPU803", "NPU804", "NPU805", "NPU806", "NPU807", "NPU808", "NPU809"})
"""Rules about types, scales and zero points of tensors that are in integers."""


def beyond_scheme(findings: Sequence[Finding], known: Sequence[Finding]) -> list[Finding]:
    """Without what is wrong with how tensors are held, where `known` has it too: what a form makes is held in the same scheme.

    To mend such a scheme is a step of its own, so that it may not keep forms away.
    """
    held = {f.rule for f in scheme_findings(known)} & _ENCODINGS
    return [f for f in findings if f.rule not in held]


def with_same_remedies(findings: Sequence[Finding], others: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings of a quantized network with what removes them in its twin in real numbers."""
    known = {(f.rule, f.location.output): f.remedy for f in others if f.remedy is not None and f.remedy.substitution is not None}
    return tuple(replace(f, remedy=known.get((f.rule, f.location.output), f.remedy)) for f in findings)
