"""What must hold whatever the file says: a report or one clear refusal, no crash, and output that forges nothing."""

from __future__ import annotations

import contextlib
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import onnx

from npu_guard import load, pipeline, registry, shapes
from npu_guard.config import Config
from npu_guard.errors import ModelError
from npu_guard.graph import Model
from npu_guard.results import Verdict
from npu_guard.sandbox import Outcome

CONFIG = Config()
FORMATS = ("text", "json", "sarif", "github", "gitlab", "junit", "markdown")
_RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_FORGED = re.compile(r"^::error file=x::|##vso\[", re.MULTILINE)


def execute(data: bytes, path: Path, *, formats: bool = False) -> str:
    """Check these bytes as a model file; the result is the verdict, or the kind of the refusal. Raises AssertionError."""
    path.write_bytes(data)
    report = pipeline.check_models([str(path)], CONFIG, layers=formats, hashes=formats)
    (model,) = report.models
    assert not model.crashes, model.crashes
    if model.error is not None:
        kind, message = model.error
        assert model.verdict is Verdict.UNREADABLE
        assert message.startswith(str(path)), message
        assert len(message) < 2000, f"a message of {len(message)} characters"
        assert pipeline.exit_code(report) == 3
    for name in FORMATS if formats else ():
        text = registry.renderer(name)(report, color=False)
        assert not _RAW.search(text), f"{name}: {_RAW.search(text)}"
        if name in ("text", "github", "markdown"):
            assert not _FORGED.search(text), f"{name}: {_FORGED.search(text)}"
        if name in ("json", "sarif", "gitlab"):
            json.loads(text)
    return kind if model.error is not None else model.verdict.value


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

    def refuse(proto: onnx.ModelProto, name: str, limits: object) -> onnx.ModelProto:
        raise ModelError("limit", f"{name}: functions are not expanded here")

    with (
        mock.patch.object(shapes, "start", lambda skeleton: Nothing(skeleton.proto.SerializeToString())),
        mock.patch.object(shapes, "_repair", unrepaired),
        mock.patch("npu_guard.shapes.sandbox.run", lambda call: Outcome("ok", call())),
        mock.patch.object(load, "_inline", refuse),
        mock.patch.object(load, "_parse_text", lambda data, name, limits: _not_text(name)),
    ):
        yield


def _not_text(name: str) -> bytes:
    raise ModelError("not-onnx", f"{name}: text is not read here")
