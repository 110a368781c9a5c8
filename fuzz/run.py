"""Bounded fuzzing: `python fuzz/run.py [--level static] [--seconds 60] [--count N] [--first 0] [--output docs/fuzzing.md]`.

Each execution is determined by its number, so a failure is found again by it: `--first N --count 1`. What fails is written
to fuzz/failures/. A worker that dies or hangs is a failure of the execution that it was at, and another takes
its place. Levels: `static`, our own code of `check` alone, hundreds of times a second; `full`, with the sandboxed native
code and all text formats; `deep`, where `check` could read the model, `fix`, `verify`, `partition` and `diff` too; `files`,
a good model beside which another file is mutated: a device, settings, a baseline, a plan, a manifest, calibration.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import multiprocessing
import multiprocessing.connection
import random
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from mutations import damage, mutate  # noqa: E402
from oracle import execute, rewrite, static_only  # noqa: E402
from quantities import OF_QUANTIZED  # noqa: E402
from seeds import quantized_seeds, seeds  # noqa: E402
from side_files import prepare, trial  # noqa: E402

STATIC = ("static", "quantized")
"""Levels of our own code alone."""
HANG = {"static": 20.0, "quantized": 20.0, "full": 20.0, "deep": 200.0, "files": 40.0}
"""Seconds after which an execution counts as hanging."""
BATCH = 500
DEVICES = (
    "qualcomm-htp", "ort-nnapi", "amd-dpu:DPUCZDX8G", "ethos-u85", "nvidia-dla", "rockchip-rk3588", "ti-tidl:AM68A",
    "kneron:KL730", "axera:AX650", "drobotics-bpu:X5", "ort-coreml:MLProgram", "aimotive-aiware",
)  # fmt: skip
"""Devices of `quantized`, in turn: their schemes differ."""
FIXED = "then "
"""How outcomes begin that are a second one of their execution."""
Counts = collections.Counter[str]


def model(number: int, level: str = "static") -> bytes:
    """The input of an execution."""
    rng = random.Random(number)
    pool = quantized_seeds() if level == "quantized" else seeds()
    data = pool[rng.randrange(len(pool))]
    if number % (32 if level == "quantized" else 8) == 0:
        return damage(damage(data, rng.randrange), rng.randrange)
    if level == "quantized":
        return mutate(data, rng.randrange, 1 + rng.randrange(3), OF_QUANTIZED, whole=32)
    return mutate(data, rng.randrange, 1 + rng.randrange(4))


def attempt(number: int, level: str, folder: Path) -> list[str]:
    """What an execution came to: one outcome, or two. Raises whatever is a failure."""
    if level == "files":
        return [trial(number, folder / "work")]
    path = folder / "m.onnx"
    device = DEVICES[number % len(DEVICES)] if level == "quantized" else None
    outcome = execute(model(number, level), path, formats=level not in STATIC, device=device)
    if level == "deep" and outcome in ("pass", "fail", "undecided"):
        return [outcome, f"{FIXED}{rewrite(path, folder)}"]
    return [outcome]


def kept(number: int, level: str, folder: Path) -> tuple[str, bytes]:
    """The input of an execution, to look at: what its file is called, and its content."""
    if level != "files":
        return f"{number}.onnx", model(number, level)
    given = prepare(number, folder / "work").given
    return f"{number}-{given.name}", given.read_bytes()


def worker(wire: Connection, level: str) -> None:
    """Run the batches that come, and say before each execution which it is and after each batch how it went."""
    if level != "files":
        model(0, level)  # the seeds are made once, and that is no execution's time
    with tempfile.TemporaryDirectory() as folder, static_only() if level in STATIC else contextlib.nullcontext():
        while (batch := wire.recv()) is not None:
            counts: Counts = collections.Counter()
            for number in range(*batch):
                wire.send(number)
                faulthandler.dump_traceback_later(HANG[level], exit=True)
                began = time.process_time()
                try:
                    counts.update(attempt(number, level, Path(folder)))
                except Exception:
                    counts["FAILED"] += 1
                    wire.send(f"execution {number}: {traceback.format_exc(limit=-3)}")
                if time.process_time() - began > HANG[level] / 2:
                    counts["FAILED"] += 1
                    wire.send(f"execution {number} took more than {HANG[level] / 2:g} s of CPU time")
            faulthandler.cancel_dump_traceback_later()
            wire.send(counts)


def executions(counts: Counts) -> int:
    return sum(n for name, n in counts.items() if not name.startswith(FIXED))


@dataclass(slots=True)
class Run:
    """What goes on, and what came of it."""

    batches: Iterator[tuple[int, int]]
    level: str
    deadline: float
    counts: Counts = field(default_factory=collections.Counter)
    failures: list[str] = field(default_factory=list)
    wires: dict[Connection, BaseProcess] = field(default_factory=dict)
    at: dict[Connection, tuple[int, int]] = field(default_factory=dict)
    """The execution that each worker is at, and the end of its batch."""

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=worker, args=(theirs, self.level), daemon=True)
        process.start()
        theirs.close()
        self.wires[ours] = process
        self.give(ours)

    def give(self, wire: Connection, batch: tuple[int, int] | None = None) -> None:
        """Another batch for a worker, or its end."""
        batch = batch or (next(self.batches, None) if time.monotonic() < self.deadline else None)
        wire.send(batch)
        if batch is None:
            self.wires.pop(wire).join()
        else:
            self.at[wire] = batch

    def listen(self) -> None:
        """Take what the workers say until all have ended."""
        told = time.monotonic()
        while self.wires:
            for wire in multiprocessing.connection.wait(list(self.wires), timeout=5):
                assert isinstance(wire, Connection)
                try:
                    said = wire.recv()
                except EOFError:
                    self.died(wire)
                    continue
                if isinstance(said, int):
                    self.at[wire] = said, self.at[wire][1]
                elif isinstance(said, str):
                    self.fail(self.at[wire][0], said)
                else:
                    self.counts.update(said)
                    self.give(wire)
            if time.monotonic() - told > 30:
                told = time.monotonic()
                print(f"{executions(self.counts)} executions, {len(self.failures)} failures", file=sys.stderr, flush=True)

    def died(self, wire: Connection) -> None:
        number, end = self.at[wire]
        process = self.wires.pop(wire)
        process.join()
        self.fail(number, f"execution {number} killed or hung its process: exit code {process.exitcode}")
        self.counts["FAILED"] += 1
        rest = (range(number + 1, end),) if number + 1 < end else ()
        self.batches = (b for source in (((r.start, r.stop) for r in rest), self.batches) for b in source)
        self.start()

    def fail(self, number: int, text: str) -> None:
        self.failures.append(text)
        print(text, flush=True)
        folder = HERE / "failures"
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as work:
            name, content = kept(number, self.level, Path(work))
        (folder / name).write_bytes(content)


def record(path: Path, title: str, first: int, counts: Counts) -> None:
    """Write what came of a run into its section of the page."""
    rows = "\n".join(f"| {name} | {n:,} |" for name, n in counts.most_common())
    made = f"numbers {first:,} to {first + executions(counts) - 1:,}, {counts['FAILED']} failed"
    record_text(path, title, f"**{executions(counts):,} executions**: {made}.\n\n| outcome | executions |\n|---|---|\n{rows}")


def record_text(path: Path, title: str, text: str) -> None:
    """Replace a section of the page."""
    page = path.read_text(encoding="utf-8")
    section = f"<!-- {title} -->\n{text}\n<!-- end -->"
    page, times = re.subn(rf"<!-- {title} -->.*?<!-- end -->", lambda _: section, page, flags=re.DOTALL)
    if times != 1:
        raise SystemExit(f"{path} has no place for this: a line <!-- {title} --> and after it one <!-- end -->")
    path.write_text(page, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int)
    parser.add_argument("--level", choices=tuple(HANG), default="static")
    parser.add_argument("--output", type=Path, help="the page to record the run in")
    arguments = parser.parse_args()
    last = sys.maxsize if arguments.count is None else arguments.first + arguments.count
    size = BATCH if arguments.level in STATIC else BATCH // 20
    starts = iter(range(arguments.first, last, size))
    run = Run(((n, min(n + size, last)) for n in starts), arguments.level, time.monotonic() + arguments.seconds)
    for _ in range(arguments.jobs):
        run.start()
    with contextlib.suppress(KeyboardInterrupt):  # then what was done until now counts
        run.listen()
    print(f"{executions(run.counts)} executions: " + ", ".join(f"{n} {name}" for name, n in run.counts.most_common()))
    if arguments.output is not None:
        record(arguments.output, arguments.level, arguments.first, run.counts)
    return int(bool(run.failures))


if __name__ == "__main__":
    sys.exit(main())
