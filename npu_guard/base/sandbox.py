"""Run native code where its death, hang or memory blow-up is a result and not the end of the process.

A forked child of the loaded process costs milliseconds, so this is the normal path and not a fallback.
Where the system cannot fork (Windows), the call runs in this process.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator

from msgspec import Struct

SECONDS = 30
PROCESSOR_SECONDS = 8
"""What a child may compute; a machine that is busy with something else may take longer for it, up to `SECONDS`."""
MEMORY_BYTES = 640 << 20
"""What a child may take beyond what the parent had mapped already, and twice as much again as the parent holds: more nodes, more
to do, up to `_TOGETHER`. So no file gets both beyond 1 GB, whatever it claims."""
_TOGETHER = 960 << 20


class Outcome(Struct, frozen=True):
    """`status` is `ok` (with `data`), `error` (the call raised; `data` is its message), `memory`, `timeout` or `crash`."""

    status: str
    data: bytes

    @property
    def text(self) -> str:
        """The message of a call that raised."""
        return self.data.decode("utf-8", "backslashreplace")


def run(
    call: Callable[[], bytes], seconds: float = SECONDS, memory: int = MEMORY_BYTES, processor: float | None = None
) -> Outcome:
    """The result of `call()` in a child process with limits on time and memory; its output streams are closed.

    `seconds` are those on the clock, `processor` those of all its threads together, by default `seconds` up to
    `PROCESSOR_SECONDS`; `memory` is in bytes.
    """
    with Child(call, seconds, memory, processor) as child:
        return child.result()


class Child:
    """A call that runs beside this process. Leaving the `with` block ends it, whatever it is doing."""

    def __init__(
        self,
        call: Callable[[], bytes],
        seconds: float = SECONDS,
        memory: int = MEMORY_BYTES,
        processor: float | None = None,
    ) -> None:
        self._call = call
        self._pid = self._pipe = -1
        self._deadline = time.monotonic() + seconds
        if not hasattr(os, "fork"):  # pragma: no cover - systems without fork
            return
        self._pipe, write_end = os.pipe()
        self._pid = fork()
        if self._pid == 0:
            whole = min(int(seconds) + 1, PROCESSOR_SECONDS) if processor is None else int(processor) + 1
            _child(call, self._pipe, write_end, whole, memory)
        os.close(write_end)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def result(self) -> Outcome:
        """Wait for the outcome; once only."""
        if self._pid < 0:  # pragma: no cover - systems without fork
            return attempt(self._call)
        data, timed_out = _read_all(self._pipe, self._deadline)
        names = {b"o": "ok", b"e": "error", b"m": "memory"}
        if not timed_out and data[:1] in names and data[-1:] == b".":
            self._let_end()
            return Outcome(names[data[:1]], data[1:-1])
        return of_death(self._end(), timed_out=timed_out)

    def _let_end(self) -> None:
        """Go on while the child, which has said all, gives its memory back: that takes as long as a small request."""
        os.close(self._pipe)
        leave(self._pid)
        self._pid = -1

    def _end(self) -> int:
        if self._pid < 0:
            return 0
        os.close(self._pipe)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)  # it has ended, or it has to
        _, status = os.waitpid(self._pid, 0)
        self._pid = -1
        return status


def of_death(status: int, *, timed_out: bool) -> Outcome:
    """The outcome of a call whose child has not said one, by the status that it ended with."""
    late = timed_out or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU)
    return Outcome("timeout" if late else "crash", b"")


_ending: list[int] = []
"""Children that have said all and may not have ended yet."""


def leave(pid: int) -> None:
    """Go on without a child that is about to end."""
    collect(wait=False)
    _ending.append(pid)


@atexit.register
def collect(*, wait: bool = True) -> None:
    """Take leave of children that have ended, or wait until all have; what they used counts as ours only then."""
    for pid in _ending.copy():
        try:
            ended = os.waitpid(pid, 0 if wait else os.WNOHANG)[0]
        except ChildProcessError:  # it was that of the process that we are a fork of
            ended = pid
        if ended:
            _ending.remove(pid)


def fork() -> int:
    """`os.fork`, with nothing in the streams that both sides would write."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by whoever started us
            stream.flush()
    with warnings.catch_warnings():
        # Python warns that other threads' locks may be held; numpy's idle pool is all there is, and the child uses none.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


@contextlib.contextmanager
def bounded(limit: int) -> Iterator[None]:
    """Work of our own in this process; MemoryError where it takes the memory that the process writes into beyond `limit` bytes.

    Nothing is bounded where the system does not tell what is used, or does not enforce it.
    """
    if not used_memory():
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    lower = limit if soft == resource.RLIM_INFINITY else min(limit, soft)
    resource.setrlimit(resource.RLIMIT_DATA, (lower, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def used_memory() -> int:
    """Bytes of memory that this process may write into; 0 where that cannot be known."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def attempt(call: Callable[[], bytes]) -> Outcome:
    """The call in this process, its errors as outcomes."""
    try:
        return Outcome("ok", call())
    except MemoryError:
        return Outcome("memory", b"")
    except Exception as error:  # the message is the result; the caller decides what it means
        if "bad_alloc" in str(error):
            return Outcome("memory", b"")
        return Outcome("error", str(error).encode("utf-8", "backslashreplace"))


def _child(call: Callable[[], bytes], read_end: int, write_end: int, processor: int, memory: int) -> None:
    """Never returns. Writes one status letter, the data, and a full stop that proves it is whole."""
    code = 1
    try:
        faulthandler.disable()  # a crash here is a result and no news
        os.close(read_end)
        (write_end,) = without_streams(write_end)
        limit(processor, memory)
        outcome = attempt(call)
        letter = outcome.status[:1].encode()
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(letter)
            pipe.write(outcome.data)
            pipe.write(b".")
        code = 0
    finally:
        os._exit(code)


def without_streams(*pipes: int) -> tuple[int, ...]:
    """In a child: nothing that native code prints goes anywhere. The result are the pipes, perhaps under other numbers."""
    moved = list(pipes)
    for i in range(len(moved)):
        while moved[i] < 3:  # where a stream was closed, the pipe has taken its number
            moved[i] = os.dup(moved[i])
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    return tuple(moved)


def grant_time(seconds: int = PROCESSOR_SECONDS) -> None:
    """In a child: that much time of the processor from now on."""
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1 + seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def limit(processor: int | None, memory: int) -> None:
    """In a child: bounds of its memory and, where a number is given, of its time on the processor."""
    import resource  # not there on Windows, and neither is this child

    if processor is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    own = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (own, own))  # what bounds the parent's own work is no bound of the child's
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            mapped, held = (int(pages) * resource.getpagesize() for pages in statm.read().split()[:2])
    except OSError:  # no procfs, and there RLIMIT_AS is not enforced either
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    more = 2 * held
    if memory <= MEMORY_BYTES:  # who asks for more than that has reckoned with what the model needs
        more = min(more, max(0, _TOGETHER - memory - held))
    most = mapped + memory + more
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _read_all(descriptor: int, deadline: float) -> tuple[bytes, bool]:
    chunks: list[bytes] = []
    poll = select.poll()  # select() ends at descriptor 1023
    poll.register(descriptor, select.POLLIN)
    while True:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return b"".join(chunks), True
        chunk = os.read(descriptor, 1 << 20)
        if not chunk:
            return b"".join(chunks), False
        chunks.append(chunk)
