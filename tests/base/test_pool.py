"""A pool that outlives its workers: every task has exactly one result, whoever dies."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from npu_guard.base.pool import AHEAD, ATTEMPTS, run_in_pool


def square(n: int) -> int:
    return n * n


def once(task: tuple[int, str]) -> int:
    """Kills its own process the first time."""
    n, folder = task
    if n == 5 and not (Path(folder) / "died").exists():
        (Path(folder) / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def always(task: tuple[int, str]) -> int:
    n, folder = task
    if n == 5:
        with open(Path(folder) / "deaths", "a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def test_results_of_all_tasks() -> None:
    assert sorted(run_in_pool(square, range(30), 2, lambda n: -1)) == [n * n for n in range(30)]


def test_tasks_are_not_pulled_far_ahead() -> None:
    pulled = []

    def tasks() -> object:
        for n in range(100):
            pulled.append(n)
            yield n

    results = run_in_pool(square, tasks(), 2, lambda n: -1)  # type: ignore[arg-type]
    next(results)
    assert len(pulled) <= 2 * AHEAD + 1
    results.close()


@pytest.mark.parametrize(("work", "expected"), [(once, 5), (always, -5)])
def test_a_worker_that_dies(tmp_path: Path, work: object, expected: int) -> None:
    tasks = [(n, str(tmp_path)) for n in range(20)]
    found = Counter(run_in_pool(work, tasks, 2, lambda task: -task[0]))  # type: ignore[arg-type]
    assert found == Counter([expected if n == 5 else n for n in range(20)])
    if work is always:
        assert len((tmp_path / "deaths").read_text()) == ATTEMPTS
