"""Suppressions end on their day, those that accept nothing are named, and `--remove-unused` edits nothing else."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx.parser
import pytest

from npu_guard.base import clock
from npu_guard.base.errors import UsageError
from npu_guard.project.config import Suppression
from npu_guard.project.edit_settings import remove_suppressions
from npu_guard.results.findings import Location

Program = Callable[..., Any]
NET = """<ir_version: 8, opset_import: ["" : 17]>
net (float[1,8,4,4] x) => (float[1,4,8,4] y) { [turn] y = Transpose<perm = [0, 2, 1, 3]>(x) }"""
TODAY = datetime.date(2026, 2, 28)
DAY = datetime.timedelta(days=1)


@pytest.fixture(autouse=True)
def _one_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """The day is TODAY, also where midnight passes while the tests run."""
    monkeypatch.setattr(clock, "today", lambda: TODAY)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one model that has one error, NPU102 at `turn`."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "net.onnx").write_bytes(onnx.parser.parse_model(NET).SerializeToString())
    return tmp_path


def suppress(project: Path, *entries: str, settings: str = "") -> None:
    tables = settings + "\n".join(f'[[suppress]]\nreason = "until June"\n{entry}\n' for entry in entries)
    (project / "npu-guard.toml").write_text(tables, encoding="utf-8")


def findings(project: Path, program: Program, *options: str) -> tuple[int, list[dict[str, Any]]]:
    done = program(project, "check", "net.onnx", "--format", "json", *options)
    return done.code, json.loads(done.out)["models"][0]["findings"]


@pytest.mark.parametrize(("last", "code"), [(TODAY + DAY, 0), (TODAY, 0), (TODAY - DAY, 1)])
def test_a_suppression_counts_through_its_last_day(project: Path, program: Program, last: datetime.date, code: int) -> None:
    suppress(project, f'rule = "NPU102"\nexpires = "{last}"')
    ended, (finding,) = findings(project, program)
    assert ended == code
    assert finding["suppressed"] is (code == 0)
    said = f"(the suppression expired on {last}: until June)"
    assert (said in finding["message"]) is (code == 1)


def test_a_date_of_toml_is_a_date_too(project: Path, program: Program) -> None:
    suppress(project, f'rule = "NPU102"\nexpires = {TODAY - DAY}')
    code, (finding,) = findings(project, program)
    assert (code, f"(the suppression expired on {TODAY - DAY}: until June)" in finding["message"]) == (1, True)
    (project / "npu-guard.toml").write_text("profile = 2026-01-01T10:00:00Z\n")
    done = program(project, "check", "net.onnx")
    assert (done.code, "no profile '2026-01-01T10:00:00+00:00'" in done.err) == (2, True)


def test_one_that_still_counts_comes_before_one_that_has_expired(project: Path, program: Program) -> None:
    suppress(project, f'rule = "NPU102"\nexpires = "{TODAY - DAY}"', 'rule = "NPU1"\nnode = "turn"')
    code, (finding,) = findings(project, program)
    assert (code, finding["suppressed"]) == (0, True)


def test_a_cached_result_ends_with_the_day(project: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    suppress(project, f'rule = "NPU102"\nexpires = "{TODAY}"')
    assert findings(project, program, "--cache", "kept")[0] == 0
    monkeypatch.setattr(clock, "today", lambda: TODAY + DAY)
    assert findings(project, program, "--cache", "kept")[0] == 1


def test_a_date_is_written_as_one(project: Path, program: Program) -> None:
    suppress(project, 'rule = "NPU102"\nexpires = "June"')
    done = program(project, "check", "net.onnx")
    assert done.code == 2
    assert "npu-guard.toml: the suppression of NPU102 expires 'June'; write the date as YYYY-MM-DD" in done.err


def test_one_that_accepts_nothing_is_a_note_without_a_node(project: Path, program: Program) -> None:
    suppress(project, 'rule = "NPU102"', 'rule = "spatial-reshape"\nnode = "turned"', 'rule = "NPU302"')
    code, found = findings(project, program)
    assert code == 0
    unused = [f for f in found if f["rule"] == "NPU901"]
    assert [(f["severity"], f["node"], f["suppressed"]) for f in unused] == [("note", "", False)] * 2
    assert [f["message"] for f in unused] == [
        "the suppression of spatial-reshape at 'turned' accepts no finding (reason: until June)",
        "the suppression of NPU302 accepts no finding (reason: until June)",
    ]
    assert "NPU901" in program(project, "check", "net.onnx").out
    lines = program(project, "check", "net.onnx").out.splitlines()
    assert not any(line != "" and not line.strip() for line in lines)
    suppress(project, 'rule = "NPU302"', settings='severity = { NPU901 = "warning" }\n')
    assert " (reason: until June)\n" in program(project, "check", "net.onnx", "--format", "concise").out
    assert (
        "(reason: until June) (in net.onnx); see npu-guard rules NPU901\n"
        in program(project, "check", "net.onnx", "--format", "github").out
    )
    runs = json.loads(program(project, "check", "net.onnx", "--format", "sarif").out)["runs"]
    (told,) = [result for result in runs[0]["results"] if result["ruleId"] == "NPU901"]
    assert "logicalLocations" not in told["locations"][0]
    assert "(in net.onnx)" in told["message"]["text"]
    assert program(project, "check", "net.onnx", "--ignore", "NPU901").out.count("NPU901") == 0


def test_what_did_not_run_tells_nothing(project: Path, program: Program) -> None:
    suppress(project, 'rule = "NPU102"\nnode = "turned"')
    assert "NPU901" not in program(project, "check", "net.onnx", "--ignore", "NPU102").out
    (project / "broken.onnx").write_bytes(b"no model")
    assert "NPU901" not in program(project, "check", "net.onnx", "broken.onnx").out


def test_used_by_one_model_of_several(project: Path, program: Program) -> None:
    (project / "other.onnx").write_bytes(onnx.parser.parse_model(NET.replace("turn", "other")).SerializeToString())
    suppress(project, 'rule = "NPU102"\nnode = "other"')
    assert "NPU901" not in program(project, "check", "net.onnx", "other.onnx").out
    assert "NPU901" in program(project, "check", "net.onnx").out


PYPROJECT = """# before
[project]
name = "net"  # kept

[tool.npu-guard]
profile = "aimotive-aiware"

# about the one that is used
[[tool.npu-guard.suppress]]
rule = "NPU102"
node = "turn"
reason = "known"

# about the one
# that is not
[[tool.npu-guard.suppress]]  # unused
rule = "NPU201"
reason = '''
[looks like a table]
'''

# about ruff
[tool.ruff]
line-length = 100
"""


def test_removing_leaves_every_other_line(project: Path, program: Program) -> None:
    file = project / "pyproject.toml"
    file.write_text(PYPROJECT, encoding="utf-8")
    plain = PYPROJECT.replace("'''\n[looks like a table]\n'''", '"old"')
    file.write_text(plain, encoding="utf-8")
    done = program(project, "check", "net.onnx", "--remove-unused")
    assert "pyproject.toml: 1 suppression removed" in done.err
    start, end = plain.index("# about the one\n# that"), plain.index("# about ruff")
    assert file.read_text(encoding="utf-8") == plain[:start] + plain[end:]
    assert "0 suppressions removed" in program(project, "check", "net.onnx", "--remove-unused").err


@pytest.mark.parametrize(
    "text",
    [
        PYPROJECT,  # what looks like a table is text
        'suppress = [{rule = "NPU102", reason = "a"}, {rule = "NPU201", reason = "b"}]\n',
    ],
)
def test_what_cannot_be_edited_safely_stays(project: Path, text: str) -> None:
    file = project / ("pyproject.toml" if "tool" in text else "npu-guard.toml")
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="remove the unused ones by hand"):
        remove_suppressions(file, [1])
    assert file.read_text(encoding="utf-8") == text


def test_nothing_is_removed_where_nobody_can_tell(project: Path, program: Program) -> None:
    suppress(project, 'rule = "NPU201"')
    before = (project / "npu-guard.toml").read_bytes()
    (project / "broken.onnx").write_bytes(b"no model")
    done = program(project, "check", "net.onnx", "broken.onnx", "--remove-unused")
    assert "nothing was removed" in done.err
    assert (project / "npu-guard.toml").read_bytes() == before
    (project / "npu-guard.toml").unlink()
    assert program(project, "check", "net.onnx", "--remove-unused").code == 2


def test_a_pattern_of_a_module_has_the_module_itself() -> None:
    """A plain layer is a module without others: `context.*` is what mypy and others take for both."""
    entry = Suppression("NPU201", "known", "net.context.*")
    for scope, covered in (("net.context", True), ("net.context.conv", True), ("net.contextual", False), ("net", False)):
        assert entry.covers("NPU201", "kernel-size", Location("n", "Conv", "y", tuple(scope.split(".")))) is covered


def test_one_that_accepts_nothing_says_what_was_meant_and_that_it_has_expired(project: Path, program: Program) -> None:
    suppress(project, f'rule = "NPU102"\nnode = "trun"\nexpires = "{TODAY - DAY}"')
    code, found = findings(project, program)
    assert code == 1
    (unused,) = [f["message"] for f in found if f["rule"] == "NPU901"]
    expired = f"(reason: until June, expired on {TODAY - DAY})"
    assert unused == f"the suppression of NPU102 at 'trun' accepts no finding {expired}; did you mean 'turn'?"
