"""`assert_npu_compatible`: as a fixture in a project's own tests, and as a function."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import onnx
import pytest

from npu_guard.api.model import example_inputs
from npu_guard.base.errors import UsageError
from npu_guard.testing import assert_npu_compatible as compatible

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "sample_net.onnx"
NET = """
import torch
from torch import nn


class EfficientChannelAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x):
        y = x.mean((2, 3), keepdim=True)
        y = self.conv(y.squeeze(-1).transpose(-1, -2))  # ECA
        return x * torch.sigmoid(y.transpose(-1, -2).unsqueeze(-1))


class Net(nn.Module):
    def __init__(self, attention):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.gate = EfficientChannelAttention() if attention else nn.Identity()

    def forward(self, image):
        return torch.relu(self.gate(self.conv(image)))
"""
TESTS = """
import torch
from {module} import Net
from npu_guard.testing import assert_npu_compatible as function


def test_fits(assert_npu_compatible):
    assert assert_npu_compatible is function
    assert_npu_compatible(Net(False), profile="aimotive-aiware", inputs=(torch.zeros(1, 3, 16, 24),))


def test_eca(assert_npu_compatible):
    assert_npu_compatible(Net(True), inputs={{"image": torch.zeros(1, 3, 16, 24)}})


def test_accepted(assert_npu_compatible):
    assert_npu_compatible(Net(True), input_shapes={{"image": (1, 3, 16, 24)}}, ignore=["NPU1"])
"""


def model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{text}')


def wide(kernel: int, height: str = "32") -> onnx.ModelProto:
    return model(
        f"net (float[1, 8, {height}, 32] x) => (float[1, 8, H, W] y)\n"
        f"<float[8, 8, {kernel}, {kernel}] w = {{{', '.join(['0'] * 64 * kernel * kernel)}}}>\n{{ y = Conv(x, w) }}"
    )


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(check: Callable[[], None]) -> str:
    with pytest.raises(AssertionError) as caught:
        check()
    return str(caught.value)


def test_is_registered_for_every_project() -> None:
    (found,) = entry_points(group="pytest11", name="npu-guard")
    assert found.value == "npu_guard.pytest_plugin"


def test_costs_a_test_run_nothing() -> None:
    driver = "import sys, npu_guard.pytest_plugin; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", driver], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "npu_guard" in loaded
    assert not loaded & {"onnx", "torch", "numpy", "click", "rich", "msgspec", "google"}
    ours = {name for name in done.stdout.split() if name.startswith("npu_guard")}
    assert ours == {"npu_guard", "npu_guard.base", "npu_guard.base.installation", "npu_guard.testing", "npu_guard.pytest_plugin"}


def test_modules_in_a_project(tmp_path: Path) -> None:
    """In a process of its own: pytest's own fixture for this unloads torch afterwards, which cannot be loaded twice."""
    (tmp_path / "net_of_plugin_test.py").write_text(NET, encoding="utf-8")
    (tmp_path / "test_net.py").write_text(TESTS.format(module="net_of_plugin_test"), encoding="utf-8")
    (tmp_path / ".git").mkdir()
    options = ["-p", "no:randomly", "-p", "no:cacheprovider", "--import-mode=prepend"]
    done = subprocess.run([sys.executable, "-m", "pytest", *options], cwd=tmp_path, capture_output=True, text=True, check=False)
    shown = done.stdout
    assert "1 failed, 2 passed" in shown, shown + done.stderr
    line = next(n for n, text in enumerate(NET.splitlines(), 1) if text.endswith("# ECA"))
    lines = [text for text in shown.splitlines() if text.startswith("E ")]
    for wanted in ("Net  aimotive-aiware", f"net_of_plugin_test.py:{line}  y = self.conv(", "FAIL"):
        assert any(wanted in text for text in lines), wanted
    assert "NPU105" in shown
    (summary,) = [text for text in shown.splitlines() if text.startswith("FAILED ")]
    assert re.match(r"FAILED test_net.py::test_eca - AssertionError: \d+ errors?, net_of_plugin", summary[:80]), summary
    assert sum("verbose" in text for text in lines) <= 1
    assert "--verbose" not in shown, "pytest has no such option"
    assert lines[-1].split(maxsplit=1)[1].startswith("npu_guard.fix(model, 'Net.fixed.onnx', profile='aimotive-aiware', input")
    assert "\x1b" not in shown
    assert "testing.py" not in shown, "the report is what matters, not where it was raised"


def test_file(own_folder: Path) -> None:
    onnx.save(wide(3), own_folder / "fits.onnx")
    compatible(own_folder / "fits.onnx")
    compatible("fits.onnx", profile="aimotive-aiware")
    said = refusal(lambda: compatible(SAMPLE))
    assert "NPU201" in said
    assert len(said.splitlines()) <= 24, "in brief"
    assert "What to do" not in said
    assert "verbose=True shows all" in said
    assert "sample_net.py:" in said
    assert "FAIL" in said


def test_proto_is_named_by_its_graph_and_stays_as_it_is(own_folder: Path) -> None:
    proto = wide(19)
    before = proto.SerializeToString()
    said = refusal(lambda: compatible(proto))
    assert said.startswith("1 error, y (NPU201)\n\nnet  aimotive-aiware")
    assert "19x19" in said
    assert proto.SerializeToString() == before
    compatible(proto, ignore=["kernel-size"])
    compatible(proto, ignore="NPU201")


def test_undecided_fails_unless_allowed(own_folder: Path) -> None:
    proto = model("net (float[1, 8, 32, 32] x) => (float[1, 8, H, W] y) { y = Mul(x, x) }")
    compatible(proto)
    proto = model("net (float[1, N, 32, 32] x) => (float[1, 1, 32, 32] y) { y = ReduceMax <axes = [1]> (x) }")
    said = refusal(lambda: compatible(proto, ignore=["dynamic-shape"]))
    assert "UNDECIDED" in said
    assert "allow_undecided=True" in said
    compatible(proto, ignore=["dynamic-shape"], allow_undecided=True)
    compatible(proto, input_shapes={"x": (1, 8, 32, 32)})


def test_warnings_count_where_asked(own_folder: Path) -> None:
    proto = model("net (float[1, 8, 32, 32] x) => (float[1, 8, 32, 32] y) { y = Erf(x) }")
    compatible(proto)
    assert "NPU101" in refusal(lambda: compatible(proto, fail_on="warning"))


def test_settings_of_the_project_count(own_folder: Path) -> None:
    proto = wide(19)
    settings = own_folder / "npu-guard.toml"
    settings.write_text('[[suppress]]\nrule = "NPU201"\nreason = "known"\n', encoding="utf-8")
    compatible(proto)
    settings.write_text('fail-on = "never"\n', encoding="utf-8")
    assert "NPU201" in refusal(lambda: compatible(proto)), "a test that cannot fail says nothing"


def test_unreadable_is_a_failure_with_its_reason(own_folder: Path) -> None:
    assert "no such file" in refusal(lambda: compatible("missing.onnx"))
    (own_folder / "net.onnx").write_bytes(b"\x00" * 40)
    assert "net.onnx" in refusal(lambda: compatible("net.onnx"))
    said = refusal(lambda: compatible(onnx.ModelProto()))
    assert said.startswith("model: the file is empty\n\nUNREADABLE  model")
    assert "npu-guard-" not in said, "the temporary file is nobody's business"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"profile": "aimotive-aiwar"}, "did you mean 'aimotive-aiware'"),
        ({"fail_on": "never"}, "fail_on"),
        ({"ignore": ["NPU999"]}, "no rule"),
        ({"input_shapes": {"z": (1, 8, 32, 32)}}, "no input"),
        ({"inputs": {}}, "for torch modules"),
    ],
)
def test_wrong_arguments_are_no_verdict(arguments: dict[str, object], said: str, own_folder: Path) -> None:
    with pytest.raises(UsageError, match=said):
        compatible(wide(3), **arguments)  # type: ignore[arg-type]


def test_something_else_is_refused(own_folder: Path) -> None:
    with pytest.raises(UsageError, match="dict is no model"):
        compatible({})  # type: ignore[arg-type]


def test_inputs_of_a_module() -> None:
    torch = pytest.importorskip("torch")

    class Two(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, a, b, scale=None):  # type: ignore[no-untyped-def]
            return a + b

    one, other = torch.zeros(1), torch.ones(1)
    assert list(example_inputs(Two(), {"b": other, "a": one}, {})) == ["a", "b"]
    assert list(example_inputs(Two(), (one, other), {})) == ["a", "b"]
    assert list(example_inputs(Two(), None, {"b": (1, 2), "a": (1, 2)})) == ["a", "b"]
    assert compatible(torch.nn.Conv2d(8, 8, 3, padding=1), torch.zeros(1, 8, 32, 32)).verdict == "pass", "as torch takes it"
    for inputs, said in (
        (None, "forward needs a, b"),
        (one, "forward needs b"),
        ({"a": one, "scales": other}, "forward takes a, b, scale and no 'scales'; did you mean 'scale'?"),
        ({"a": one, "b": 3}, "'b' is no tensor"),
        ({"a": one, "b": other, "c": one}, "forward takes a, b, scale"),
    ):
        with pytest.raises(UsageError, match=said):
            example_inputs(Two(), inputs, {})
