"""Long work shows how far it is to whoever looks at a terminal, and to nobody else."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from npu_guard.checking import registry
from npu_guard.fixing import catalog
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.rewriting.substitution import EXACT

if TYPE_CHECKING:
    from conftest import Write

GRAPH = """g (float[1,8,24,24] x) => (float[1,8,24,24] y)
<float[8,8,19,3] w, float[8,8,3,19] v> { a = Conv<pads = [9,1,9,1]>(x, w)  y = Conv<pads = [1,9,1,9]>(a, v) }"""


def test_callback_is_told_of_each_block(write: Write) -> None:
    told: list[tuple[str, int, int]] = []
    exact = [s for s in catalog.substitutions() if s.exactness == EXACT]
    fix_model(str(write(GRAPH)), registry.profile("aimotive-aiware"), Config(), exact, progress=lambda *step: told.append(step))
    assert told[0] == ("Analysing the model", 0, 1)
    assert told[-1] == ("Verifying the whole model", 0, 1)
    assert [(done, total) for what, done, total in told if what == "Rewriting blocks"] == [(0, 2), (1, 2)]
    assert [(done, total) for what, done, total in told if what == "Verifying blocks"] == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("model", ["net.onnx", "missing.onnx"])
def test_only_a_terminal_gets_it(write: Write, tmp_path: Path, model: str) -> None:
    write(GRAPH)
    command = [sys.executable, "-m", "npu_guard", "fix", model, "-o", "out.onnx"]
    plain = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    near, far = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=far, env=environment) as shown:
        os.close(far)
        written = b""
        with contextlib.suppress(OSError):  # the end of a pseudo-terminal
            while chunk := os.read(near, 65536):
                written += chunk
        os.close(near)
        output, _ = shown.communicate()
    assert (shown.returncode, output) == (plain.returncode, plain.stdout)
    assert shown.returncode == (0 if model == "net.onnx" else 3)
    assert plain.stderr.count(b"\n") == (0 if model == "net.onnx" else 1)
    assert b"Starting" in written
    assert b"\x1b[?25h" in written, "the cursor comes back"
