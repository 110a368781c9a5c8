"""Findings by line of Python: what is quoted, what is folded, what is left out, and the one-line format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.text import Text

from npu_guard.base.folding import fold_text
from npu_guard.project.source_lines import line_text
from npu_guard.reports import concise, text
from npu_guard.results.findings import (
    INPUT,
    Finding,
    Location,
    ModelReport,
    Outcome,
    Report,
    Severity,
    SourceLine,
    Tensor,
    Totals,
    Verdict,
)

ERROR, WARNING = Severity.ERROR, Severity.WARNING


def finding(
    message: str, scope: str = "", line: int | None = None, severity: Severity = ERROR, macs: int = 0, op: str = "Conv"
) -> Finding:
    source = None if line is None else SourceLine("net/blocks.py", line, "forward", scope)
    place = Location(f"n_{message}_{scope}", op, f"o_{message}_{scope}", tuple(scope.split(".")) if scope else ())
    return Finding("NPU201", "kernel-size", severity, Outcome.FAIL, place, message, source=source, macs=macs)


def shown(*findings: Finding, **options: Any) -> list[str]:
    model = ModelReport("m.onnx", "dev", Verdict.FAIL, findings, totals=Totals(nodes=1, macs=100, params=227))
    return text.render(Report("1", (model,)), **options).splitlines()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one file of Python, and a secret beside it."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "blocks.py").write_text("import torch\n\n    y = self.conv(y)  # ECA\n")
    (tmp_path / ".env").write_text("TOKEN=1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_line_of_python_in_eight_modules_is_said_once(project: Path) -> None:
    many = [finding("too long", f"encoder.stages.{i}.eca", 3) for i in range(8)]
    lines = shown(*many)
    assert lines[2:5] == [
        "net/blocks.py:3  y = self.conv(y)  # ECA",
        "  error     NPU201  too long",
        "                    Conv in encoder.stages.*.eca, 8 times",
    ]
    whole = shown(*many, verbose=True)
    assert [line.strip() for line in whole if "n_too long" in line] == [
        f"Conv n_too long_encoder.stages.{i}.eca in encoder.stages.{i}.eca" for i in range(8)
    ]


def test_modules_of_several_depths_are_counted(project: Path) -> None:
    assert "Conv in a.b and 2 other modules, 3 times" in shown(*(finding("m", s, 3) for s in ("a.b", "c", "d.e.f")))[4]


def test_modules_with_nothing_in_common_are_counted_and_settings_are_no_module(project: Path) -> None:
    assert "Conv in stem and 1 other module, 2 times" in shown(finding("m", "stem", 3), finding("m", "head", 3))[4]
    assert "Conv, Gemm in a.*, 2 times" in shown(finding("m", "a.b", 3), finding("m", "a.c", 3, op="Gemm"))[4]
    assert shown(finding("unused", op=""))[2] == "(settings)"
    assert shown(finding("integers", op=INPUT))[2] == "(graph inputs)"


def test_the_most_important_place_comes_first(project: Path) -> None:
    lines = shown(
        finding("small", "b", macs=1), finding("warned", "a", severity=WARNING, macs=99), finding("large", "c", macs=50)
    )
    assert [line for line in lines[2:] if line and not line.startswith(" ")][:3] == ["c", "b", "a"]


def test_modules_alike_are_one_place_by_default(project: Path) -> None:
    """Two branches that an exporter has inlined, each with the same findings in two modules."""
    many = [finding(m, f"{b}.decoder.{n}") for b in ("then", "else") for n, m in (("rnn", "recurrent"), ("out", "too long"))]
    assert [line for line in shown(*many) if line and line[0] in "*te"] == ["*.decoder.rnn", "*.decoder.out"]
    assert [line for line in shown(*many, verbose=True) if line and line[0] in "*te"] == [
        f"{b}.decoder.{n}" for b in ("then", "else") for n in ("rnn", "out")
    ]
    apart = shown(finding("recurrent", "then.decoder.rnn"), finding("recurrent", "else.encoder.rnn"))
    assert "then.decoder.rnn" in apart
    assert "else.encoder.rnn" in apart


def test_what_cannot_be_told_for_one_reason_is_told_at_one_place(project: Path) -> None:
    def open_one(tensor: str, scope: str) -> Finding:
        return replace(finding(f"the shape of '{tensor}' is open", scope), outcome=Outcome.UNDECIDED)

    lines = shown(finding("too long", "a"), *(open_one(f"t{n}", scope) for n, scope in enumerate(("a", "b", "c.d"))))
    assert [line for line in lines if "cannot tell" in line] == [
        "  undecided NPU201  cannot tell: the shape of 't0' is open, and so for 2 others like it"
    ]
    assert f"{'':<20}Conv in a and 2 other modules, 3 times" in lines
    assert "b" not in lines
    everything = shown(finding("too long", "a"), open_one("t0", "a"), open_one("t1", "b"), verbose=True)
    assert sum("cannot tell" in line for line in everything) == 2


def test_a_line_of_python_stays_one_line_of_the_terminal(project: Path) -> None:
    (project / "net" / "blocks.py").write_text("y = self.conv(" + "y, " * 40 + ")\n")
    deep = project / ("a" * 60) / "blocks.py"
    deep.parent.mkdir()
    deep.write_text("y = self.conv(y)\n")
    one = finding("too long", "a", 1)
    assert one.source is not None
    title = shown(one)[2]
    assert len(title) == 80
    assert title.startswith("net/blocks.py:1  y = self.conv(y, y, ")
    assert title.endswith("…")
    far = replace(one, source=replace(one.source, file=f"{'a' * 60}/blocks.py"))
    assert shown(far)[2] == f"{'a' * 60}/blocks.py:1", "seven letters of the line would tell nothing"


def test_a_blank_line_parts_models_and_one_stands_above_the_verdict() -> None:
    fits = ModelReport("m.onnx", "dev", Verdict.PASS)
    for statistics in (False, True):
        said = text.render(Report("1", (fits, fits)), statistics=statistics)
        assert "\n\n\n" not in said
        _, one, other = said.split("m.onnx  dev")
        assert one.endswith("\n\n")
        assert "\n\nPASS" in one
        assert "\n\nPASS" in other


def test_findings_without_a_line_stand_at_their_module(project: Path) -> None:
    lines = shown(finding("m", "head.act"))
    assert lines[2:5] == ["head.act", "  error     NPU201  m", "                    Conv n_m_head.act"]
    assert shown(finding("m"))[2] == "(no module)"


def test_counts_and_units_are_words(project: Path) -> None:
    assert "  opset 0, 1 node, 100 MAC, 227 parameters, peak activations 0 B" in shown(finding("m"))[0]


def test_one_screen_unless_all_is_asked_for(project: Path) -> None:
    """Each place takes four lines; what is left out is counted by what it is, so that no error hides behind the warnings."""
    many = [finding(f"m{i}", f"s{i}") for i in range(9)]
    assert not [line for line in shown(*many) if line.startswith("...")], "a sentence would be as long as the ninth"
    quiet = replace(finding("m9", "s9"), severity=Severity.WARNING)
    short = shown(*many, quiet)
    assert "... and 2 places more, with 1 error, 1 warning" in short
    assert short.count("  --verbose shows all.") == 1
    assert "  render(verbose=True) shows all." in shown(*many, quiet, more="render(verbose=True)")
    assert not [line for line in shown(*many) if "shows all" in line]
    assert not [line for line in shown(*many, quiet, verbose=True) if line.startswith("...")]


@pytest.mark.parametrize("sizes", [(1,) * 60, (20, 1, 1, 1), (3,) * 20, (40,), (5, 30), (2, 2, 1, 9, 1, 1, 1, 1, 7)])
def test_whatever_is_found_it_fills_one_screen(project: Path, sizes: tuple[int, ...]) -> None:
    """And at more than one place, where there is more than one."""
    many = [replace(finding(f"m{i} of {at}", f"s{at}"), rule=f"NPU{200 + i}") for at, n in enumerate(sizes) for i in range(n)]
    lines = shown(*many)
    assert len(lines) <= 56
    assert sum(line.startswith("s") for line in lines) >= min(len(sizes), 3)
    whole = shown(*many, verbose=True)
    assert all(sum(line.endswith(f"  m{i} of {at}") for line in whole) == 1 for at, n in enumerate(sizes) for i in range(n))


def test_a_place_with_many_sentences_leaves_room_for_others(project: Path) -> None:
    many = [finding(f"{i} taps are too many", "enc") for i in range(20)]
    lines = shown(*many, finding("m", "dec"), finding("n", "dec"))
    assert "dec" in lines
    hidden = 20 - sum("taps are too many" in line and "NPU201" in line for line in lines)
    assert hidden > 0
    assert f"  ... and {hidden} findings more here" in lines
    assert sum("shows all" in line for line in lines) == 1
    assert sum("taps are too many" in line and "NPU201" in line for line in shown(*many, verbose=True)) == 20


def test_what_a_line_does_to_other_sizes_is_one_sentence(project: Path) -> None:
    """Attention over channels in stages of three widths is one line of code, and one thing to change."""
    many = [finding(f"[1, {c}] -> [1, 1, {c}]: moves", f"stages.{i}", 3) for i, c in enumerate((48, 96, 96, 192))]
    assert "  error     NPU201  [1, 48] -> [1, 1, 48]: moves, and 2 more with other sizes" in shown(*many)
    assert "                    Conv in stages.*, 4 times" in shown(*many)
    apart = shown(many[0], finding("[1, 96] -> [1, 1, 96]: merges", "stages.1", 3), finding("[1, 8] -> [1, 1, 8]: moves", "c", 4))
    assert sum("NPU201  [1" in line for line in apart) == 3
    assert not any("more with" in line for line in apart)


def test_a_shape_is_told_once(project: Path) -> None:
    made = Tensor("y", (8, 1), "float32")
    bare, told = (
        replace(finding(m, scope), tensor=made) for m, scope in (("kernel 19x1", "a"), ("[1, 8] -> [8, 1]: moves", "b"))
    )
    assert [line.strip() for line in shown(bare, told) if line.endswith("[8, 1]")] == ["Conv n_kernel 19x1_a [8, 1]"]


def test_what_cannot_be_told_for_one_reason_is_said_once(project: Path) -> None:
    doubts = [
        replace(finding(f"cannot tell: the shape of {op} ('{op}_{i}') is not known", "enc"), outcome=Outcome.UNDECIDED)
        for op in ("If", "Loop")
        for i in range(3)
    ]
    failed = [finding(f"reads 'x{i}'", "enc") for i in range(2)]
    told = [line for line in shown(*doubts, *failed) if "  NPU201  " in line or "undecided NPU201" in line]
    assert told == [
        "  error     NPU201  reads 'x0'",  # what is known keeps its own words
        "  error     NPU201  reads 'x1'",
        "  undecided NPU201  cannot tell: the shape of If ('If_0') is not known, and so for 2 others like it",
        "  undecided NPU201  cannot tell: the shape of Loop ('Loop_0') is not known, and so for 2 others like it",
    ]


def test_numbers_of_a_model_with_open_sizes_are_the_least(project: Path) -> None:
    def head(**totals: int) -> str:
        model = ModelReport("m.onnx", "dev", Verdict.FAIL, (finding("m"),), totals=Totals(nodes=2, peak_bytes=64, **totals))
        return text.render(Report("1", (model,))).splitlines()[0]

    assert "at least 5 kMAC, 0 parameters, peak activations at least 64 B" in head(macs=5000, uncounted=1)
    assert "MACs not known" in head(uncounted=1)
    assert "2 nodes, 5 kMAC, 0 parameters, peak activations 64 B" in head(macs=5000)


def test_statistics_count_rules_and_operators(project: Path) -> None:
    lines = shown(finding("a", "x"), finding("b", "y"), finding("c", "z", op="MaxPool"), statistics=True)
    assert lines[2] == "      3  error     NPU201  kernel-size  (Conv 2, MaxPool 1)"
    assert not [line for line in lines if "n_a" in line]


def test_no_line_is_wider_than_the_terminal_where_words_allow(project: Path) -> None:
    words = "word " * 60
    assert max(map(len, text._wrapped(f"NPU201  name: {words}"))) <= 80
    assert " ".join(text._wrapped(words)).split() == words.split()


def test_lines_keep_to_a_terminal_of_80_columns_and_stay_whole_elsewhere(project: Path) -> None:
    long = finding("a message of many words " * 6, "encoder.stages.0.blocks.3.attention.qkv", op="ConvTranspose")
    for colour in (False, True):
        lines = fold_text("\n".join(shown(long, color=colour)), 80).splitlines()
        plain = [Text.from_ansi(line).plain for line in lines]
        assert max(len(line) for line in plain if "npu-guard" not in line) <= 80
        assert " ".join(" ".join(plain).split()) == " ".join(Text.from_ansi(" ".join(shown(long, color=colour))).plain.split())
        assert all(line.count("\x1b[0m") == line.count("\x1b[") / 2 for line in lines)
    assert max(map(len, shown(long))) > 120


@pytest.mark.parametrize(
    "file",
    [
        ".env",
        "../outside.py",
        "net/link.py",
        "net/missing.py",
        "net",
        "net/large.py",
        "net/pipe.py",
        "a\x00b.py",
        "/etc/passwd",
        "",
    ],
)
def test_only_python_of_the_project_is_quoted(project: Path, file: str) -> None:
    """What a model records of its origin is data: a stranger's model must not print a secret into a log."""
    (project.parent / "outside.py").write_text("SECRET = 1\n")
    (project / "net" / "link.py").symlink_to(project / ".env")
    (project / "net" / "large.py").write_bytes(b"x = 1\n" * 400_000)
    os.mkfifo(project / "net" / "pipe.py")
    assert line_text(SourceLine(file, 1, "f", "")) is None


LINES = [(1, "import torch"), (2, None), (3, "y = self.conv(y)  # ECA"), (4, None), (0, None), (-1, None)]


@pytest.mark.parametrize(("line", "quoted"), LINES)
def test_lines_of_a_file(project: Path, line: int, quoted: str | None) -> None:
    assert line_text(SourceLine("net/blocks.py", line, "f", "")) == quoted


def test_concise_is_a_line_that_editors_take(project: Path) -> None:
    model = ModelReport(
        "m.onnx", "dev", Verdict.FAIL,
        (finding("late", "b", 9), finding("model\nforged", "c"), finding("early", "a", 3), finding("early", "a.a", 3)),
    )  # fmt: skip
    unreadable = ModelReport("n.onnx", "dev", Verdict.UNREADABLE, error=("missing", "n.onnx: no such file"))
    assert concise.render(Report("1", (model, unreadable))).splitlines() == [
        "net/blocks.py:3: error NPU201 early (Conv n_early_a in a and 1 more)",
        "net/blocks.py:9: error NPU201 late (Conv n_late_b in b)",
        "m.onnx: error NPU201 model\\x0aforged (Conv n_model\\x0aforged_c in c)",
        "m.onnx: fail: 4 errors",
        "n.onnx: unreadable: n.onnx: no such file",
    ]


def test_concise_has_paths_that_open_from_the_current_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "sub").mkdir()
    monkeypatch.chdir(project / "sub")
    model = ModelReport("../m.onnx", "dev", Verdict.FAIL, (finding("late", "b", 9), finding("no line", "c")))
    assert concise.render(Report("1", (model,))).splitlines() == [
        "../net/blocks.py:9: error NPU201 late (Conv n_late_b in b)",
        "../m.onnx: error NPU201 no line (Conv n_no line_c in c)",
        "../m.onnx: fail: 2 errors",
    ]
    assert "../net/blocks.py:9  " in text.render(Report("1", (model,)))
    other = str(project.parent / "other.onnx")
    elsewhere = replace(finding("late", "b", 9), source=SourceLine("proj/mk.py", 22, "f", ""))
    model = replace(model, path=other, findings=(finding("known", "a", 3), elsewhere))
    assert concise.render(Report("1", (model,))).splitlines() == [
        "../net/blocks.py:3: error NPU201 known (Conv n_known_a in a)",  # exported from this project to another place
        f"{other}: error NPU201 late (Conv n_late_b in b, proj/mk.py:22)",
        f"{other}: fail: 2 errors",
    ]


def test_what_is_suppressed_is_listed_with_its_reason_where_all_is_asked_for(project: Path) -> None:
    accepted = [replace(finding("too long", f"context.{i}", 3), suppressed="until the retraining") for i in range(2)]
    lines = shown(*accepted, verbose=True)
    at = lines.index("Suppressed: until the retraining")
    assert lines[at + 1] == "  error     NPU201  too long"
    assert lines[at + 2].endswith(", 2 times")
    assert not any("Suppressed" in line for line in shown(*accepted))
