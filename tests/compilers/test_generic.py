"""A compiler by its command line: what it says, and what becomes of one that crashes, hangs or shouts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from npu_guard.base.errors import UsageError
from npu_guard.compilers.adapter import ask, choose
from npu_guard.compilers.answers import NodeAnswer
from npu_guard.compilers.log import answer_of_log
from npu_guard.compilers.process import Ended
from npu_guard.compilers.settings import CompilerSettings, LogPattern, arguments, validate_settings

Fake = Callable[..., CompilerSettings]
Gone = Callable[[int], bool]


def test_accepts(fake: Fake, model: Path) -> None:
    answer = ask("fake", fake("accept"), str(model), "chip")
    assert (answer.status, answer.nodes, answer.complete) == ("accepted", (), True)


def test_refuses_with_the_nodes_of_its_log(fake: Fake, model: Path) -> None:
    answer = ask("fake", fake("refuse"), str(model), "chip")
    assert (answer.status, answer.complete) == ("refused", False)
    assert answer.nodes == (
        NodeAnswer("wide", "Conv", "refused", "kernel 19 is too large"),
        NodeAnswer("act", "Relu", "note", "merged"),
    )


def test_fallback_to_the_cpu_is_a_refusal_of_that_node(fake: Fake, model: Path) -> None:
    answer = ask("fake", fake("fallback"), str(model), "chip")
    assert (answer.status, answer.complete) == ("refused", True)
    assert answer.nodes == (NodeAnswer("act", "Relu", "host", "no such unit"),)


@pytest.mark.parametrize(
    ("mode", "says"),
    [("unexplained", "nothing in its log matches"), ("crash", "died of signal 11: about to die"), ("code", "exit code 77")],
)
def test_no_opinion(fake: Fake, model: Path, mode: str, says: str) -> None:
    answer = ask("fake", fake(mode), str(model), "chip")
    assert answer.status == "failed"
    assert says in answer.message


def test_exit_code_alone_where_no_pattern_is_given(fake: Fake, model: Path) -> None:
    assert ask("fake", fake("unexplained", findings=()), str(model), "chip").status == "refused"


def test_hang_ends_with_its_children(fake: Fake, model: Path, tmp_path: Path, gone: Gone) -> None:
    pid = tmp_path / "pid"
    for seconds in (1.5, 10.0, 100.0):  # on a busy machine it is a while until there is a child
        answer = ask("fake", fake("hang", str(pid), seconds=seconds), str(model), "chip")
        assert (answer.status, answer.message) == ("failed", f"did not end within {seconds:g} s")
        if pid.exists() and pid.read_text().endswith("\n"):
            break
    assert gone(int(pid.read_text()))


def test_what_it_leaves_behind_is_ended_and_not_waited_for(fake: Fake, model: Path, tmp_path: Path, gone: Gone) -> None:
    pid = tmp_path / "pid"
    start = time.monotonic()
    assert ask("fake", fake("daemon", str(pid)), str(model), "chip").status == "accepted"
    assert time.monotonic() - start < 120  # its child has the log open for 600 s
    assert gone(int(pid.read_text()))


def test_memory_limit(fake: Fake, model: Path) -> None:
    answer = ask("fake", fake("memory", memory_gb=0.5), str(model), "chip")
    assert answer.status == "failed"
    assert "MemoryError" in answer.message
    assert ask("fake", fake("memory", memory_gb=4.0), str(model), "chip").status == "accepted"


def test_both_ends_of_a_long_log_are_read(fake: Fake, model: Path) -> None:
    answer = ask("fake", fake("endless"), str(model), "chip")
    assert [n.message for n in answer.nodes] == ["first", "last"]


def test_a_pattern_that_takes_forever_is_no_opinion(monkeypatch: pytest.MonkeyPatch) -> None:
    from npu_guard.base import sandbox

    original = sandbox.run
    monkeypatch.setattr(sandbox, "run", lambda call: original(call, seconds=1))
    settings = CompilerSettings(command=("cc", "{model}"), findings=(LogPattern(r"(a+)+$"),))
    answer = answer_of_log("fake", settings, Ended(0, "a" * 60 + "!"))
    assert (answer.status, "timeout" in answer.message) == ("failed", True)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"command": ("cc", "{modle}")}, "no placeholder {modle}"),
        ({"command": ("cc", "x")}, "no argument of 'command' is {model}"),
        ({"accepts": (0, 1)}, "in 'accepts' and in 'refuses'"),
        ({"findings": (LogPattern("(?P<node>"),)}, "no regular expression"),
        ({"findings": (LogPattern("(?P<nodes>x)"),)}, "a group 'nodes'"),
    ],
)
def test_settings_that_cannot_work(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError) as error:
        validate_settings({"mine": CompilerSettings(**changes)}, "npu-guard.toml")  # type: ignore[arg-type]
    assert str(error.value).startswith("npu-guard.toml, compiler 'mine': ")
    assert says in str(error.value)


def test_which_compiler() -> None:
    mine = {"acme": CompilerSettings(command=("cc", "{model}"), profiles=("acme-*",))}
    mine["own"] = CompilerSettings(command=("{python}", "./hw/cc.py", "{model}"))
    assert choose(None, "acme-1", mine, None)[0] == "acme"
    name, settings = choose(None, "ethos-u85", mine, "/env/bin/python")
    assert (name, settings.python) == ("vela", "/env/bin/python")
    for name, profile, says in (
        ("own", "acme-1", "'own' has {python}: name the interpreter with --compiler-python PATH"),
        (None, "other", "no compiler is known for the profile 'other'"),
        ("acne", "acme-1", "did you mean 'acme'"),
        ("vela", "ethos-u85", "--compiler-python"),
    ):
        with pytest.raises(UsageError, match=says):
            choose(name, profile, mine, None)
    assert arguments(choose("own", "acme-1", mine, "/env/bin/python")[1], {"model": "m", "python": "/env/bin/python"}) == [
        "/env/bin/python", os.path.abspath("hw/cc.py"), "m"
    ]  # fmt: skip


def test_a_program_that_is_not_there(model: Path) -> None:
    with pytest.raises(UsageError, match="'no-such-program' is not there"):
        ask("fake", CompilerSettings(command=("no-such-program", "{model}")), str(model), "chip")


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    from npu_guard.project.config import read_config

    page = (Path(__file__).parents[2] / "docs" / "compilers.md").read_text(encoding="utf-8")
    path = tmp_path / "npu-guard.toml"
    path.write_text(page.partition("```toml\n")[2].partition("```")[0])
    settings = read_config(path, [])
    log = 'ERROR: Conv "stem.0": kernel 19\nWARNING: Relu "act": merged\nfalls back to the CPU: head\n'
    answer = answer_of_log("acme", settings.compilers["acme"], Ended(1, log))
    assert [(n.name, n.op_type, n.word) for n in answer.nodes] == [
        ("stem.0", "Conv", "refused"),
        ("act", "Relu", "note"),
        ("head", "", "host"),
    ]
