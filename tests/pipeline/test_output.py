"""Text that leaves the tool: names are data in every format, files are written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from npu_guard.base.errors import UsageError
from npu_guard.base.files import write_atomic
from npu_guard.base.text import printable
from npu_guard.checking import registry
from npu_guard.pipeline.check import check_models
from npu_guard.project.config import Config
from npu_guard.results.findings import (
    Evidence,
    Finding,
    Location,
    ModelReport,
    Outcome,
    Remedy,
    Report,
    RuleCrash,
    Severity,
    SourceLine,
    Tensor,
    Totals,
    Verdict,
)

HOSTILE = [
    "\x1b[2J", "a\nPASS  model", "\r\x08", "\u202edlrow", "\u2066x\u2069", "\u200bhidden", "\ud800", "\udcff", "\x9b31m", "\x00",
    "\ufeff", "\u061c", "\u2028", "\x7f",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_printable_escapes(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown.encode("utf-8").decode() == shown


@pytest.mark.parametrize(
    "text", ["/layer1/Conv_1", "größe", "卷积", "a b  c", "x[0]", "#1", "a::b", "com.microsoft::Gelu", "<lambda>", "a < b"]
)
def test_printable_leaves_names_alone(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    "text", ["::error file=a::b", "  ::set-env", "\u3000::x", "##vso[task.x]", "a ##[error]", "##teamcity[x", "a #vso[b"]
)
def test_printable_forges_no_command_of_a_ci_server(text: str) -> None:
    shown = printable(text)
    assert not shown.lstrip().startswith("::")
    assert "##vso[" not in shown
    assert "##[" not in shown
    assert "##teamcity[" not in shown


@pytest.mark.parametrize("text", ["<script>alert(1)", "</script>", "<img src=x>", "<!--", "<?php"])
def test_printable_makes_no_markup(text: str) -> None:
    assert "<" not in printable(text)


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_printable_is_printable_and_bounded(text: str) -> None:
    shown = printable(text, 50)
    assert "\n" not in shown
    assert len(shown) <= 51
    assert all(ch.isprintable() or ch.isspace() or ord(ch) > 0xFF for ch in shown)


def test_printable_of_a_megabyte() -> None:
    assert len(printable("x" * 1_000_000)) == 401


# --- files -----------------------------------------------------------------------------------------------------------


def test_write_and_replace(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_atomic(path, [b"one", b"two"])
    assert path.read_bytes() == b"onetwo"
    path.chmod(0o640)
    write_atomic(path, [b"three"])
    assert path.read_bytes() == b"three"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_new_files_have_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "out", [b""])
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")

    def content() -> Iterator[bytes]:
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(UsageError, match="No space left"):
        write_atomic(path, content())
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["absent/out", "file/out", "folder", "x" * 300])
def test_places_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        write_atomic(tmp_path / name, [b"x"])


def test_links_and_pipes_stay_what_they_are(tmp_path: Path) -> None:
    """`--output /dev/stdout` must not replace the device by a file, which root could do."""
    target, link, pipe = tmp_path / "target", tmp_path / "link", tmp_path / "pipe"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomic(link, [b"new"])
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_atomic(pipe, [b"through ", b"the pipe"])
    reader.join(10)
    assert got == [b"through the pipe"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_devices_stay_devices() -> None:
    write_atomic(Path("/dev/null"), [b"x"])
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


# --- reports ---------------------------------------------------------------------------------------------------------


def report(text: str) -> Report:
    """A report in which every name is `text`. Only the names of files bring lone surrogates along."""
    path, text = text, text.encode("utf-8", "backslashreplace").decode()
    finding = Finding(
        "NPU901", "relu", Severity.ERROR, Outcome.FAIL, Location(text, text, text, (text, text), (text,)), text,
        Tensor(text, (1, text, None), text), Evidence("conv.kernel_max", text, (1, 2)), SourceLine(text, 3, text, text),
        Remedy(None, None, "advice"), "0" * 16,
    )  # fmt: skip
    models = (
        ModelReport(path, "p", Verdict.FAIL, (finding, finding), (RuleCrash("NPU902", text, text),), totals=Totals(macs=2**80),
                    notes=(text,), unknown={text: text}),
        ModelReport(path, "p", Verdict.UNREADABLE, error=("invalid", path)),
    )  # fmt: skip
    return Report("1", models)


@pytest.mark.parametrize("text", [*HOSTILE, "<script>", "##vso[x]", "::error::x"])
def test_text_report_of_hostile_names(text: str) -> None:
    plain = registry.renderer("text")(report(text), color=False)
    assert "\x1b" not in plain
    assert text not in plain or text.startswith("::")
    assert all(line.isprintable() for line in plain.splitlines())
    assert not any(line.lstrip().startswith("::") for line in plain.splitlines())
    plain.encode("utf-8")
    normal = registry.renderer("text")(report("name"), color=False)
    assert len(plain.splitlines()) == len(normal.splitlines()), "no name adds a line"


def test_colour_only_where_it_is_asked_for() -> None:
    coloured = registry.renderer("text")(report("name"), color=True)
    assert "\x1b[1;31mFAIL\x1b[0m" in coloured
    without = registry.renderer("text")(report("name"), color=False)
    assert "\x1b" not in without
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == without


def test_text_report_of_many_findings_is_quick_and_short() -> None:
    one = report("name").models[0].findings[0]
    many = tuple(
        replace(one, location=Location(f"n{i}", "Relu", f"n{i}", (f"m{i}",)), message=f"m{i}", source=None) for i in range(20_000)
    )
    report_of_many = Report("1", (ModelReport("m", "p", Verdict.FAIL, many),))
    before = time.process_time()
    text = registry.renderer("text")(report_of_many, color=False)
    whole = registry.renderer("text")(report_of_many, color=False, verbose=True)
    assert time.process_time() - before < 3
    assert "  error     NPU901  m7\n" in text
    assert "m8" not in text
    assert len(text.splitlines()) < 60
    assert "\n... and 19,992 places more, with 19,992 errors\n" in text
    assert text.count("--verbose shows all") == 1
    assert "  error     NPU901  m999\n" in whole
    assert "m1000" not in whole
    assert "\n... and 19,000 places more, with 19,000 errors; --format json has them\n" in whole


@pytest.mark.parametrize("text", [*HOSTILE, "name"])
def test_json_is_valid_whatever_the_names(text: str) -> None:
    from npu_guard.reports.json import schema

    document = json.loads(registry.renderer("json")(report(text), color=False))
    jsonschema.validate(document, json.loads(schema()))
    assert document["schema_version"] == 1
    assert document["models"][0]["summary"]["macs"] == 2**80
    assert document["models"][0]["findings"][0]["node"] == text.encode("utf-8", "backslashreplace").decode()


def test_every_format_takes_every_name() -> None:
    for form in registry.members("reports"):
        for text in (*HOSTILE, "]]>", "<script>", "| a |", "`", "%0A", '"', "'", "\\", "&amp;", ""):
            registry.renderer(form)(report(text), color=False).encode("utf-8")


def test_names_that_are_not_utf8(save: Callable[..., Path]) -> None:
    path = save("g (float[1,4] x) => (float[1,4] abc) { abc = NonZero(x) }")
    path.write_bytes(path.read_bytes().replace(b"abc", b"a\xffc"))
    result = check_models([str(path)], Config())
    for form in registry.members("reports"):
        registry.renderer(form)(result, color=False).encode("utf-8")
