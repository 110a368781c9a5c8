"""A child process whose death, hang, output or greed is a result."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from npu_guard.base import sandbox


def explode() -> bytes:
    raise ValueError("no — \udcff such\nthing")


def forever() -> bytes:
    while True:
        pass


def sleep() -> bytes:
    time.sleep(900)
    return b"late"


def kill(number: int) -> bytes:
    os.kill(os.getpid(), number)
    return b"survived"


def greedy() -> bytes:
    return bytes(8 << 30)[:1]


def greedy_in_pieces() -> bytes:
    pieces = []
    while True:
        pieces.append(bytearray(64 << 20))


def native_out_of_memory() -> bytes:
    raise RuntimeError("std::bad_alloc")


def test_ok() -> None:
    assert sandbox.run(lambda: b"result\0\n.") == sandbox.Outcome("ok", b"result\0\n.")
    assert sandbox.run(lambda: b"") == sandbox.Outcome("ok", b"")


def test_an_exception_is_its_message() -> None:
    outcome = sandbox.run(explode)
    assert outcome.status == "error"
    assert outcome.text == "no — \\udcff such\nthing"


@pytest.mark.parametrize("call", [greedy, greedy_in_pieces, native_out_of_memory])
def test_memory(call: object) -> None:
    assert sandbox.run(call, seconds=20, memory=300 << 20).status == "memory"  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGTERM, signal.SIGFPE])
def test_death(number: signal.Signals) -> None:
    assert sandbox.run(lambda: kill(number)) == sandbox.Outcome("crash", b"")


def test_exit_is_a_crash() -> None:
    assert sandbox.run(lambda: os._exit(0)).status == "crash"  # type: ignore[func-returns-value]
    assert sandbox.run(lambda: sys.exit(0)).status == "crash"  # type: ignore[func-returns-value]


@pytest.mark.parametrize("call", [forever, sleep])
def test_time(call: object) -> None:
    before = time.monotonic()
    assert sandbox.run(call, seconds=0.5).status == "timeout"  # type: ignore[arg-type]
    assert time.monotonic() - before < 300, "it blocks"


def test_large_result() -> None:
    payload = os.urandom(1 << 20) * 50
    outcome = sandbox.run(lambda: payload)
    assert outcome.status == "ok"
    assert outcome.data == payload


CHATTY = """
import os, sys
from npu_guard.base import sandbox

def chatty():
    print("from the child", flush=True)
    os.write(1, b"raw output")
    os.write(2, b"raw error")
    return sys.stdin.read().encode() + b"quiet"

sys.stdout.write("once ")
print(sandbox.run(chatty).text)
"""


def test_output_is_swallowed_and_what_is_buffered_is_not_written_twice() -> None:
    done = subprocess.run([sys.executable, "-c", CHATTY], input=b"not for the child", capture_output=True, check=True)
    assert done.stdout == b"once quiet\n"
    assert done.stderr == b""


def test_a_crash_is_no_news() -> None:
    script = "import os\nfrom npu_guard.base import sandbox\nprint(sandbox.run(lambda: os.kill(os.getpid(), 11)).status)\n"
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", script], capture_output=True, check=True)
    assert done.stdout == b"crash\n"
    assert done.stderr == b""


def test_nothing_is_left_behind() -> None:
    def children() -> list[str]:
        return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()

    gc.collect()
    sandbox.collect()
    before, others = len(os.listdir("/proc/self/fd")), children()
    for call in [lambda: b"ok", explode, lambda: kill(signal.SIGSEGV)] * 17:
        sandbox.run(call)
    assert len(children()) <= len(others) + 3  # those that have just said all
    sandbox.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
    assert children() == others


def test_changes_stay_in_the_child() -> None:
    values = [1]

    def change() -> bytes:
        values.append(2)
        os.environ["NPU_GUARD_TEST"] = "1"
        return b""

    sandbox.run(change)
    assert values == [1]
    assert "NPU_GUARD_TEST" not in os.environ


def test_many_open_files() -> None:
    script = (
        "import os, resource\nfrom npu_guard.base import sandbox\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (min(2000, hard), hard))\n"
        "held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]\nprint(sandbox.run(lambda: b'fine').status)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert done.stdout == "ok\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(tmp_path: Path, closed: str) -> None:
    result = tmp_path / "result"
    script = f"from npu_guard.base import sandbox\nr = sandbox.run(lambda: b'fine')\nopen({str(result)!r}, 'wb').write(r.data)\n"
    subprocess.run(["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, script], check=True)
    assert result.read_bytes() == b"fine"


def test_a_child_runs_beside_and_ends_with_the_block() -> None:
    before = time.monotonic()
    with sandbox.Child(lambda: b"done") as child:
        time.sleep(0.05)
        assert child.result() == sandbox.Outcome("ok", b"done")
    with pytest.raises(KeyError), sandbox.Child(sleep):
        raise KeyError("something else went wrong")
    assert time.monotonic() - before < 300, "it blocks"
