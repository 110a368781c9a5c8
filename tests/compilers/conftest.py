"""A compiler that does what it is told, and models to give it."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx.parser
import pytest

from npu_guard import cli
from npu_guard.compilers.settings import CompilerSettings, LogPattern

FAKE = """
import os, signal, subprocess, sys, time
mode, model, profile, out = sys.argv[1:5]
assert os.path.isfile(model) and os.path.isdir(out) and os.environ["TMPDIR"]
if mode == "accept":
    print("INFO done for", profile)
elif mode == "refuse":
    print("compiling ...")
    print("ERROR: node 'wide' (Conv): kernel 19 is too large")
    print("WARNING: node 'act' (Relu): merged")
    sys.exit(1)
elif mode == "fallback":
    print("CPU: node 'act' (Relu): no such unit")
elif mode == "unexplained":
    print("something is wrong")
    sys.exit(1)
elif mode == "crash":
    print("about to die", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
elif mode == "code":
    sys.exit(77)
elif mode == "hang":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(child.pid, file=open(sys.argv[5], "w"), flush=True)
    time.sleep(600)
elif mode == "daemon":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(child.pid, file=open(sys.argv[5], "w"), flush=True)
elif mode == "memory":
    held = bytearray(1 << 30)
elif mode == "hostile":
    control = b"\\x1b]0;x\\x07<script>\\xe2\\x80\\xae ##vso[x] \\x00\\xff "
    sys.stdout.buffer.write(b"\\x1b[2J\\x1b[31mERROR: node 'wide' (Conv): " + control + b"a" * 100000 + b"\\n")
    sys.stdout.buffer.write(b"ERROR: node '\\x1b[1mnowhere' (Conv): ghost\\n")
    sys.exit(1)
elif mode == "endless":
    sys.stdout.buffer.write(b"ERROR: node 'wide' (Conv): first\\n")
    for _ in range(40):
        sys.stdout.buffer.write(b"x" * (1 << 20))
    sys.stdout.buffer.write(b"\\nERROR: node 'act' (Relu): last\\n")
    sys.exit(1)
"""
PATTERN = r"(?P<severity>\w+): node '(?P<node>[^']*)' \((?P<op_type>\w+)\): (?P<message>.*)"
MODEL = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,8,32,32] x) => (float[1,8,32,32] y) <float[8,8,19,19] w, float[8,8,3,3] v> {
  [wide] a = Conv<pads = [9,9,9,9]>(x, w)
  [act] b = Relu(a)
  [narrow] y = Conv<pads = [1,1,1,1]>(b, v)
}"""
"""On aimotive-aiware, `wide` is refused (a kernel of 19) and the rest fits."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    proto = onnx.parser.parse_model(MODEL)
    for entry in list(proto.graph.value_info):
        if entry.name in "wv":
            dims = [d.dim_value for d in entry.type.tensor_type.shape.dim]
            count = dims[0] * dims[1] * dims[2] * dims[3]
            proto.graph.initializer.append(onnx.helper.make_tensor(entry.name, 1, dims, bytes(4 * count), raw=True))
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture
def fake(tmp_path: Path) -> Callable[..., CompilerSettings]:
    """Settings of the fake compiler in a mode."""
    script = tmp_path / "fake_compiler.py"
    script.write_text(FAKE)

    def make(mode: str, *extra: str, **changes: Any) -> CompilerSettings:
        command = (sys.executable, str(script), mode, "{model}", "{profile}", "{out}", *extra)
        return CompilerSettings(command=command, **{"findings": (LogPattern(PATTERN),), "seconds": 60.0, **changes})

    return make


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`npu-guard` in a folder of its own: exit code, standard output, standard error."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    thresholds = gc.get_threshold()

    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        gc.set_threshold(*thresholds)
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return call


@pytest.fixture
def gone() -> Callable[[int], bool]:
    """Whether a process has ended; one that was killed takes a moment, and one that nobody waited for yet has ended too."""

    def running(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    def wait(pid: int) -> bool:
        deadline = time.monotonic() + 120
        while running(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        return not running(pid)

    return wait
