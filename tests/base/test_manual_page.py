"""Tables and code on a terminal: nothing is cut."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from npu_guard.base.folding import columns_text, fit_columns
from npu_guard.base.manual_page import show
from npu_guard.checking import manual, registry

TABLE = [["device", "verdict", "by"], ["vendor:CHIP1000 +1", "fail, 3 errors, 96.5 % of the MACs", "NPU101, NPU201"]]


@pytest.mark.parametrize("room", [30, 44, 60, 80])
def test_columns_fill_the_room_and_keep_every_word(room: int) -> None:
    lines = columns_text(TABLE, room)
    assert max(map(len, lines)) <= room
    letters = ["".join("".join(line.split()) for line in part) for part in (lines, [" ".join(row) for row in TABLE])]
    assert sorted(letters[0]) == sorted(letters[1])
    assert not any(line.split() and line.split()[0] == "%" for line in lines)


def test_no_column_is_narrower_than_its_longest_word_where_all_of_these_fit() -> None:
    widths = fit_columns(TABLE, 42)
    assert sum(widths) <= 42
    assert [low <= width for low, width in zip((15, 7, 7), widths, strict=True)] == [True] * 3
    assert fit_columns(TABLE, 100) == [18, 34, 14]


@pytest.mark.parametrize("name", registry.profile_files())
def test_profiles_show_every_name(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    profile = registry.device_file(name)
    show(manual.profile_page(profile))
    shown = capsys.readouterr().out
    assert "…" not in shown
    for key in profile.limits:
        assert f"\n{key} " in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_code_stays_as_it_is_written(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    line = "        band = F.conv1d(torch.eye(channels).unsqueeze(1), old.conv.weight, padding=2)  # row i"
    show(f"# Title\n\n{'word ' * 30}\n\n```python\nclass A:\n{line}\n```\n")
    shown = capsys.readouterr().out.splitlines()
    assert f"    {line}" in shown
    assert all(len(other) <= 60 for other in shown if "band" not in other)


PAGE = "# A\n\nSee **this** at [the site](https://example.org/x).\n"


def on_terminal(page: str, **environment: str) -> str:
    """What a terminal of 80 columns is sent."""
    code = f"from npu_guard.base.terminal import show_markdown\nshow_markdown({page!r})"
    ours, theirs = pty.openpty()
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE")}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=theirs, env={**kept, "TERM": "xterm", "COLUMNS": "80", **environment}
    ):
        os.close(theirs)
        sent = b""
        try:
            while chunk := os.read(ours, 4096):
                sent += chunk
        except OSError:  # how Linux says that the other end is closed
            pass
    os.close(ours)
    return sent.decode()


def test_without_colour_a_page_has_no_escapes_and_names_addresses() -> None:
    assert "\x1b[" in on_terminal(PAGE)
    for variable, value in (("NO_COLOR", "1"), ("CLICOLOR", "0"), ("TERM", "dumb")):
        shown = on_terminal(PAGE, **{variable: value})
        assert "\x1b" not in shown, variable
        assert "the site (https://example.org/x)" in shown
