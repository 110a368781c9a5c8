"""Workers on this machine: a pool of processes that outlives the death of any of them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
ATTEMPTS = 3
AHEAD = 4
"""Tasks for each worker that are handed out before the first is back."""


def run_in_pool(
    work: Callable[[Task], Result], tasks: Iterable[Task], jobs: int, lost: Callable[[Task], Result]
) -> Iterator[Result]:
    """Results in the order in which they come. A task that kills its worker three times, alone at last, ends as `lost(task)`."""
    waiting = iter(tasks)
    suspects: list[Task] = []
    while True:
        suspects_now, suspects = suspects, []
        for task in suspects_now:  # a pool of one for each, so that it is known who killed it
            yield _alone(work, task, lost)
        running: dict[Future[Result], Task] = {}
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("forkserver")) as pool:
            broken = False
            exhausted = False
            while not broken and (running or not exhausted):
                while len(running) < jobs * AHEAD and not exhausted:
                    try:
                        task = next(waiting)
                    except StopIteration:
                        exhausted = True
                        break
                    try:
                        running[pool.submit(work, task)] = task
                    except BrokenProcessPool:
                        suspects.append(task)
                        broken = True
                        break
                done, _ = wait(running, return_when=FIRST_COMPLETED) if running else (set(), set())
                for future in done:
                    task = running.pop(future)
                    try:
                        yield future.result()
                    except BrokenProcessPool:
                        suspects.append(task)
                        broken = True
            for future, task in running.items():  # the pool died under these; some may have been done
                if future.done() and future.exception() is None:
                    yield future.result()
                else:
                    suspects.append(task)
        if not broken:
            return


def _alone(work: Callable[[Task], Result], task: Task, lost: Callable[[Task], Result]) -> Result:
    for _ in range(ATTEMPTS - 1):
        with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
            try:
                return pool.submit(work, task).result()
            except BrokenProcessPool:
                continue
    return lost(task)
