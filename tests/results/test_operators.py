"""The table of operator types: fates of single findings, and of nodes with several."""

from __future__ import annotations

import pytest

from npu_guard.results.findings import Evidence, Finding, LayerRow, Location, ModelReport, Outcome, Severity, Verdict
from npu_guard.results.operators import by_operator, fate
from npu_guard.results.summary import allowed_words


def finding(output: str, consequence: str, severity: Severity = Severity.ERROR, outcome: Outcome = Outcome.FAIL) -> Finding:
    return Finding("NPU201", "kernel-size", severity, outcome, Location(output, "Conv", output), "long", consequence=consequence)


def layer(index: int, op: str, output: str, macs: int | None = 1, verdict: str = "ok") -> LayerRow:
    return LayerRow(index, Location(output, op, output), (), (), (1, 8), "float32", macs, 0, 0, 0, None, verdict)


@pytest.mark.parametrize(
    ("consequence", "severity", "expected"),
    [
        ("compile-error", Severity.ERROR, "refused"),
        ("host", Severity.ERROR, "host"),
        ("", Severity.ERROR, "refused"),
        ("slow", Severity.WARNING, "slow"),
        ("slow", Severity.ERROR, "slow"),  # the project takes it more seriously, and it still runs
        ("decomposed", Severity.NOTE, "split"),
        ("host", Severity.WARNING, "warning"),  # the documents leave it open
        ("", Severity.WARNING, "warning"),
        ("", Severity.NOTE, "fits"),
    ],
)
def test_what_becomes_of_a_node(consequence: str, severity: Severity, expected: str) -> None:
    assert fate(finding("a", consequence, severity)) == expected
    assert fate(finding("a", consequence, severity, Outcome.UNDECIDED)) == "undecided"


def test_a_node_counts_once_under_its_worst_finding() -> None:
    layers = (
        layer(0, "graph input", "x"), layer(1, "Conv", "a", 5), layer(2, "Conv", "b", 7), layer(3, "Relu", "c"),
        layer(4, "Identity", "d", verdict="folded"), layer(5, "Conv", "e", 2), layer(6, "Mystery", "m", None),
    )  # fmt: skip
    found = (finding("a", "slow", Severity.WARNING), finding("a", "host"), finding("b", "slow", Severity.WARNING))
    rows = by_operator(ModelReport("m", "p", Verdict.FAIL, found, layers=layers))
    assert [(r.op_type, r.count, r.macs, dict(r.fates)) for r in rows] == [
        ("Conv", 3, 14, {"fits": 1, "slow": 1, "host": 1}), ("Relu", 1, 1, {"fits": 1}), ("Mystery", 1, None, {"fits": 1}),
    ]  # fmt: skip
    assert rows[0].example.location.output == "a"
    assert rows[0].reason == "NPU201: long"
    assert rows[1].reason == ""


@pytest.mark.parametrize(
    ("limit", "allowed", "words"),
    [
        ("channels.multiple_of", 8, "multiple of 8"),
        ("conv.group_channels_multiple", 16, "multiple of 16"),
        ("conv.kernel_max", 17, "at most 17"),
        ("reduce.max_channels", 1024, "at most 1,024"),
        ("kernel.min", 2, "at least 2"),
        ("kernel.in", "1 or 3", "1 or 3"),
        ("stride.max", "kernel at most 3; or stride at most 2", "kernel at most 3; or stride at most 2"),
        ("tensor.static_shape", True, "yes"),
        ("conv.rank", (3, 4), "3, 4"),
    ],
)
def test_what_a_device_allows_in_words(limit: str, allowed: int | str | tuple[int, ...], words: str) -> None:
    assert allowed_words(Evidence(limit, 0, allowed)) == words
