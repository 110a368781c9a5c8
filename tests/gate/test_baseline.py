"""Baselines: what counts, what people write into them, and files that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SIX = "samples/six_problems.onnxtxt"
SAMPLE = "samples/sample_net.onnx"
Cli = Callable[..., Any]


@pytest.fixture
def known(root: Path, tmp_path: Path, program: Cli) -> Path:
    """A baseline of one sample model."""
    file = tmp_path / "known.json"
    done = program(root, "check", SIX, "--write-baseline", file)
    assert done.code == 0, done
    return file


def findings(report: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(report)["models"][0]["findings"]
    return found


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(file.read_text(encoding="utf-8"))
    change(data)
    file.write_text(json.dumps(data, indent=2), encoding="utf-8")


def test_what_is_in_it_does_not_count(root: Path, known: Path, program: Cli) -> None:
    done = program(root, "check", SIX, "--baseline", known, "--format", "json")
    assert done.code == 0
    assert {f["suppressed"] for f in findings(done.out)} == {True}
    assert json.loads(done.out)["models"][0]["verdict"] == "pass"
    assert "in the baseline" in program(root, "check", SIX, "--baseline", known, "--format", "sarif").out


def test_the_file_names_no_machine_and_no_time_and_is_sorted(root: Path, known: Path, program: Cli, tmp_path: Path) -> None:
    first = known.read_bytes()
    other = tmp_path / "again.json"
    program(root, "check", SIX, "--write-baseline", other)
    assert other.read_bytes() == first
    data = json.loads(first)
    assert (data["schema_version"], data["profile"]) == (1, "aimotive-aiware")
    assert [e["rule"] for e in data["entries"]] == sorted(e["rule"] for e in data["entries"])
    assert {e["model"] for e in data["entries"]} == {SIX}
    assert str(root) not in first.decode()


def test_a_finding_that_is_not_in_it_counts(root: Path, known: Path, program: Cli) -> None:
    edit(known, lambda data: data["entries"].__delitem__(slice(0, 1)))
    done = program(root, "check", SIX, "--baseline", known, "--format", "json", "--fail-on", "warning")
    assert done.code == 1
    assert [f["rule"] for f in findings(done.out) if not f["suppressed"]] == ["NPU101"]


def test_reason_and_expiry(root: Path, known: Path, program: Cli) -> None:
    def annotate(data: dict[str, Any]) -> None:
        for entry in data["entries"]:
            entry["reason"] = "the vendor's next compiler takes it"
        data["entries"][-1]["expires"] = "2020-02-29"
        data["entries"][-2]["expires"] = "2999-12-31"

    edit(known, annotate)
    done = program(root, "check", SIX, "--baseline", known, "--format", "json")
    assert done.code == 1
    (late,) = [f for f in findings(done.out) if not f["suppressed"]]
    assert "expired on 2020-02-29" in late["message"]
    assert "next compiler" in program(root, "check", SIX, "--baseline", known, "--format", "sarif").out

    done = program(root, "check", SIX, "--write-baseline", known)
    assert done.code == 1, "writing anew keeps the date, and so the finding counts"
    entries = json.loads(known.read_text(encoding="utf-8"))["entries"]
    assert {e["reason"] for e in entries} == {"the vendor's next compiler takes it"}
    assert [e.get("expires") for e in entries[-2:]] == ["2999-12-31", "2020-02-29"]
    assert not any("expired" in e["message"] for e in entries)


def test_fixed_ones_are_named(root: Path, tmp_path: Path, program: Cli) -> None:
    net, known = tmp_path / "net.onnx", tmp_path / "known.json"
    net.write_bytes((root / SIX).read_bytes())
    assert program(root, "check", net, "--write-baseline", known).code == 0
    net.write_bytes((root / SAMPLE).read_bytes())
    done = program(root, "check", net, "--baseline", known, "--fail-on", "never")
    assert "fixed since the baseline: NPU201" in done.err
    assert f"--write-baseline {known}" in done.err
    only = program(root, "check", net, "--baseline", known, "--fail-on", "never", "--select", "NPU201")
    assert "NPU201" in only.err
    assert "NPU103" not in only.err, "of a rule that did not run nobody knows"


def test_nothing_is_said_of_another_model(root: Path, known: Path, program: Cli) -> None:
    done = program(root, "check", SAMPLE, "--baseline", known, "--fail-on", "never")
    assert "fixed since the baseline" not in done.err


def test_several_models_in_one_file(root: Path, tmp_path: Path, program: Cli) -> None:
    file = tmp_path / "all.json"
    assert program(root, "check", SIX, SAMPLE, "--write-baseline", file).code == 0
    assert program(root, "check", SIX, SAMPLE, "--baseline", file).code == 0
    assert program(root, "check", SAMPLE, "--baseline", file).code == 0
    before = file.read_bytes()
    assert program(root, "check", SAMPLE, "--write-baseline", file).code == 0
    assert file.read_bytes() == before, "a run on one model leaves the other's entries alone"
    assert program(root, "check", SIX, "--select", "NPU201", "--write-baseline", file).code == 0
    assert file.read_bytes() == before, "and a run of one rule those of the others"


def test_nothing_is_written_where_a_model_cannot_be_read(root: Path, known: Path, program: Cli, tmp_path: Path) -> None:
    before = known.read_bytes()
    done = program(root, "check", tmp_path / "none.onnx", "--write-baseline", known)
    assert done.code == 2
    assert "no baseline was written" in done.err
    assert known.read_bytes() == before


def nested(depth: int) -> str:
    return '{"schema_version": 1, "entries": ' + "[" * depth + "]" * depth + "}"


BAD = {
    "twice": ('{"schema_version": 1, "fail_on": "error", "fail_on": "never", "entries": []}', "'fail_on' is there twice"),
    "not JSON": ("{", "not valid JSON"),
    "a list": ("[]", "is no baseline"),
    "a report": ('{"schema_version": 1, "models": []}', "is a report of 'check --format json'"),
    "newer": ('{"schema_version": 2, "entries": [], "profile": "x"}', "schema version 2"),
    "older": ('{"schema_version": 0, "entries": [], "profile": "x"}', "schema version 0"),
    "no number": ('{"schema_version": "1", "entries": [], "profile": "x"}', "schema_version is '1'; it must be a whole number"),
    "unknown key": (
        '{"schema_version": 1, "entries": [], "profile": "aimotive-aiware", "entrys": []}',
        "unknown key 'entrys'; did you mean 'entries'?",
    ),
    "another device": ('{"schema_version": 1, "entries": [], "profile": "toaster"}', "was written for profile 'toaster'"),
    "deep": (nested(200_000), "is nested deeper than any baseline"),
    "long number": ('{"schema_version": 1' + "0" * 10_000 + ', "entries": []}', "not valid JSON"),
    "not UTF-8": (b"{\xff\xfe}", "JSON in UTF-8"),
    "binary": (b"\x08\x0a\x12", "not valid JSON"),
    "empty": ("", "not valid JSON"),
}
ENTRY = {"fingerprint": "0", "rule": "NPU201", "severity": "error", "scope": [], "op_type": "Conv", "message": ""}


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_none(name: str, root: Path, tmp_path: Path, program: Cli) -> None:
    content, said = BAD[name]
    file = tmp_path / "bad.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for option in ("--baseline", "--write-baseline"):
        before = file.read_bytes()
        done = program(root, "check", SAMPLE, option, file)
        assert (done.code, done.out) == (2, "")
        assert said in done.err
        assert done.err.count("\n") == 1
        assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"expires": "next week"}, "entry 1 (NPU201) expires 'next week'; write the date as YYYY-MM-DD"),
        ({"expires": "2026-13-40"}, "YYYY-MM-DD"),
        ({"expire": "2026-01-01"}, "unknown key 'expire'"),
        ({"severity": "fatal"}, "fatal"),
        ({"evidence": {"limit": "a"}}, "measured"),
        ({"fingerprint": None}, "fingerprint"),
    ],
)
def test_entries_that_are_none(change: dict[str, object], said: str, root: Path, tmp_path: Path, program: Cli) -> None:
    file = tmp_path / "bad.json"
    data = {"schema_version": 1, "profile": "aimotive-aiware", "entries": [ENTRY | change]}
    file.write_text(json.dumps(data), encoding="utf-8")
    done = program(root, "check", SAMPLE, "--baseline", file)
    assert done.code == 2
    assert said in done.err


def test_paths_that_are_none(root: Path, tmp_path: Path, program: Cli) -> None:
    done = program(root, "check", SAMPLE, "--baseline", tmp_path / "none.json")
    assert (done.code, "no such file; write a new one with" in done.err) == (2, True)
    assert program(root, "check", SAMPLE, "--baseline", tmp_path).code == 2
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate((64 << 20) + 1)
    assert "more than 64 MiB" in program(root, "check", SAMPLE, "--baseline", tmp_path / "large.json").err
    assert program(root, "check", SAMPLE, "--write-baseline", tmp_path / "none" / "b.json").code == 2
