"""A forked child that stays and answers one small request after the other, for whoever runs native code many times.

A fork copies the tables of all memory that the process holds, so forty of them are a third of a short `fix`. What such a child
does not survive, or cannot do, is done again in a child of its own (`sandbox.py`): each verdict is that of a fresh process.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import select
import signal
import struct
import time
from collections.abc import Callable

from npu_guard.base import sandbox

SMALL = 1 << 20
"""Bytes of a request; a larger one costs more to hand over than a fork, which hands over everything."""
REQUESTS = 1000
"""Requests of one child, so that what native code loses of its memory does not add up."""
_HEAD = struct.Struct("<cQ")


class Standing:
    """One function of bytes to bytes, in a child."""

    def __init__(self, call: Callable[[bytes], bytes]) -> None:
        self._call = call
        self._pid = self._to = self._from = -1
        self._owner = self._asked = 0
        self._fresh = False
        """Whether the child has answered nothing yet, so that what becomes of it is the verdict of a fresh process."""
        self.busy = False

    def ask(self, content: bytes) -> sandbox.Child:
        """The call of `content`, under way. What is asked while another answer is awaited has a child of its own."""
        if self._owner != os.getpid():  # a fork of ours has the numbers of another's child
            self._forget()
            self._owner = os.getpid()
        self._asked += 1
        if self.busy or len(content) > SMALL or not hasattr(os, "fork"):
            return sandbox.Child(lambda: self._call(content))
        if self._asked % REQUESTS == 0:
            self.end()
        try:
            if self._pid < 0:
                self._start(content)
            else:
                _write(self._to, _HEAD.pack(b"?", len(content)) + content)
        except OSError:  # it died since
            self.end()
            return sandbox.Child(lambda: self._call(content))
        self.busy = True
        return _Asked(self, content)

    def answer(self, content: bytes) -> sandbox.Outcome:
        """Wait for the answer to the last request."""
        deadline = time.monotonic() + sandbox.SECONDS
        fresh, self._fresh, letter = self._fresh, False, b""
        head = _read(self._from, _HEAD.size, deadline)
        if head is not None:
            letter, length = _HEAD.unpack(head)
            data = _read(self._from, length, deadline)
            if data is not None and letter in b"oe":
                self.busy = False
                return sandbox.Outcome("ok" if letter == b"o" else "error", data)
        late = time.monotonic() >= deadline
        status = self.end()
        if not fresh:
            return sandbox.run(lambda: self._call(content))
        return sandbox.Outcome("memory", b"") if letter == b"m" else sandbox.of_death(status, timed_out=late)

    def end(self) -> int:
        """End the child, whatever it is doing; the status that it ended with."""
        pid = self._pid
        if pid < 0 or self._owner != os.getpid():
            return 0
        for end in (self._to, self._from):
            os.close(end)
        self._forget()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return os.waitpid(pid, 0)[1]

    def rest(self) -> None:
        """Let the child go, once it has said what it was asked last: it ends beside whatever the process does next."""
        pid = self._pid
        if pid < 0 or self.busy or self._owner != os.getpid():
            return
        for end in (self._to, self._from):
            os.close(end)
        self._forget()
        sandbox.leave(pid)

    def _forget(self) -> None:
        self._pid = self._to = self._from = -1
        self.busy = False

    def _start(self, content: bytes) -> None:
        """A fork hands the first request over as it is; a pipe would hold up whoever asks until the child reads."""
        read_end, self._to = os.pipe()
        self._from, write_end = os.pipe()
        self._pid = sandbox.fork()
        if self._pid == 0:
            os.close(self._to)
            os.close(self._from)
            _serve(self._call, read_end, write_end, content)
        os.close(read_end)
        os.close(write_end)
        self._fresh = True
        atexit.register(self.end)


class _Asked(sandbox.Child):
    """A request to a child that stays."""

    def __init__(self, to: Standing, content: bytes) -> None:
        self._standing = to
        self._content = content

    def __exit__(self, *_: object) -> None:
        if self._standing.busy:  # nobody wants the answer, which would be taken for that to the next
            self._standing.end()

    def result(self) -> sandbox.Outcome:
        return self._standing.answer(self._content)


def _serve(call: Callable[[bytes], bytes], read_end: int, write_end: int, first: bytes) -> None:
    """Never returns: answers until nobody can ask any more. A result has its status letter and its length in front."""
    try:
        faulthandler.disable()
        read_end, write_end = sandbox.without_streams(read_end, write_end)
        _close_others(read_end, write_end)
        sandbox.limit(None, sandbox.MEMORY_BYTES)
        content: bytes | None = first
        while content is not None:
            sandbox.grant_time()
            outcome = sandbox.attempt(lambda content=content: call(content))  # type: ignore[misc]
            _write(write_end, _HEAD.pack(outcome.status[:1].encode(), len(outcome.data)) + outcome.data)
            head = _read(read_end, _HEAD.size)
            content = None if head is None else _read(read_end, _HEAD.unpack(head)[1])
    finally:
        os._exit(0)


def _close_others(*kept: int) -> None:
    """Close what the process had open: who waits for the end of a pipe, or for a lock, would wait as long as this child lives."""
    try:
        opened = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:  # no Linux
        opened = list(range(min(os.sysconf("SC_OPEN_MAX"), 1 << 16)))
    for descriptor in opened:
        if descriptor > 2 and descriptor not in kept:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _read(descriptor: int, size: int, deadline: float | None = None) -> bytes | None:
    """That many bytes; None where the other side has ended, or the time has."""
    data = bytearray()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while len(data) < size:
        if deadline is not None and not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None
        chunk = os.read(descriptor, min(size - len(data), 1 << 20))
        if not chunk:
            return None
        data += chunk
    return bytes(data)
