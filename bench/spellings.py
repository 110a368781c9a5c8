"""Two exporters' spellings of one network must give the same findings: what does not, and why.

A folder holds pairs `NAME.dynamo.onnx` and `NAME.ts.onnx` (torch's current exporter and its older one). `bench/ecosystem.py`
compares them. A difference is either mended or explained here, by what the exporters really wrote; each explanation is for
one difference exactly, so that a new one is not taken for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from npu_guard.results.findings import Finding

DYNAMO, OLDER = "dynamo", "ts"
Count = Counter[str]
"""How many findings there are of each kind."""

REASONS: Mapping[tuple[str, str], str] = {
    ("caformer_s18", "dynamo alone: 1 NPU101 warning, 1 NPU102 error"): (
        "The square of a squared ReLU in the head is Pow for dynamo and Mul for the older exporter, and the device's documents"
        " mention Mul alone. And dynamo turns a map back to channels last after it was turned to channels first, which another"
        " reader needs; the older exporter reads it where it was not yet turned."
    ),
    ("gcvit_xxtiny", "the older exporter alone: 2 NPU402 error (5)"): (
        "Three blocks of a stage have an Unsqueeze of the same tensor each; dynamo shares one."
    ),
    ("mvitv2_tiny", "the older exporter alone: 10 NPU101 error"): (
        "An assignment into a slice, which is the whole tensor, is ScatterND; dynamo writes the sum without it."
    ),
}
"""By network and difference."""


@dataclass(frozen=True)
class Pair:
    """One network: the difference in words (empty: none) and its reason (empty: nobody has explained it)."""

    name: str
    difference: str
    reason: str


def kinds(findings: Iterable[Finding]) -> dict[str, int]:
    """Findings by rule, severity, outcome and what was measured; a place has a name of its own for each exporter."""
    found = (f"{f.rule} {f.severity.value}{_more(f)}" for f in findings)
    return dict(sorted(Counter(found).items()))


def _more(finding: Finding) -> str:
    words = [] if finding.outcome.value == "fail" else [finding.outcome.value]
    if finding.evidence is not None and finding.evidence.measured is not None:
        words.append(str(finding.evidence.measured))
    return f" ({', '.join(words)})" if words else ""


def pairs(found: Mapping[str, Mapping[str, int]]) -> list[Pair]:
    """All pairs among models by file name, in the order of their names."""
    result = []
    for name in sorted({file.removesuffix(f".{DYNAMO}.onnx") for file in found if file.endswith(f".{DYNAMO}.onnx")}):
        current, older = found[f"{name}.{DYNAMO}.onnx"], found.get(f"{name}.{OLDER}.onnx")
        if older is not None:
            difference = _difference(Counter(current), Counter(older))
            result.append(Pair(name, difference, REASONS.get((name, difference), "")))
    return result


def _difference(current: Count, older: Count) -> str:
    sides = (("dynamo alone", current - older), ("the older exporter alone", older - current))
    return "; ".join(f"{who}: {', '.join(f'{n} {what}' for what, n in sorted(only.items()))}" for who, only in sides if only)


def table(found: list[Pair]) -> str:
    """Lines for the document: how many pairs are equal, and each that is not."""
    different = [pair for pair in found if pair.difference]
    open_ones = sum(not pair.reason for pair in different)
    lines = [
        f"{len(found)} networks are there in both spellings: {len(found) - len(different)} have the same findings, "
        f"{len(different) - open_ones} differ for a reason, {open_ones} without one.",
    ]
    if different:
        lines += ["", "| network | findings of | reason |", "|---|---|---|"]
        lines += [f"| {p.name} | {p.difference} | {p.reason or '**not explained**'} |" for p in different]
    return "\n".join(lines) + "\n"
