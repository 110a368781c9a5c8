"""The flow of `scan`: sources -> what is new -> workers -> store. Interrupted anywhere, the next run goes on from there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from npu_guard.checking import registry
from npu_guard.file.source import ModelSource
from npu_guard.file.sources import sources
from npu_guard.fleet import work
from npu_guard.fleet.store import Store, stored
from npu_guard.fleet.work import Done, Row
from npu_guard.gate.stamp import stamp
from npu_guard.project.config import Config

Progress = Callable[[Done | None, int, int], None]
"""Told of each model as it is done (None: done before), how many are, and of how many."""


class Workers(Protocol):
    """Who checks: see `run_in_pool` and `run_on_cluster`."""

    def __call__(  # noqa: D102 - as the class says
        self, run: Callable[[ModelSource], Done], tasks: Iterable[ModelSource], lost: Callable[[ModelSource], Done]
    ) -> Iterator[Done]: ...


@dataclass(slots=True)
class Tally:
    """What a scan did: models checked now, known from before, and already reported by the interrupted run."""

    run: int
    checked: int = 0
    known: int = 0
    resumed: int = 0


def scan(given: Sequence[str], config: Config, store: Store, workers: Workers, progress: Progress) -> Tally:
    """Check every model that has no result yet, and record one for each name. Raises UsageError, ModelError (sources)."""
    profile = registry.profile(config.profile)
    under = stamp(config)
    tally = Tally(store.begin(profile.name, under, given))
    reported = store.reported(tally.run)
    listed = list(sources(given))
    count = 0

    def note(done: Done | None) -> None:
        nonlocal count
        if done is not None:
            store.add(tally.run, under, done)
        count += 1
        progress(done, count, len(listed))

    def new() -> Iterator[ModelSource]:
        for source in listed:
            if stored(source.name) in reported:
                tally.resumed += 1
                note(None)
            elif (row := store.known(under, source.name, source.mark)) is not None and work.holds(source, row):
                tally.known += 1
                note(Done(source.name, source.mark, source.size, row))
            else:
                yield source

    for done in workers(functools.partial(work.run, config=config), new(), _lost):
        tally.checked += 1
        note(done)
    store.finish(tally.run)
    return tally


def _lost(source: ModelSource) -> Done:
    message = f"{source.name}: every worker that checked it died"
    # No mark: the next run tries again.
    return Done(source.name, "", source.size, Row(work.refusal_key(source), "unreadable", "crashed", message))
