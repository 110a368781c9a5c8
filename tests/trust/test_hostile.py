"""Our own hostile models, by class: each is analysed or refused as it ought to be, in every format, and forges nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "fuzz"))

import hostile  # noqa: E402
from hostile_classes.case import ACCEPT, Case, edited, text  # noqa: E402

CASES = list(hostile.cases())
QUICK = [case for case in CASES if not case.alone]
CHUNKS = sorted({case.kind for case in QUICK})
FULL = ("string", "file")
"""Classes whose point is what reports show; of the others every tenth is shown in all formats."""


def test_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("kind", CHUNKS)
def test_hostile_models(tmp_path: Path, kind: str, part: int) -> None:
    """Many in one test, as most take a few milliseconds; what falls short is listed."""
    found = {}
    for number, case in enumerate([c for c in QUICK if c.kind == kind][part::4]):
        folder = tmp_path / str(number)
        folder.mkdir()
        formats = hostile.FORMATS if kind in FULL or number % 10 == 0 else ("text", "json")
        if faults := hostile.faults(case, folder, formats):
            found[case.name] = faults
    assert not found


@pytest.mark.parametrize("case", [c for c in CASES if c.alone], ids=lambda c: c.name)
def test_large_models_in_a_process_of_their_own(tmp_path: Path, case: Case) -> None:
    assert hostile.in_child(case, tmp_path) == []


def test_the_judge_can_find_fault(tmp_path: Path) -> None:
    """Else the tests above would pass whatever happens."""
    good = text("y = Relu(x)")
    for case, fault in (
        (Case("a", "k", "w", ("invalid",), "", good), "expected invalid, got accept"),
        (Case("b", "k", "w", (ACCEPT,), "", b""), "expected accept, got not-onnx"),
        (
            Case("c", "k", "w", ("invalid",), "zebra", edited(lambda m: m.graph.node[0].ClearField("input"), good)),
            "does not name 'zebra'",
        ),
    ):
        folder = tmp_path / case.name
        folder.mkdir()
        (found,) = hostile.faults(case, folder, ("text",))
        assert fault in found


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text", "a \x1b[31mname"),
        ("text", "\u202e"),
        ("github", "fine\n::error file=x::forged"),
        ("markdown", "##vso[task.complete]"),
        ("markdown", "[x](javascript:alert(1))"),
        ("json", "{"),
        ("junit", "<testsuites>"),
        ("html", "<script>alert(1)</script><img src=x>"),
        ("html", '<p onclick="x()">'),
        ("text", "x" * 2_000_000),
    ],
)
def test_the_judge_sees_what_is_unsafe(name: str, content: str) -> None:
    assert list(hostile.unsafe(name, content, hostile.Report("0", (), "error", False)))
