"""Workers on a cluster, through Ray: tasks of lost nodes are run again elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from npu_guard.base.errors import UsageError

Task = TypeVar("Task")
Result = TypeVar("Result")
ATTEMPTS = 3
AHEAD = 4


def run_on_cluster(
    work: Callable[[Task], Result], tasks: Iterable[Task], address: str, lost: Callable[[Task], Result]
) -> Iterator[Result]:
    """Results in the order in which they come, from the cluster at `address` (`auto`, or `ray://host:10001`).

    Raises UsageError where Ray is missing or no cluster answers. A task whose worker is lost each time ends as `lost(task)`.
    """
    try:
        import ray
    except ImportError:
        raise UsageError("scan --address needs Ray; pip install 'npu-guard[cluster]'") from None
    try:
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        raise UsageError(f"scan --address {address}: no cluster answers ({str(error).splitlines()[0][:200]})") from None

    def perform(task: Task) -> Result:  # Ray takes functions, and `work` may be a partial one
        return work(task)

    remote = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(perform)
    waiting = iter(tasks)
    running: dict[object, Task] = {}
    exhausted = False
    while running or not exhausted:
        most = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))  # nodes come and go
        while len(running) < most and not exhausted:
            try:
                task = next(waiting)
            except StopIteration:
                exhausted = True
                break
            running[remote.remote(task)] = task
        if not running:
            break
        ready, _ = ray.wait(list(running), num_returns=1, timeout=10.0)
        for reference in ready:
            task = running.pop(reference)
            try:
                yield ray.get(reference)
            except ray.exceptions.RayError:
                yield lost(task)
