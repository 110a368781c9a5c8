"""Time and memory of whole processes."""

from __future__ import annotations

import os
import signal
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LIMIT_SECONDS = 120
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
"""Without PYTHONDONTWRITEBYTECODE above all: a process that compiles its modules each time is nobody's daily use."""


@dataclass
class Series:
    """The runs of one command; times in seconds, memory in bytes."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak: list[int] = field(default_factory=list)
    code: int = 0
    """The last exit code; negative for a signal."""

    @property
    def seconds(self) -> float:
        return statistics.median(self.wall)

    @property
    def megabytes(self) -> float:
        return statistics.median(self.peak) / 1e6

    def __str__(self) -> str:
        spread = f"({min(self.wall):.2f}-{max(self.wall):.2f})" if len(self.wall) > 1 else "(1 run)"
        return f"{self.seconds:7.2f} {spread:<13} {statistics.median(self.cpu):7.2f} {self.megabytes:8.0f}"


def ratio(one: Series, other: Series) -> float:
    """Median of the ratios within each round, so that a busy moment of the machine hits both sides."""
    return statistics.median(a / b for a, b in zip(one.wall, other.wall, strict=True))


HEAD = f"{'wall s':>7} {'':<13} {'CPU s':>7} {'peak MB':>8}"


def interleaved(commands: Mapping[str, Sequence[str]], runs: int, folder: Path) -> dict[str, Series]:
    """Run the commands in turn, `runs` rounds after one that only warms caches, so that drift hits all alike."""
    found = {name: Series() for name in commands}
    for turn in range(runs + 1):
        for name, command in commands.items():
            once(command, folder, found[name] if turn else Series())
    return found


def once(command: Sequence[str], folder: Path, series: Series) -> Series:
    """One run, its output discarded, appended to the series. Peak memory is the largest of the process and its children."""
    null = os.open(os.devnull, os.O_RDWR)
    streams = [(os.POSIX_SPAWN_DUP2, null, stream) for stream in (0, 1, 2)]
    before = Path.cwd()
    os.chdir(folder)
    start = time.perf_counter()
    # A group of its own, so that a program that hangs is ended with its children.
    child = os.posix_spawn(command[0], list(command), ENVIRONMENT, file_actions=streams, setpgroup=0)
    os.chdir(before)
    os.close(null)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(child, signal.SIGKILL))
    signal.alarm(LIMIT_SECONDS)
    try:
        _, status, usage = os.wait4(child, 0)
    except BaseException:  # Ctrl-C reaches this process only
        os.killpg(child, signal.SIGKILL)
        raise
    finally:
        signal.alarm(0)
    series.wall.append(time.perf_counter() - start)
    series.cpu.append(usage.ru_utime + usage.ru_stime)
    series.peak.append(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
    series.code = os.waitstatus_to_exitcode(status)
    return series
