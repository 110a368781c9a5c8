"""`npu-guard profiles learn` with a compiler by its command line, and what is done with what it writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from npu_guard import cli

FAKE = """
import sys
data = open(sys.argv[1], "rb").read()
if b"Relu" in data:
    print("ERROR: y: no such unit"), sys.exit(1)
if b"Softmax" in data:
    sys.exit(77)
"""
CONFIG = """
[compiler.fake]
command = ["{python}", "fake.py", "{model}"]
python = %r
profiles = ["chip*"]
findings = [{ pattern = '^ERROR: (?P<node>[^:]*): (?P<message>.*)$' }]
"""


def code(*arguments: str) -> object:
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return ended.value.code


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    Path("fake.py").write_text(FAKE)
    config = CONFIG.replace("fake.py", str(tmp_path / "fake.py")) % sys.executable
    Path("npu-guard.toml").write_text(config)
    return tmp_path


def test_what_is_written_is_a_device_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["profiles", "learn", "chip", "--operator", "Relu", "--operator", "Softmax", "--compiler-version", "1.2"]
    assert code(*arguments) == 0
    assert "0 operators supported, 1 refused, 1 without an answer" in capsys.readouterr().err
    assert code("profiles", "validate", "chip-learned.toml") == 0
    text = Path("chip-learned.toml").read_text()
    assert "measured with fake 1.2 on 1970-01-02" in text
    assert 'status = "refused"\nnames = ["Relu"]' in text
    assert "Softmax" not in text
    assert "| Softmax | unknown |" in Path("chip-learned.md").read_text()
    assert json.loads(Path("chip-learned.reproducers/answers.json").read_text())["Relu.onnx"]["fits"] is False
    capsys.readouterr()
    assert code("profiles", "diff", "ethos-u55", "chip-learned.toml", "--reproducers", "chip-learned.reproducers") == 0
    said = capsys.readouterr().out
    assert "! Relu.onnx: the compiler refuses it, ethos-u55 takes it, chip-learned refuses it" in said
    assert "reproducers: chip-learned judges 1 of 1 as the compiler" in said


def test_the_budget_ends_it_with_what_is_known(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["profiles", "learn", "chip", "--operator", "Sigmoid", "--compilations", "2"]
    assert code(*arguments) == 1
    assert "the budget of 2 compilations is spent" in capsys.readouterr().err
    assert 'names = ["Sigmoid"]' in Path("chip-learned.toml").read_text()
    assert "Not complete" in Path("chip-learned.toml").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["chip", "--operator", "Relo"], "did you mean 'Relu'"),
        (["chip", "-o", "chip.txt"], "a device file ends in .toml"),
        (["no such"], "cannot be called"),
        (["board"], "no compiler is known for the profile 'board'"),
    ],
)
def test_wrong_arguments(project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert code("profiles", "learn", *arguments) == 2
    assert says in capsys.readouterr().err
