"""ONNX Runtime in a process of its own, so that its death, hang or memory blow-up is a result.

`Runtime` is the near side. Run as a module, this file is the far side: requests and answers are a JSON line and arrays in
numpy's format without pickles.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from npu_guard.errors import UsageError

Array = NDArray[Any]
Arrays = Mapping[str, Array]
MEMORY_BYTES = 8 << 30
START = 20.0
"""Seconds that a busy machine may take to start the child and to load the model."""


class CannotRun(Exception):
    """ONNX Runtime refused the model, or did not survive it. The message is one line."""


class Runtime:
    """A child process that runs models with all optimisations off. A context manager; starts itself again after a death.

    It has `seconds` for each feed of a request, and START besides.
    """

    def __init__(self, seconds: float = 300.0) -> None:
        self.seconds = seconds
        self.runs = 0.0
        """Seconds that the child spent in runs, for the overhead figure of the bench."""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
            self._process = None

    def run(
        self, model: bytes, folder: Path, feeds: Sequence[Arrays], outputs: Sequence[str] | None = None, *, int8: bool = False
    ) -> list[dict[str, Array]]:
        """Outputs of a model for each of the feeds; external data lies in `folder`. Raises CannotRun.

        With `int8`, the model is quantized first, and calibrated with these feeds.
        """
        if self._process is None:
            self._process = self._start()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        limit = START + self.seconds * max(1, len(feeds))
        deadline = time.monotonic() + limit
        try:
            with tempfile.TemporaryDirectory(prefix="npu-guard-") as scratch:
                path = Path(scratch) / "model"
                path.write_bytes(model)
                request = {"model": str(path), "folder": str(folder), "outputs": outputs, "int8": int8}
                _write(self._process.stdin, request, [a for feed in feeds for a in (feed,)])
                head, answers = _read(_Timed(self._process.stdout, deadline))
        except (OSError, EOFError) as error:
            code = self._process.poll()
            self.close()
            if isinstance(error, TimeoutError):
                raise CannotRun(f"ONNX Runtime did not end within {limit:.0f} s") from None
            raise CannotRun(f"ONNX Runtime died on the model{'' if code is None else f' (exit {code})'}") from None
        if "error" in head:
            raise CannotRun(head["error"])
        self.runs += head["seconds"]
        return answers

    def _start(self) -> subprocess.Popen[bytes]:
        if importlib.util.find_spec("onnxruntime") is None:
            raise UsageError("comparing models needs ONNX Runtime: pip install 'npu-guard[fix]'")
        environment = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count() or 1)}
        return subprocess.Popen(
            [sys.executable, "-m", "npu_guard.runtime"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env=environment, cwd=Path(__file__).parent.parent, start_new_session=True,
        )  # fmt: skip


class _Timed:
    """Reads from a pipe until a deadline."""

    def __init__(self, pipe: IO[bytes], deadline: float) -> None:
        self.descriptor = pipe.fileno()
        self.deadline = deadline

    def read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            ready, _, _ = select.select([self.descriptor], [], [], max(0.0, self.deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            chunk = os.read(self.descriptor, min(size - len(data), 1 << 20))
            if not chunk:
                raise EOFError
            data += chunk
        return bytes(data)


def _write(pipe: IO[bytes], head: Mapping[str, Any], groups: Sequence[Arrays]) -> None:
    """A message: the head with the arrays' names, then the arrays."""
    names = [list(group) for group in groups]
    text = json.dumps({**head, "arrays": names}).encode()
    pipe.write(struct.pack("<Q", len(text)) + text)
    for group in groups:
        for array in group.values():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            pipe.write(struct.pack("<Q", buffer.tell()))
            pipe.write(buffer.getbuffer())
    pipe.flush()


def _read(pipe: Any) -> tuple[dict[str, Any], list[dict[str, Array]]]:
    (length,) = struct.unpack("<Q", pipe.read(8))
    head = json.loads(pipe.read(length))
    groups = []
    for names in head["arrays"]:
        group = {}
        for name in names:
            (length,) = struct.unpack("<Q", pipe.read(8))
            group[name] = np.load(io.BytesIO(pipe.read(length)), allow_pickle=False)
        groups.append(group)
    return head, groups


def _serve() -> None:  # runs in the child
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # ONNX Runtime prints banners to standard output, which would break the answers
    _limit_memory()
    if sys.platform == "linux":  # a model that never ends must not outlive whoever asked, who may have been killed
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of prctl(2)
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)

    class Exact:
        def read(self, size: int) -> bytes:
            data = sys.stdin.buffer.read(size)
            if len(data) < size:
                sys.exit(0)
            return data

    while True:
        request, feeds = _read(Exact())
        try:
            seconds, results = _run(onnxruntime, request, feeds)
            _write(answers, {"seconds": seconds}, results)
        except Exception as error:  # whatever ONNX Runtime raises is the answer
            _write(answers, {"error": " ".join(str(error).split())[:500] or type(error).__name__}, [])


def _run(onnxruntime: Any, request: Mapping[str, Any], feeds: Sequence[Arrays]) -> tuple[float, list[dict[str, Array]]]:
    options = onnxruntime.SessionOptions()
    # The optimiser would rewrite both sides of a comparison to the same thing.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", request["folder"])
    content = Path(request["model"]).read_bytes()
    if request["int8"]:
        from npu_guard.quantize import quantized

        content = quantized(content, request["folder"], feeds)
    start = time.perf_counter()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = request["outputs"] or [o.name for o in session.get_outputs()]
    results = []
    for feed in feeds:
        values = session.run(names, dict(feed))
        results.append({n: np.asarray(v) for n, v in zip(names, values, strict=True)})
    return time.perf_counter() - start, results


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not a Unix
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    _serve()
