"""Run a compiler where it cannot do harm: limits on time and memory, a temporary folder, and no process of it left behind."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_guard.base.errors import UsageError

KEPT_BYTES = 8 << 20
"""Of a longer log the beginning and the end are kept, this much of each."""

# Runs in an interpreter of ours and becomes the compiler, so that no code has to run between fork and exec of this process.
_LIMITER = (
    "import os, resource, sys\n"
    "limit = int(sys.argv[1])\n"
    "_, hard = resource.getrlimit(resource.RLIMIT_AS)\n"
    "limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)\n"
    "resource.setrlimit(resource.RLIMIT_AS, (limit, hard))\n"
    "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
    "try: os.execvp(sys.argv[2], sys.argv[2:])\n"
    "except OSError as error: sys.exit(f'npu-guard: {sys.argv[2]}: {error.strerror}')\n"
)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended. `code` is its exit code, negative for a signal, None where the time was over."""

    code: int | None
    log: str
    """Standard output and error, as they came."""


def run(command: Sequence[str], folder: Path, seconds: float, memory: int) -> Ended:
    """Run a command in a folder, which is its TMPDIR as well. Raises UsageError where there is no such program."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    whole = [sys.executable, "-I", "-c", _LIMITER, str(memory), *command] if os.name == "posix" else list(command)
    if os.name == "posix" and shutil.which(command[0]) is None:
        raise UsageError(f"the compiler's program {command[0]!r} is not there, or cannot be run")
    try:
        process = subprocess.Popen(
            whole, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise UsageError(f"the compiler {command[0]!r} cannot be started ({error.strerror or error})") from None
    assert process.stdout is not None
    with process.stdout as pipe:
        try:
            log, in_time = _read(pipe.fileno(), process, time.monotonic() + seconds)
        finally:
            _end(process)  # whatever it started is in its group, and what still runs now is not wanted
    return Ended(process.returncode if in_time else None, log.decode("utf-8", "replace"))


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:  # pragma: no cover - systems without process groups
            process.kill()
    process.wait()


def _read(descriptor: int, process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bool]:
    """The log, and whether the process ended before the deadline. A child that it leaves behind may hold the pipe open."""
    head, tail = bytearray(), bytearray()
    while time.monotonic() < deadline:
        if select.select([descriptor], [], [], 0.05)[0]:
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                break
            tail += chunk
            if len(head) < KEPT_BYTES:
                room = KEPT_BYTES - len(head)
                head += tail[:room]
                del tail[:room]
            elif len(tail) > 2 * KEPT_BYTES:
                del tail[:-KEPT_BYTES]
        elif process.poll() is not None:
            break
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return bytes(head + tail), False
    return bytes(head + tail), True
