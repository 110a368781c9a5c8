"""Python code as a model: what is a target, where inputs come from, and the user's own mistakes in one sentence."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from npu_guard.base.errors import UsageError
from npu_guard.project.example import Input, parse_input
from npu_guard.project.target import is_target

Cli = Callable[..., Any]

CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 19, padding=9)

    def forward(self, image, scale=None):
        y = self.conv(image)  # WIDE
        return y if scale is None else y * scale


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(2, 8)

    def forward(self, index):
        return self.table(index)


class Needy(Net):
    def __init__(self, width):
        super().__init__(width)


class Raises(nn.Module):
    def forward(self, image):
        print("on the way")
        return self.helper(image)

    def helper(self, image):
        raise ValueError("heads must divide channels\\nin a second line")  # RAISES


def factory():
    print("made")
    return Net()


def broken():
    raise KeyError("width")  # BROKEN


def leaves():
    raise SystemExit(0)


instance = Net()
number = 5
namespace = type("N", (), {"Net": Net})


def no_module():
    return "net"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with modules of names that no other test uses."""
    folder = tmp_path_factory.mktemp("project")
    (folder / ".git").mkdir()
    files = {
        "gate_net.py": CODE,
        "gate_with_inputs.py": CODE + "\n\ndef inputs():\n    return {'image': torch.zeros(1, 3, 32, 32)}\n",
        "gate_tuple.py": CODE + "\n\ndef inputs():\n    return torch.zeros(1, 3, 32, 32), torch.ones(1)\n",
        "gate_bad_inputs.py": CODE + "\n\ndef inputs():\n    return [1, 2]\n",
        "gate_failing_inputs.py": CODE + "\n\ndef inputs():\n    return 1 / 0\n",
        "gate_syntax.py": "def f(:\n",
        "gate_missing.py": "import gate_of_nowhere\n",
        "gate_raising.py": "import torch\n\nraise RuntimeError('no GPU')\n",
        "gate_package/__init__.py": "",
        "gate_alone.py": "from math import sqrt\nfrom torch import nn\nclass Twice(nn.Module):\n    pass\n",
        "gate_package/inner.py": "from gate_net import Net\n",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    yield folder
    for name in [n for n in sys.modules if n.startswith("gate_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("package.module:Net", True),
        ("module:Net.small", True),
        ("net.onnx", False),
        ("C:\\models\\net.onnx", False),
        ("C:net.onnx", False),
        ("C:net", False),
        ("module:net.onnx", False),
        ("a/b:c", False),
        ("module:", False),
        (":Net", False),
        ("module:Net()", False),
        ("a:b:c", False),
        ("http://host/net", False),
        ("taken:name", False),
        ("m:Net", True),
    ],
)
def test_what_is_a_target(text: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken:name").write_text("", encoding="utf-8")
    (tmp_path / "m.py").write_text("", encoding="utf-8")
    assert is_target(text) is expected


def test_inputs_from_the_command_line() -> None:
    assert parse_input("x:1,3,384,640") == Input("x", (1, 3, 384, 640))
    assert parse_input("x:int64:1,16") == Input("x", (1, 16), "int64")
    for wrong in ("x", "x:", ":1,2", "x:1,a", "x:1,0", "x:-1", "x:int64:", "x:a:b:1", "x:1.5"):
        with pytest.raises(UsageError, match="write it as"):
            parse_input(wrong)
    with pytest.raises(UsageError, match="did you mean 'int64'"):
        parse_input("x:int46:1")
    with pytest.raises(UsageError, match="smaller shape"):
        parse_input("x:1,3,99999,99999")


def exported(program: Cli, project: Path, target: str, *options: str, code: int = 0) -> Any:
    done = program(project, "export", target, "-o", project / "out.onnx", "--exporter", "legacy", *options)
    assert done.code == code, done
    assert done.out == "", "what the user's code prints is no result"
    return onnx.load(project / "out.onnx").graph if code == 0 else done.err


@pytest.mark.parametrize(
    "target", ["gate_net:Net", "gate_net:factory", "gate_net:instance", "gate_net:namespace.Net", "gate_package.inner:Net"]
)
def test_classes_functions_and_modules(target: str, project: Path, program: Cli) -> None:
    graph = exported(program, project, target, "--input", "image:1,3,32,32")
    assert [i.name for i in graph.input] == ["image"]


def test_where_inputs_come_from(project: Path, program: Cli) -> None:
    assert [i.name for i in exported(program, project, "gate_with_inputs:Net").input] == ["image"]
    assert [i.name for i in exported(program, project, "gate_tuple:Net").input] == ["image", "scale"]
    both = ("--input", "scale:1,8,1,1", "--input", "image:1,3,16,16")
    assert [i.name for i in exported(program, project, "gate_with_inputs:Net", *both).input] == ["image", "scale"], (
        "in forward's order"
    )
    (index,) = exported(program, project, "gate_net:Table", "--input", "index:int64:1,5").input
    assert index.type.tensor_type.elem_type == onnx.TensorProto.INT64


def line_of(mark: str) -> int:
    return next(number for number, line in enumerate(CODE.splitlines(), 1) if line.endswith(f"# {mark}"))


SHAPE = ("--input", "image:1,3,8,8")
WRONG = {
    "gate_nowhere:Net": (SHAPE, "there is no module 'gate_nowhere'"),
    "gate_nett:Net": (SHAPE, "did you mean 'gate_net'?"),
    "gate_package.nowhere:Net": (SHAPE, "there is no module 'gate_package.nowhere'"),
    "gate_package.iner:Net": (SHAPE, "did you mean 'gate_package.inner'?"),
    "gate_missing:Net": (
        SHAPE,
        "importing gate_missing failed: ModuleNotFoundError: No module named 'gate_of_nowhere' (gate_missing.py:1)",
    ),
    "gate_syntax:Net": (
        SHAPE,
        "importing gate_syntax failed: SyntaxError: invalid syntax (gate_syntax.py:1)",
    ),
    "gate_raising:Net": (SHAPE, "RuntimeError: no GPU (gate_raising.py:3)"),
    "gate_net:Nett": (SHAPE, "gate_net has no 'Nett'; did you mean 'Net'?"),
    "gate_alone:Net": (SHAPE, "gate_alone has no 'Net'; it has Twice\n"),
    "gate_package.inner:Model": (SHAPE, "gate_package.inner has no 'Model'\n"),  # what it imports is not its own
    "gate_net:number": (SHAPE, "is of type int; name an nn.Module"),
    "gate_net:no_module": (SHAPE, "returns str, which is no torch.nn.Module"),
    "gate_net:Needy": (SHAPE, "needs width; name a function without parameters"),
    "gate_net:broken": (SHAPE, f"calling it failed: KeyError: 'width' (gate_net.py:{line_of('BROKEN')})"),
    "gate_net:leaves": (SHAPE, "calling it failed: SystemExit: 0"),
    "gate_net:Net": ((), "forward needs image; give the shape of each with --input image:1,3,384,640"),
    "gate_net:factory": (("--input", "scale:1,8,1,1"), "cannot be left out"),
    "gate_package.inner:Net": (
        ("--input", "imgae:1,3,8,8"),
        "gate_package.inner:Net: forward takes image, scale and no 'imgae'; did you mean 'image'?",
    ),
    "gate_bad_inputs:Net": ((), "inputs() must return tensors"),
    "gate_failing_inputs:Net": ((), "inputs: calling it failed: ZeroDivisionError: division by zero"),
    "gate_net:Raises": (SHAPE, f"ValueError: heads must divide channels (gate_net.py:{line_of('RAISES')})"),
    "gate_net:instance": (("--input", "image:1,4,8,8"), f"(gate_net.py:{line_of('WIDE')})"),
    "no target": ((), "write it as package.module:callable"),
    "gate_net:namespace.Net": ((*SHAPE, *SHAPE), "one name is given twice"),
}


@pytest.mark.parametrize("target", WRONG)
def test_mistakes_in_one_sentence(target: str, project: Path, program: Cli) -> None:
    options, said = WRONG[target]
    nothing_there = ("there is no module", "did you mean 'gate_net'?", "gate_package.inner'?", " has no '")
    error = exported(program, project, target, *options, code=3 if any(part in said for part in nothing_there) else 2)
    assert said in error
    own = [line for line in error.splitlines() if line.startswith("npu-guard: ")]
    assert len(own) == 1
    assert str(project) not in own[0]
    assert [f.name for f in project.iterdir() if f.name.startswith(".npu-guard")] == []


def test_check_exports_and_checks_in_one_go(project: Path, program: Cli) -> None:
    before = sys.path.copy()
    done = program(project, "check", "gate_with_inputs:factory", "--format", "json", "--report", "text:out.txt")
    assert done.code == 1, done
    (model,) = json.loads(done.out)["models"]
    assert model["path"] == "gate_with_inputs:factory"
    assert [(f["rule"], f["source"]["file"], f["source"]["line"]) for f in model["findings"]] == [
        ("NPU201", "gate_with_inputs.py", line_of("WIDE"))
    ]
    assert "gate_with_inputs.py" in (project / "out.txt").read_text(encoding="utf-8")
    assert "npu-guard-" not in done.out + done.err
    assert sys.path == before
    shaped = program(project, "check", "gate_net:Net", "--input-shape", "image:1,3,16,24", "--format", "json")
    assert json.loads(shaped.out)["models"][0]["findings"][0]["tensor"]["shape"] == [1, 8, 16, 24]


def test_mistakes_of_check(project: Path, program: Cli) -> None:
    done = program(project, "check", "gate_net:Net")
    assert (done.code, done.out) == (2, "")
    assert "--input-shape image:1,3,384,640" in done.err
    assert program(project, "check", "gate_net.onnx").code == 3


@pytest.mark.parametrize(
    "target", ["gate_net.py:Net", "./gate_net.py:Net", "gate_package/inner.py:Net", "gate_net.py:namespace.Net"]
)
def test_a_file_and_a_name_in_it(target: str, project: Path, program: Cli) -> None:
    graph = exported(program, project, target, "--input", "image:1,3,32,32")
    assert [i.name for i in graph.input] == ["image"]


def test_a_file_is_imported_below_the_folder_of_its_package(project: Path, program: Cli) -> None:
    """As with a layout that has `src/`: the package's own absolute imports work, wherever the program is started."""
    package = project / "src" / "gate_src_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text("from gate_net import Net\n")
    (package / "net.py").write_text("from gate_src_package.parts import Net\n")
    graph = exported(program, project, "src/gate_src_package/net.py:Net", "--input", "image:1,3,32,32")
    assert [i.name for i in graph.input] == ["image"]


@pytest.mark.parametrize(
    ("target", "said", "code"),
    [("gate_nte.py:Net", "there is no file gate_nte.py", 3), ("gate-net.py:Net", "cannot be imported under that name", 2)],
)
def test_files_that_are_none(target: str, said: str, code: int, project: Path, program: Cli) -> None:
    (project / "gate-net.py").write_text("Net = None\n")
    done = program(project, "check", target)
    assert (done.code, said in done.err) == (code, True)


def test_what_is_mistyped_is_told_before_code_is_run(project: Path, program: Cli) -> None:
    (project / "gate_marks.py").write_text("open('ran', 'w').close()\n")
    for option, value in (("--profile", "nix"), ("--baseline", "nix.json"), ("--since", "nix")):
        done = program(project, "check", "gate_marks:Net", option, value)
        assert (done.code, "nix" in done.err or "git" in done.err) == (2, True)
        assert not (project / "ran").exists()
    program(project, "check", "gate_marks:Net")
    assert (project / "ran").exists()


def test_a_network_without_training_equals_itself(project: Path, program: Cli) -> None:
    shape = ("--input-shape", "image:1,3,16,16")
    done = program(project, "fix", "gate_net:Net", "-o", project / "fixed.onnx", *shape)
    assert done.code == 0, done
    (command,) = [line for line in done.out.splitlines() if line.startswith("  npu-guard verify ")]
    assert command.split() == ["npu-guard", "verify", "gate_net:Net", str(project / "fixed.onnx"), *shape]
    again = program(project, *command.split()[1:])
    assert (again.code, again.err) == (0, ""), again
