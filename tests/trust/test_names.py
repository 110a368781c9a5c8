"""Names that no file can have, wherever a command line takes one: a sentence and an exit code, and no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_guard import cli
from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case

OK = {0, 1, 2, 3, 5}
LINES = [
    "check @", "check m.onnx --config @", "check m.onnx -o @", "check m.onnx --report html:@", "check m.onnx --baseline @",
    "check m.onnx --write-baseline @", "check m.onnx --profile @", "check m.onnx --cache @", "check m.onnx --save-repro @",
    "diff @ m.onnx", "diff m.onnx @", "report @ -o page.html", "report m.onnx -o @", "fix @ -o o.onnx", "fix m.onnx -o @",
    "fix m.onnx --plan @", "fix m.onnx -o @ --plan @", "fix m.onnx -o o.onnx --apply @", "fix m.onnx -o o.onnx --calibration @",
    "verify @ m.onnx", "verify m.onnx @", "verify m.onnx m.onnx --calibration @", "verify m.onnx --manifest @",
    "partition @ -o pieces", "partition m.onnx -o @", "partition m.onnx -o pieces --calibration @", "init --model @",
    "compile @", "profiles @", "profiles validate @", "profiles diff @ @", "profiles new chip -o @", "rules @",
]  # fmt: skip
NAMES = {
    "long": "n" * 300, "long-folder": "n" * 300 + "/x", "path": "/".join(["n" * 200] * 25), "loop": "loop", "in-loop": "loop/x",
    "in-file": "m.onnx/x", "folder": "folder", "dangling": "dangling", "empty": "", "no-utf8": "\udcff\udcfe",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("line", LINES)
def test_a_name_that_no_file_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], line: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    model = case_model(Case("g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Relu(x) }")).SerializeToString()
    Path("m.onnx").write_bytes(model)
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("nowhere")
    with pytest.raises(SystemExit) as ended:
        cli.main([part.replace("@", name) for part in line.split()])
    said = [line for line in capfdbinary.readouterr().err.splitlines() if not line.startswith(b"npu-guard: wrote ")]
    assert ended.value.code in OK, said
    assert ended.value.code in (0, 1) or len(said) == 1
    assert all(part.startswith(b"npu-guard: ") for part in said)
    assert Path("m.onnx").read_bytes() == model
