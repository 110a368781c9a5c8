"""Bounded fuzzing: `python fuzz/run.py [--seconds 60] [--jobs 2] [--full] [--first 0]`.

Each execution is determined by its number, so a failure is found again by it: `--first N --count 1`. What fails is written
to fuzz/failures/ as a model. Without --full only our own code runs, thousands of times a second; with it the sandboxed
native code and all text formats too.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import multiprocessing
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from mutations import damage, mutate  # noqa: E402
from oracle import execute, static_only  # noqa: E402
from seeds import seeds  # noqa: E402

HANG = 10.0
"""Seconds after which an execution counts as hanging."""
Counts = collections.Counter[str]


def model(number: int) -> bytes:
    """The input of an execution."""
    rng = random.Random(number)
    pool = seeds()
    data = pool[rng.randrange(len(pool))]
    if number % 8 == 0:
        return damage(damage(data, rng.randrange), rng.randrange)
    return mutate(data, rng.randrange, 1 + rng.randrange(4))


def worker(job: int, arguments: argparse.Namespace, results: multiprocessing.SimpleQueue[tuple[Counts, list[str]]]) -> None:
    end = time.monotonic() + arguments.seconds
    counts: Counts = collections.Counter()
    failures: list[str] = []
    step = arguments.jobs
    last = sys.maxsize if arguments.count is None else arguments.first + arguments.count
    with tempfile.TemporaryDirectory() as folder, contextlib.nullcontext() if arguments.full else static_only():
        path = Path(folder) / "m.onnx"
        number = arguments.first + job
        while number < last and time.monotonic() < end:
            data = model(number)
            current = Path(folder) / "current"
            current.write_text(str(number))
            faulthandler.dump_traceback_later(HANG, exit=True)  # a hang ends the worker, and the parent sees which it was
            began = time.process_time()
            try:
                counts[execute(data, path, formats=arguments.full)] += 1
            except Exception:
                counts["FAILED"] += 1
                failures.append(f"execution {number}: {traceback.format_exc(limit=-3)}")
                keep(number, data)
            if time.process_time() - began > HANG / 2:
                counts["SLOW"] += 1
                keep(number, data)
            number += step
        faulthandler.cancel_dump_traceback_later()
    results.put((counts, failures))


def keep(number: int, data: bytes) -> None:
    folder = HERE / "failures"
    folder.mkdir(exist_ok=True)
    (folder / f"{number}.onnx").write_bytes(data)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int)
    parser.add_argument("--full", action="store_true")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    processes = [context.Process(target=worker, args=(job, arguments, results)) for job in range(arguments.jobs)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    counts: Counts = collections.Counter()
    failures: list[str] = []
    while not results.empty():
        one, texts = results.get()
        counts.update(one)
        failures += texts
    dead = [p.exitcode for p in processes if p.exitcode]
    for text in failures[:20]:
        print(text)
    print(f"{counts.total()} executions: " + ", ".join(f"{n} {name}" for name, n in counts.most_common()))
    if dead:
        print(f"workers that died or hung: exit codes {dead}; the last number of each is lost, run again with --jobs 1")
    return int(bool(failures or dead or counts["SLOW"]))


if __name__ == "__main__":
    sys.exit(main())
