"""The command line as a shell sees it: exit codes, streams, colours, and one line for whatever is wrong."""

from __future__ import annotations

import gc
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from npu_guard import cli

GOOD = "g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Relu(x) }"
BAD = "g (float[1,8,4,4] x) => (float[?,?] y) { h = NonZero(x) y = Cast<to = 1>(h) }"
Result = subprocess.CompletedProcess[bytes]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Result]:
    """`npu-guard` in a folder without settings, in this process: starting one for each question takes too long."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    thresholds = gc.get_threshold()

    def call(*arguments: str) -> Result:
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        gc.set_threshold(*thresholds)
        out, err = capfdbinary.readouterr()
        assert isinstance(ended.value.code, int)
        return Result(arguments, ended.value.code, out, err)

    return call


def process(*arguments: str | bytes, folder: Path, env: dict[str, str] | None = None) -> Result:
    """`npu-guard` as a shell starts it."""
    command = [sys.executable, "-m", "npu_guard", *arguments]
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")} | (env or {})
    return subprocess.run(command, check=False, capture_output=True, cwd=folder, env=environment, timeout=600)


def shell(line: str, folder: Path) -> Result:
    return subprocess.run(["bash", "-c", line, sys.executable], check=False, capture_output=True, cwd=folder, timeout=600)


Run = Callable[..., Result]
Save = Callable[..., Path]


def complaint(result: Result, code: int) -> str:
    """The one line on standard error."""
    assert result.returncode == code, result
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("npu-guard: ")
    return line


def test_who_says_nothing_is_told_what_there_is_to_say(run: Run) -> None:
    result = run()
    assert result.returncode == 2
    assert b"Commands:" in result.stdout
    assert result.stderr == b""


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("nonsense",), "nonsense"),
        (("check",), "MODEL"),
        (("check", "m", "--nonsense"), "--nonsense"),
        (("check", "m", "--format", "nonsense"), "nonsense"),
        (("check", "m", "--fail-on", "maybe"), "maybe"),
        (("check", "m", "--select", "NPU0"), "no rule 'NPU0'"),
        (("check", "m", "--ignore", "kernel-sise"), "did you mean 'kernel-size'?"),
        (("check", "m", "--profile", "aware"), "no profile 'aware'"),
        (("check", "m", "--profile", "aware"), "did you mean 'aimotive-aiware'?"),
        (("check", "m", "--profile", "rk3588"), "did you mean 'rockchip-rk3588'?"),
        (("check", "m", "--profile", "AM62A"), "did you mean 'ti-tidl:AM62A'?"),
        (("check", "m", "--profile", "ethos"), "did you mean 'ethos-u55-legacy', 'ethos-u55' or 'ethos-u85'?"),
        (("check", "m", "--profile", "absent.toml"), "no such file"),
        (("check", "m", "--config", "absent.toml"), "no such file"),
        (("check", "m", "--input-shape", "x"), "NAME:1,3,384,640"),
        (("check", "m", "--input-shape", "x:1,-3"), "NAME:1,3,384,640"),
        (("check", "m", "--input-shape", "x:a"), "NAME:1,3,384,640"),
        (("check", "m", "--report", "json"), "FORMAT:FILE"),
        (("check", "m", "--report", "nonsense:f"), "FORMAT:FILE"),
        (("rules", "NPU999"), "no rule 'NPU999'"),
        (("profiles", "nope"), "no profile 'nope'"),
        (("check", "m\x1b[2J\n", "--format", "\x1b[2J"), "\\x1b[2J"),
    ],
)
def test_bad_usage_is_one_line_and_2(run: Run, arguments: tuple[str, ...], word: str) -> None:
    result = run(*arguments)
    assert word in complaint(result, 2)
    assert result.stdout == b""


def test_help_and_version(run: Run) -> None:
    for arguments in (("--help",), ("-h",), ("--version",), ("check", "--help")):
        result = run(*arguments)
        assert result.returncode == 0
        assert result.stdout
        assert result.stderr == b""


def test_exit_codes(run: Run, save: Save, tmp_path: Path) -> None:
    good, bad = str(save(GOOD)), str(save(BAD))
    assert run("check", good).returncode == 0
    assert run("check", bad).returncode == 1
    assert run("check", bad, good).returncode == 1
    assert run("check", bad, "--fail-on", "never").returncode == 0
    assert run("check", bad, "--ignore", "NPU").returncode == 0
    unreadable = run("check", bad, "absent.onnx", good)
    assert "absent.onnx: no such file" in complaint(unreadable, 3)
    assert b"PASS" in unreadable.stdout
    assert b"FAIL" in unreadable.stdout
    assert run("check", "absent.onnx", "--fail-on", "never").returncode == 3
    assert "'' names no file" in complaint(run("check", ""), 2)


def test_input_shape(run: Run, save: Save) -> None:
    model = str(save("g (float[1,8,h,w] x) => (float[1,8,h,w] y) { y = Relu(x) }"))
    assert run("check", model).returncode == 1
    assert run("check", model, "--input-shape", "x:1,8,4,4").returncode == 0
    assert "has 2 axes" in complaint(run("check", model, "--input-shape", "x:1,8"), 2)
    assert "is no input" in complaint(run("check", model, "--input-shape", "z:1,8"), 2)
    assert "between 0 and" in complaint(run("check", model, "--input-shape", f"x:1,8,4,{10**30}"), 2)


def test_settings_of_the_project(run: Run, save: Save, tmp_path: Path) -> None:
    bad = str(save(BAD))
    (tmp_path / "pyproject.toml").write_text('[tool.npu-guard]\nignore = ["NPU"]\n')
    assert run("check", bad).returncode == 0
    (tmp_path / "npu-guard.toml").write_text("nonsense = 1\n")
    assert "unknown key 'nonsense'" in complaint(run("check", bad), 2)


def test_output_goes_to_a_file(run: Run, save: Save, tmp_path: Path) -> None:
    bad = str(save(BAD))
    result = run("check", bad, "--format", "json", "--output", "out.json", "--report", "text:out.txt")
    assert result.returncode == 1
    assert result.stdout == b""
    assert json.loads((tmp_path / "out.json").read_text())["models"][0]["verdict"] == "fail"
    assert "FAIL" in (tmp_path / "out.txt").read_text()


def test_a_file_that_cannot_be_written(run: Run, save: Save, tmp_path: Path) -> None:
    good = str(save(GOOD))
    assert "cannot be written" in complaint(run("check", good, "--output", "absent/out"), 2)
    (tmp_path / "folder").mkdir()
    assert "cannot be written" in complaint(run("check", good, "--output", "folder"), 2)


def test_a_run_that_ends_badly_leaves_the_old_file(run: Run, tmp_path: Path) -> None:
    old = tmp_path / "out.txt"
    old.write_text("old")
    assert run("check", "m", "--select", "NPU0", "--output", "out.txt").returncode == 2
    assert old.read_text() == "old"


def test_closed_pipe(save: Save, tmp_path: Path) -> None:
    bad = save(BAD)
    result = shell(f'"$0" -m npu_guard check {bad} {bad} {bad} | head -1; exit "${{PIPESTATUS[0]}}"', tmp_path)
    assert result.stderr == b""
    assert result.returncode == 1, "who reads the output does not change the verdict"
    result = shell('"$0" -m npu_guard rules | true; exit "${PIPESTATUS[0]}"', tmp_path)
    assert result.stderr == b""
    assert result.returncode == 0


def test_full_disk_and_closed_streams(save: Save, tmp_path: Path) -> None:
    bad = save(BAD)
    result = shell(f'"$0" -m npu_guard check {bad} > /dev/full', tmp_path)
    assert "cannot be written (No space left on device)" in complaint(result, 2)
    for closed in (">&-", "<&- >&- 2>&-"):
        result = shell(f'"$0" -m npu_guard check {bad} {closed}', tmp_path)
        assert result.returncode == 1
        assert result.stderr == b""


def test_no_colour_without_a_terminal(run: Run, save: Save) -> None:
    assert b"\x1b" not in run("check", str(save(BAD))).stdout
    assert b"\x1b" not in run("rules", "NPU201").stdout


@pytest.mark.parametrize(("setting", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_on_a_terminal(save: Save, tmp_path: Path, setting: dict[str, str], coloured: bool) -> None:
    bad = save(BAD)
    main, other = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm"} | setting
    command = [sys.executable, "-m", "npu_guard", "check", str(bad)]
    process = subprocess.Popen(command, stdout=other, stderr=subprocess.DEVNULL, cwd=tmp_path, env=environment)
    os.close(other)
    shown = b""
    while True:
        try:
            chunk = os.read(main, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(main)
    assert process.wait(30) == 1
    assert (b"\x1b[1;31m" in shown) is coloured
    assert (b"\x1b" in shown) is coloured


@pytest.mark.parametrize(
    ("env", "form"),
    [({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "text"), ({"PYTHONIOENCODING": "ascii"}, "json")],
)
def test_ascii_terminals(save: Save, tmp_path: Path, env: dict[str, str], form: str) -> None:
    model = tmp_path / "größe 卷积.onnx"
    save(BAD).rename(model)
    result = process("check", str(model), "absent-é", "--format", form, folder=tmp_path, env=env)
    assert result.returncode == 3
    assert b"absent-" in result.stderr
    assert b"Traceback" not in result.stderr
    (result.stdout + result.stderr).decode("ascii")


def test_file_names_that_are_not_utf8(save: Save, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff\x1b[2J.onnx"
    Path(os.fsdecode(odd)).write_bytes(save(BAD).read_bytes())
    text = process("check", odd, odd + b"x", folder=tmp_path)
    assert "\\x1b" in complaint(text, 3)
    assert b"\x1b" not in text.stdout + text.stderr
    machine = process("check", odd, "--format", "json", folder=tmp_path)
    assert machine.returncode == 1
    assert json.loads(machine.stdout)["models"][0]["path"].endswith("\\udcff\x1b[2J.onnx")


def test_listing(run: Run) -> None:
    assert b"NPU201" in run("rules").stdout
    assert b"aimotive-aiware" in run("profiles").stdout
    assert b"conv.kernel_max" in run("profiles", "aimotive-aiware").stdout
    assert run("rules", "kernel-size").stdout == run("rules", "npu201").stdout


def test_the_program_and_the_module_are_one(run: Run) -> None:
    version = process("--version", folder=Path.cwd())
    assert version.stdout == run("--version").stdout
    assert version.returncode == 0


def test_a_bug_of_ours_is_4(tmp_path: Path, save: Save) -> None:
    script = (
        "import sys\nfrom npu_guard import cli; from npu_guard.pipeline import check\n"
        "def broken(*a, **k): raise ZeroDivisionError('oops \\x1b[2J')\n"
        "check.check_models = broken\n"
        f"cli.main(['check', {str(save(GOOD))!r}])\n"
    )
    result = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, cwd=tmp_path)
    assert result.returncode == 4
    assert b"ZeroDivisionError" in result.stderr
    assert b"this is a bug in npu-guard" in result.stderr
    assert b"\x1b" not in result.stderr


def test_light_imports(save: Save) -> None:
    """`check` must start in a moment."""
    script = (
        "import sys\nfrom npu_guard import cli\n"
        f"try: cli.main(['check', {str(save(GOOD))!r}])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'onnxruntime', 'onnxsim', 'onnx_ir', 'onnxscript', 'rich', 'onnx.reference'} & set(sys.modules)\n"
        "sys.stderr.write(' '.join(sorted(heavy)))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert result.stderr == b""
