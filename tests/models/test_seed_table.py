"""The seed table: every system through check, fix, verify and partition, as it states and as docs/zoo.md says."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from npu_guard.cli import main
from npu_guard.zoo import samples
from npu_guard.zoo.row import CLEAN, FAILED, FIXED, PARTITIONED, SEEDS, Row, Settings, make_row
from npu_guard.zoo.system import Expect, Fixed
from npu_guard.zoo.table import HEAD, cells, display, reading_note

ROOT = Path(__file__).parents[2]
PROFILE = "aimotive-aiware"
ENTRIES = {entry.name: entry for entry in samples.entries()}
ERROR = HEAD.index("error")
SLACK_DB = 20.0
"""By how much the ratio may be worse on another machine, whose kernels sum in another order."""

Make = Callable[[str], Row]


def documented(title: str) -> dict[str, list[str]]:
    """Lines of a table in docs/zoo.md by id."""
    page = (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8")
    lines = [line for line in page.split(f"## {title}\n")[1].split("\n## ")[0].splitlines() if line.startswith("| ")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert tuple(table[0]) == HEAD
    return {line[0]: line for line in table[1:]}


@pytest.fixture
def make(exported: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch) -> Make:
    """Row of a system at size tiny, from the export that other tests use too."""

    def copy(name: str, path: Path, size: str, exporter: str) -> None:
        assert size == "tiny"
        shutil.copy(exported(name.replace("-", "_"), exporter), path)

    monkeypatch.setattr(samples, "export_system", copy)
    return lambda name: make_row(ENTRIES[name], Settings("tiny"), lambda _: None)


@pytest.mark.parametrize("name", ENTRIES)
def test_row_is_as_stated_and_as_documented(name: str, make: Make) -> None:
    made = make(name)
    assert made.problem == ""
    there, here = documented("The same networks, test-sized")[made.id], list(cells(made))
    compare_errors(there.pop(ERROR), here.pop(ERROR))
    assert here == there, "docs/zoo.md has drifted; run `make zoo` and look at the diff"


def compare_errors(there: str, here: str) -> None:
    assert bool(there) == bool(here), "a verification on one side alone"
    ratios = [re.search(r"\((\d+) dB\)", text) for text in (there, here)]
    if ratios[0] is not None and ratios[1] is not None:
        assert int(ratios[1][1]) >= int(ratios[0][1]) - SLACK_DB


def test_every_system_has_its_row_and_none_failed() -> None:
    for title in ("Real widths and depths", "The same networks, test-sized"):
        table = documented(title)
        assert list(table) == [entry.id for entry in ENTRIES.values()]
        assert {line[-1] for line in table.values()} <= {CLEAN, FIXED, PARTITIONED}


def test_all_systems_of_the_users_are_there() -> None:
    wanted = {*(f"A{i}" for i in range(1, 13)), *(f"B{i}" for i in range(1, 6)), "C1", *(f"D{i}" for i in range(1, 12))}
    assert {re.sub(r"[a-z]$", "", entry.id) for entry in ENTRIES.values()} == wanted | {"X1"}


def test_every_system_states_what_is_left(systems: dict[str, Any]) -> None:
    missing = [name for name, system in systems.items() if not isinstance(getattr(system, "FIXED", {}).get(PROFILE), Fixed)]
    assert missing == []


@pytest.mark.parametrize(
    ("attribute", "value", "problem"),
    [
        ("EXPECTED", (Expect("NPU201", "error", measured=19, allowed=17),), "not those expected: 2 more .*; 1 missing NPU201"),
        ("FIXED", Fixed((Expect("NPU401", "error", measured=4, allowed=8),), ("eca-to-se",)), "fixed model .* 1 missing NPU401"),
        ("FIXED", Fixed(substitutions=("se-to-eca",)), "expected the substitutions se-to-eca; these applied: eca-to-se"),
        ("FIXED", Fixed(), "expected the substitutions none; these applied: eca-to-se"),
    ],
)
def test_wrong_expectations_are_noticed(
    attribute: str, value: object, problem: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples.system("eca"), attribute, {PROFILE: value})
    made = make("eca")
    assert re.search(problem, made.problem), made.problem
    assert made.outcome == FIXED, "what was done is right all the same"


def test_full_size_may_leave_more(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    system = samples.system("eca")
    monkeypatch.setattr(system, "FIXED_FULL", {PROFILE: Fixed()}, raising=False)
    assert make("eca").problem == ""


class Deadly(str):
    """A name that ends the process which is told it."""

    def __reduce__(self) -> Any:
        return os._exit, (7,)


def test_one_system_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = (samples.Entry(Deadly("dies"), "Z1", ""), samples.Entry("not-there", "Z2", ""), ENTRIES["eca"])
    monkeypatch.setattr(samples, "entries", lambda: chosen)
    monkeypatch.setattr(samples, "system", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        main(["zoo", "--all", "--size", "tiny", "--report", str(tmp_path / "pages"), "--jobs", "1"])
    told = capsys.readouterr()
    assert ended.value.code == 1
    rows = {line.split("|")[1].strip(): line for line in told.out.splitlines() if line.startswith("| ")}
    assert FAILED in rows["Z1"]
    assert FAILED in rows["Z2"]
    assert "| 2 / 1  | eca-to-se" in rows["A8a"]
    first, second = told.err.splitlines()
    assert first == "npu-guard: Z1 dies: the process died (exit 7); memory may have run out"
    assert second.startswith("npu-guard: Z2 not-there: no sample network 'not-there'")
    assert [file.name for file in (tmp_path / "pages").iterdir()] == ["A8a-eca.html"]
    page = (tmp_path / "pages" / "A8a-eca.html").read_text(encoding="utf-8")
    assert "eca.onnx" in page
    assert "eca.fixed.onnx" in page
    assert str(tmp_path) not in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["eca", "--all"], "leave out the name"),
        (["--report", "x"], "--report, --jobs and --profile go with --all"),
        (["--all", "--profile", "nothing"], "no profile 'nothing'"),
        (["--all", "--jobs", "0"], "0 is not in the range"),
    ],
)
def test_usage_errors(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["zoo", *arguments])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_pieces_that_differ_are_a_failure(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from npu_guard.partitioning import files
    from npu_guard.verification.compare import not_run

    monkeypatch.setattr(files, "write_partition", lambda *_, **__: not_run("nothing was run"))
    made = make("deformable-conv")
    assert (made.outcome, made.problem) == (FAILED, "the pieces were not verified (nothing was run)")
    assert cells(made)[2:] == ("",) * (len(HEAD) - 3) + (FAILED,)


def test_share_of_macs_is_all_only_of_all() -> None:
    shares = [cells(Row("Z", "z", npu_macs_percent=p, outcome=FIXED))[-2] for p in (100.0, 99.9999, 12.345, 0.0)]
    assert shares == ["100 %", "99.99 %", "12.35 %", "0.00 %"]


def test_display_names_what_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with display(2, shown=True) as progress:
        progress("se", "Verifying the whole model", 0)
        progress("se", None, 1)
        progress("eca", None, 2)
    with display(2, shown=False) as progress:
        progress("se", "Verifying the whole model", 0)
    assert capsys.readouterr().out == ""


def test_note_names_the_inputs_that_are_drawn() -> None:
    tiny, full = reading_note("tiny"), reading_note("full")
    assert "on 10 drawn inputs (normal, image, edge, negative, large, zero, constant, sparse), for proved" in tiny
    assert "for proved networks 5 drawn inputs (normal, edge, negative, large, zero)." in tiny
    assert "on 3 drawn inputs (normal, image, edge), for proved networks 2 drawn inputs (normal, edge)." in full
    assert set(SEEDS) == {"tiny", "full"}
