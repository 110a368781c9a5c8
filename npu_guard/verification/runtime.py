"""ONNX Runtime in a process of its own, so that its death, hang or memory blow-up is a result.

`Runtime` is the near side. Run as a module, this file is the far side: requests and answers are a line of JSON and the bytes of
arrays. What a request may take is a `RunLimits`; a model that has used up its time gets no other.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import select
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from npu_guard.base.errors import UsageError
from npu_guard.base.regex import regex
from npu_guard.verification.run_limits import GENEROUS, MEMORY, TIME, RunLimits
from npu_guard.verification.scheme import Scheme

Array = NDArray[Any]
Arrays = Mapping[str, Array]
START = 60.0
"""Seconds that the child may take to start, which no model has any part in."""
_IDLE = 10.0
"""A process that is not given the machine is given up in the end, after so many times what it may take."""
_THREAD = 16 << 20
"""Bytes for the stack of a thread and what it keeps for itself."""
_LOADED = 1e7
"""Bytes of a model that are loaded in a second by a slow core."""
_MEMORY = regex("bad_alloc|MemoryError|[Uu]nable to allocate|[Ff]ailed to allocate|bad allocation|length_error")


class CannotRun(Exception):
    """ONNX Runtime refused the model, or did not survive it. The message is one line."""


class LacksMemory(CannotRun):
    """What the limits grant of memory did not suffice."""


class Runtime:
    """A child process that runs models with all optimisations off. A context manager; starts itself again after a death.

    `limits` says what each request may take. The first that takes more time is the last: all others are refused at once.
    """

    def __init__(self, limits: RunLimits = GENEROUS) -> None:
        self.limits = limits
        self.runs = 0.0
        """Seconds that the child spent in runs, for the overhead figure of the bench."""
        self._process: subprocess.Popen[bytes] | None = None
        self._over = ""

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
        self, model: bytes, folder: Path, feeds: Sequence[Arrays], outputs: Sequence[str] | None = None, *,
        scheme: Scheme | None = None, alone: Sequence[str] = (), only: bool = False,
    ) -> list[dict[str, Array]]:  # fmt: skip
        """Outputs of a model for each of the feeds; external data lies in `folder`. Raises CannotRun.

        With a scheme, the model is quantized first, and calibrated with these feeds; of the nodes `alone`, where any are named.
        """
        how = {
            "folder": str(folder), "outputs": outputs, "scheme": None if scheme is None else msgspec.to_builtins(scheme),
            "alone": list(alone), "only": only,
        }  # fmt: skip
        try:
            return self._asked(model, feeds, how | {"arena": True})
        except LacksMemory:
            # An arena takes up to twice what is asked of it, and what lies outside of it lacks that; and models that ran before
            # leave holes. A fresh process without one takes what the model needs, and somewhat longer.
            self.close()
            return self._asked(model, feeds, how | {"arena": False})

    def _asked(self, model: bytes, feeds: Sequence[Arrays], how: Mapping[str, Any]) -> list[dict[str, Array]]:
        if self._over:
            raise CannotRun(self._over)
        if self._process is None:
            self._process = self._start()
        # What a rewrite has added is in the message, and nobody's claim.
        seconds = self.limits.seconds(len(feeds)) + len(model) / _LOADED
        memory = self.limits.memory + 4 * len(model)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            with tempfile.TemporaryDirectory(prefix="npu-guard-") as scratch:
                path = Path(scratch) / "model"
                path.write_bytes(model)
                request = {"model": str(path), "memory": memory, **how}
                _write(self._process.stdin, request, [a for feed in feeds for a in (feed,)])
                head, answers = _read(_Timed(self._process, seconds, memory // 2))
        except (OSError, EOFError) as error:
            code = self._process.poll()
            self.close()
            if isinstance(error, TimeoutError):
                self._over = f"ONNX Runtime did not end within {seconds:.3g} s; {TIME}"
                raise CannotRun(self._over) from None
            raise CannotRun(f"ONNX Runtime died on the model{'' if code is None else f' (exit {code})'}") from None
        except _TooMuch:
            self.close()
            raise CannotRun(f"what comes out is more than {memory // 2 >> 20} MiB; {MEMORY}") from None
        if "error" in head:
            if _MEMORY.search(head["error"]):
                raise LacksMemory(f"ONNX Runtime needs more than {memory >> 20} MiB of memory; {MEMORY}")
            raise CannotRun(head["error"])
        self.runs += head["seconds"]
        return answers

    def quantize(self, model: bytes, folder: Path, feeds: Sequence[Arrays], scheme: Scheme) -> bytes:
        """The quantized form of a model, calibrated with these feeds. Raises CannotRun."""
        (answer,) = self.run(model, folder, feeds, scheme=scheme, only=True)
        return answer["model"].tobytes()

    def _start(self) -> subprocess.Popen[bytes]:
        if importlib.util.find_spec("onnxruntime") is None:
            raise UsageError("comparing models needs ONNX Runtime: pip install 'npu-guard[fix]'")
        # Since 1.29, ONNX Runtime reports to its makers the names and hashes of the models that it loads, unless told not to.
        telling = {"OMP_NUM_THREADS": str(os.cpu_count() or 1), "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
        environment = {**os.environ, **telling}  # numpy only hands numbers over there
        process = subprocess.Popen(
            [sys.executable, "-m", "npu_guard.verification.child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env=environment, cwd=Path(__file__).parents[2], start_new_session=True,
        )  # fmt: skip
        self._process = process
        try:
            _read(_Timed(process, START, 1 << 16))
        except (OSError, EOFError) as error:
            code = process.poll()
            self.close()
            why = f"within {START:.0f} s" if isinstance(error, TimeoutError) else f"(exit {code})"
            raise CannotRun(f"ONNX Runtime could not be started {why}") from None
        return process


class _TooMuch(Exception):
    """An answer is larger than it may be."""


class _Timed:
    """Reads an answer of a child, so many bytes at most, while the child has time left.

    Time is that on the clock without the time in which the child's main thread waited for a core, where the system tells it: on
    a machine that is busy with other things, a model gets as far as on an idle one.
    """

    def __init__(self, process: subprocess.Popen[bytes], seconds: float, most: int) -> None:
        assert process.stdout is not None
        self._descriptor = process.stdout.fileno()
        self._pid = process.pid
        self._began, self._waited = time.monotonic(), _waited(process.pid)
        self._seconds = seconds
        self._most = most

    def _left(self) -> float:
        passed = time.monotonic() - self._began
        if passed > self._seconds * _IDLE + START:
            return 0.0
        return self._seconds - (passed - (_waited(self._pid) - self._waited))

    def read(self, size: int) -> bytearray:
        self._most -= size
        if self._most < 0:
            raise _TooMuch
        data = bytearray()
        while len(data) < size:
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, min(0.25, self._left())))
            if ready:
                chunk = os.read(self._descriptor, min(size - len(data), 1 << 20))
                if not chunk:
                    raise EOFError
                data += chunk
            elif self._left() <= 0:
                raise TimeoutError
        return data


def _waited(pid: int) -> float:
    """Seconds for which the main thread of a process has waited for a core; 0 where that cannot be known."""
    try:
        with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _write(pipe: IO[bytes], head: Mapping[str, Any], groups: Sequence[Arrays]) -> None:
    """A message: the head with name, type and shape of each array, then what they hold. Raises ValueError for strings."""
    plain = [{name: np.ascontiguousarray(array) for name, array in group.items()} for group in groups]
    if any(array.dtype.hasobject or array.dtype.kind in "SU" for group in plain for array in group.values()):
        raise ValueError("an output is no tensor of numbers, and cannot be compared")
    arrays = [[(name, array.dtype.name, groups[i][name].shape) for name, array in group.items()] for i, group in enumerate(plain)]
    text = json.dumps({**head, "arrays": arrays}).encode()
    pipe.write(struct.pack("<Q", len(text)) + text)
    for group in plain:
        for array in group.values():
            pipe.write(array.reshape(-1).view(np.uint8).data)
    pipe.flush()


def _read(pipe: Any) -> tuple[dict[str, Any], list[dict[str, Array]]]:
    (length,) = struct.unpack("<Q", pipe.read(8))
    head = json.loads(pipe.read(length))
    groups = []
    for arrays in head["arrays"]:
        group = {}
        for name, kind, shape in arrays:
            dtype = np.dtype(kind)
            content = pipe.read(math.prod(shape) * dtype.itemsize)
            group[name] = np.frombuffer(content, dtype).reshape(shape)
        groups.append(group)
    return head, groups
