"""What must hold whatever the file says: a report or one clear refusal, no crash, and output that forges nothing."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import onnx

from npu_guard import cli
from npu_guard.analysis import shapes
from npu_guard.base.errors import ModelError
from npu_guard.base.sandbox import Outcome
from npu_guard.checking import registry
from npu_guard.file import load
from npu_guard.graph.graph import Model
from npu_guard.pipeline.check import check_models
from npu_guard.project.config import Config
from npu_guard.results.findings import Verdict
from npu_guard.results.summary import exit_code

CONFIG = Config()
FORMATS = ("text", "json", "sarif", "github", "gitlab", "junit", "markdown")
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\u200b\ufeff]")
"""What no text for people or programs may hold as it is."""
_FORGED = re.compile(r"^::error file=x::|##vso\[", re.MULTILINE)


def execute(data: bytes, path: Path, *, formats: bool = False, device: str | None = None) -> str:
    """Check these bytes as a model file, for a device or the one by default.

    The result is the verdict, or the kind of the refusal. Raises AssertionError.
    """
    path.write_bytes(data)
    config = CONFIG if device is None else Config(profile=device)
    report = check_models([str(path)], config, layers=formats, hashes=formats)
    (model,) = report.models
    assert not model.crashes, model.crashes
    if model.error is not None:
        kind, message = model.error
        assert model.verdict is Verdict.UNREADABLE
        assert message.startswith(str(path)), message
        assert len(message) < 2000, f"a message of {len(message)} characters"
        assert exit_code(report) == 3
    for name in FORMATS if formats else ():
        text = registry.renderer(name)(report, color=False)
        assert not RAW.search(text), f"{name}: {RAW.search(text)}"
        if name in ("text", "github", "markdown"):
            assert not _FORGED.search(text), f"{name}: {_FORGED.search(text)}"
        if name in ("json", "sarif", "gitlab"):
            json.loads(text)
    return kind if model.error is not None else model.verdict.value


def rewrite(path: Path, folder: Path) -> str:
    """`fix`, `verify`, `partition` and `diff` on a model that `check` has read; the result is what `fix` said.

    Raises AssertionError. Whole command lines, so that nothing is left out but the process: exit codes of the contract,
    inert output, and a new file only where the code says so.
    """
    model, fixed, pieces = str(path), folder / "fixed.onnx", folder / "pieces"
    fixed.unlink(missing_ok=True)
    shutil.rmtree(pieces, ignore_errors=True)
    code = command("fix", model, "-o", str(fixed), "--allow", "approximate")
    assert fixed.exists() == (code in (0, 1)), f"fix ended with {code}; the file is {'' if fixed.exists() else 'not '}there"
    if fixed.exists():
        again = execute(fixed.read_bytes(), folder / "again.onnx")
        assert again in ("pass", "fail", "undecided"), f"what fix wrote cannot be read: {again}"
    assert command("verify", model, model) in (0, 2, 3, 5)
    cut = command("partition", model, "-o", str(pieces))
    assert pieces.exists() == (cut == 0), f"partition ended with {cut}; the folder is {'' if pieces.exists() else 'not '}there"
    assert command("diff", model, model) in (0, 3), "a model differs from itself"
    return f"fix ended with {code}"


def command(*arguments: str) -> int:
    """Run a whole command line in this process; the result is its exit code. Raises AssertionError if it breaks the contract."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(arguments)
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    for text in (out.getvalue(), err.getvalue()):
        assert not RAW.search(text), f"{arguments[0]}: {RAW.search(text)}"
        assert "Traceback" not in text, f"{arguments[0]}: {text[-3000:]}"
    assert code in (0, 1, 2, 3, 5), f"{arguments[0]} ended with {code}: {err.getvalue()[-1000:]}"
    assert out.getvalue() or err.getvalue(), f"{arguments[0]} ended with {code} and says nothing"
    return code


@contextlib.contextmanager
def static_only() -> Iterator[None]:
    """Leave out what runs in a process of its own, so that thousands of executions fit in a second.

    ONNX's inference then seems to have found nothing more than the file says, and functions are refused.
    """

    class Nothing:
        def __init__(self, content: bytes) -> None:
            self.content = content

        def __enter__(self) -> Nothing:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def result(self) -> Outcome:
            return Outcome("ok", struct.pack("<I", 0) + self.content)

    def unrepaired(model: Model) -> bytes:
        return json.dumps([[] for _ in model.graph.graphs()]).encode()

    def refuse(proto: onnx.ModelProto, name: str, limits: object) -> bytes:
        raise ModelError("limit", f"{name}: functions are not expanded here")

    with (
        mock.patch.object(shapes, "start", lambda skeleton: Nothing(skeleton.proto.SerializeToString())),
        mock.patch.object(shapes, "_repair", unrepaired),
        mock.patch("npu_guard.analysis.shapes.sandbox.run", lambda call: Outcome("ok", call())),
        mock.patch("npu_guard.file.inline.inline_functions", refuse),
        mock.patch.object(load, "_parse_text", lambda data, name: _not_text(name)),
    ):
        yield


def _not_text(name: str) -> bytes:
    raise ModelError("not-onnx", f"{name}: text is not read here")
