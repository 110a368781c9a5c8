"""When text has colour, and how wide what is said on standard error is."""

from __future__ import annotations

import io

import pytest

from npu_guard.base.terminal import complain, wants_colour


@pytest.mark.parametrize(
    ("environment", "on_terminal", "elsewhere"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"CLICOLOR_FORCE": "1", "TERM": "dumb"}, True, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, False),
        ({"CLICOLOR": "0"}, False, False),
        ({"CLICOLOR": "1"}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": "xterm-256color"}, True, False),
    ],
)
def test_colour_follows_the_environment(environment: dict[str, str], on_terminal: bool, elsewhere: bool) -> None:
    assert wants_colour(True, environment) == on_terminal
    assert wants_colour(False, environment) == elsewhere


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_complaints_are_folded_where_a_terminal_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/models/" + "deep/" * 30 + "net.onnx"
    message = f"{path}: no such file; " + "did you mean one of those that are there? " * 4
    monkeypatch.setenv("COLUMNS", "60")
    for stream, folded in ((_Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr("sys.stderr", stream)
        complain(message)
        lines = stream.getvalue().splitlines()
        assert " ".join(line.strip() for line in lines) == f"npu-guard: {message}".strip()
        assert (len(lines) > 1) == folded
        assert not folded or all(len(line) <= 60 or line.strip() == f"{path}:" for line in lines)  # a path stays whole
