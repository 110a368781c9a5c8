"""What the program says to whoever mistypes, and what a shell completes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete

from npu_guard.checking import registry
from npu_guard.cli import cli

Program = Callable[..., Any]
SUPPRESS = '[[suppress]]\nrule = "NPU201"\nreason = "a"\n'

SETTINGS = {
    'fail-on = "eror"': "fail-on is 'eror'; did you mean 'error'? It must be one of error, warning, never",
    'profil = "x"': "unknown key 'profil'; did you mean 'profile'?",
    'fail-on = ["error"]': "fail-on is a list; it must be words in quotes",
    'allow-undecided = "yes"': "allow-undecided is 'yes'; it must be true or false",
    'max-cost = "2"': "max-cost is '2'; it must be a number",
    'select = "NPU2"': "select is 'NPU2'; it must be a list",
    'select = ["NPU2", 3]': "select, entry 2 is 3; it must be words in quotes",
    '[severity]\nNPU1 = "note"\nNPU2 = "e"': "severity.NPU2 is 'e'; it must be one of error, warning, note",
    "[limits]\nnods = 1": "limits: unknown key 'nods'; did you mean 'nodes'?",
    '[limits]\nnodes = "x"': "limits.nodes is 'x'; it must be a whole number",
    '[partition]\nbyte_cost = "a"': "partition.byte_cost is 'a'; it must be a number",
    "[compiler.own]\ncomand = []": "compiler.own: unknown key 'comand'; did you mean 'command'?",
    "[[suppress]]\nrule = 'NPU201'": "'reason' is missing in suppress, entry 1",
    f"{SUPPRESS}[[suppress]]\nrule = 3\nreason = 'b'": "suppress, entry 2, rule is 3; it must be words in quotes",
    "[suppress]\nrule = 'NPU201'": "suppress is a table; it must be a list of tables, each below [[suppress]]",
}  # fmt: skip


@pytest.mark.parametrize("text", SETTINGS)
def test_settings_are_refused_in_words_with_the_place(tmp_path: Path, program: Program, text: str) -> None:
    (tmp_path / "own.toml").write_text(text, encoding="utf-8")
    done = program(tmp_path, "check", "m.onnx", "--config", "own.toml")
    assert (done.code, done.out, done.err) == (2, "", f"npu-guard: own.toml: {SETTINGS[text]}\n")


def test_a_byte_order_mark_is_nothing(tmp_path: Path, root: Path, program: Program) -> None:
    mark = b"\xef\xbb\xbf"
    device = registry.profile_files()["aimotive-aiware"].read_bytes().replace(b'name = "aimotive-aiware"', b'name = "own"', 1)
    (tmp_path / "own.toml").write_bytes(mark + b"fail-on = 'never'\n")
    (tmp_path / "device.toml").write_bytes(mark + device)
    arguments = ("--config", tmp_path / "own.toml", "--profile", tmp_path / "device.toml")
    assert program(root, "check", "samples/sample_net.onnx", *arguments).code == 0
    assert "nothing wrong" in program(tmp_path, "profiles", "validate", "device.toml").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("chekc", "m.onnx"), "no command 'chekc'; did you mean 'check'?"),
        (("m.onnx",), "no command 'm.onnx'; a file of that name is checked by 'npu-guard check'"),
        (("qqq",), "no command 'qqq' (see"),
        (("rules", "NPU999"), "no rule 'NPU999'; did you mean"),
    ],
)
def test_what_was_meant(tmp_path: Path, program: Program, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "m.onnx").touch()
    done = program(tmp_path, *arguments)
    assert (done.code, done.out, said in done.err) == (2, "", True), done.err


def test_standard_input_is_not_read(tmp_path: Path, program: Program) -> None:
    done = program(tmp_path, "check", "-")
    assert (done.code, done.err) == (2, "npu-guard: -: standard input is not read; name a file\n")


def test_beginnings_of_rules_list(tmp_path: Path, program: Program) -> None:
    listed = program(tmp_path, "rules", "npu2").out.splitlines()
    assert [line[:6] for line in listed] == [r.code for r in registry.rules() if r.code.startswith("NPU2")]
    assert program(tmp_path, "rules", "kernel").out.startswith("NPU201")
    assert program(tmp_path, "rules", "kernel-size").out.startswith("# NPU201 kernel-size")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (("check", "--profile", "aimotive-aiware,nvi"), ("plain", "aimotive-aiware,nvidia-dla")),
        (("check", "--profile", "./my"), ("file", "./my")),
        (("check", "--select", "NPU2,kern"), ("plain", "NPU2,kernel-size")),
        (("rules", "NPU201"), ("plain", "NPU201")),
        (("diff", "m"), ("file", "m")),
    ],
)
def test_completion(words: tuple[str, ...], completed: tuple[str, str]) -> None:
    found = ShellComplete(cli, {}, "npu-guard", "_NPU_GUARD_COMPLETE").get_completions([*words[:-1]], words[-1])
    assert [(item.type, item.value) for item in found] == [completed]
