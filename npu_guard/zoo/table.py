"""The seed table: all sample networks through everything, in processes of their own, and the table of what came out."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from npu_guard.fixing.ceiling import DEAR
from npu_guard.results.summary import Counts
from npu_guard.verification.feeds import enough_for_proved, feeds_in_words
from npu_guard.zoo import samples
from npu_guard.zoo.row import FAILED, SEEDS, Row, Settings, make_row

Progress = Callable[[str, str | None, int], None]
"""Told the name of a system, what is being done with it (None: it is done) and how many are."""

HEAD = ("id", "system", "before", "substitutions", "proof", "after", "error", "pieces", "MACs on NPU", "outcome")


def run_entries(entries: Sequence[samples.Entry], settings: Settings, jobs: int, progress: Progress) -> list[Row]:
    """Rows in the order of the entries. A process takes one system after the other; one that dies costs its system alone."""
    waiting, rows = deque(entries), dict[str, Row]()
    workers: list[_Worker] = []
    try:
        while len(rows) < len(entries):
            while waiting and len(workers) < jobs:
                workers.append(_Worker(settings))
                workers[-1].take(waiting.popleft())
            for ready in wait([w.pipe for w in workers]):
                worker = next(w for w in workers if w.pipe is ready)
                told = worker.hear()
                if isinstance(told, str):
                    progress(worker.entry.name, told, len(rows))
                    continue
                rows[told.id] = told
                progress(told.name, None, len(rows))
                if waiting and worker.alive:
                    worker.take(waiting.popleft())
                else:
                    worker.end()
                    workers.remove(worker)
    finally:
        for worker in workers:
            worker.end()
    return [rows[e.id] for e in entries]


class _Worker:
    """A process that makes rows, and what it is busy with."""

    def __init__(self, settings: Settings) -> None:
        # A fresh interpreter: a fork would share torch's threads, which do not survive it.
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(far, settings))
        self.process.start()
        far.close()
        self.alive = True
        self.entry: samples.Entry

    def take(self, entry: samples.Entry) -> None:
        self.entry = entry
        with contextlib.suppress(OSError):  # it died meanwhile, which is what hear() will find
            self.pipe.send(entry)

    def hear(self) -> str | Row:
        """What it does, or what came out, be it its own death."""
        try:
            told: str | Row = self.pipe.recv()
        except (EOFError, OSError):
            self.alive = False
            self.process.join()
            code = self.process.exitcode
            return Row(self.entry.id, self.entry.name, problem=f"the process died (exit {code}); memory may have run out")
        return told

    def end(self) -> None:
        self.pipe.close()
        self.process.join(5)  # it clears up after itself when it finds nobody there
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()


def _serve(pipe: Connection, settings: Settings) -> None:  # runs in the child
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            entry = pipe.recv()
            try:
                pipe.send(make_row(entry, settings, pipe.send))
            except Exception as error:  # a bug of ours costs this row and no other
                cause = f"{type(error).__name__}: {error}".splitlines()[0]
                pipe.send(Row(entry.id, entry.name, problem=f"a bug in npu-guard: {cause}"))


def processes() -> int:
    """How many systems to work on at once: one for each of this machine's cores, and no more than two for their memory."""
    return min(2, os.cpu_count() or 1)


def markdown(lines: Sequence[Sequence[str]], size: str) -> str:
    """The table of these lines in Markdown, aligned, with a note on how to read it."""
    lines = [HEAD, *lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    text = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(text) + f"\n\n{reading_note(size)}\n"


def reading_note(size: str) -> str:
    """How to read the table."""
    return (
        "Findings are errors / warnings. Substitutions are the exact ones, with how often each applied. The proof is what is "
        "known of each block that was replaced (docs/soundness.md), with their numbers where it is not the same for all. The "
        "error is the largest absolute difference of an output to the original's, and the ratio of signal to noise, on "
        f"{feeds_in_words(SEEDS[size])}, for proved networks "
        f"{feeds_in_words(SEEDS[size], chosen=enough_for_proved(SEEDS[size]))}. One that is not proved, is large and takes more "
        f"than {DEAR} times its bytes or MACs afterwards is run with one input of each kind. Pieces are on NPU + host, and the "
        "share of MACs is that of what fix left."
    )


def cells(r: Row) -> tuple[str, ...]:
    """A row as the table shows it, by the columns of `HEAD`."""
    if r.outcome == FAILED:
        return (r.id, r.name, *("",) * (len(HEAD) - 3), r.outcome)
    substitutions = ", ".join(f"{name} x{n}" if n > 1 else name for name, n in r.substitutions)
    pieces = "1 + 0" if r.pieces is None else f"{r.pieces[0]} + {r.pieces[1]}"
    # All is said of all alone.
    share = "100 %" if r.npu_macs_percent == 100.0 else f"{min(r.npu_macs_percent, 99.99):.2f} %"
    proofs = r.proofs[0][0] if len(r.proofs) == 1 else ", ".join(f"{n} {label}" for label, n in r.proofs)
    return (r.id, r.name, _counts(r.before), substitutions, proofs, _counts(r.after), _error(r.error), pieces, share, r.outcome)


def _counts(c: Counts) -> str:
    return f"{c.error} / {c.warning}" + (f" / {c.undecided} undecided" if c.undecided else "")


def _error(error: tuple[float, float] | None) -> str:
    if error is None:
        return ""
    largest, snr = error
    return "0" if largest == 0.0 else f"{largest:.0e} ({snr:.0f} dB)"


@contextlib.contextmanager
def display(total: int, *, shown: bool) -> Iterator[Progress]:
    """A bar over all systems and a line for each that is being worked on, on standard error, gone when the work is done."""
    if not shown:
        yield lambda name, what, done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        whole = bar.add_task("Sample networks", total=total)
        tasks: dict[str, TaskID] = {}

        def update(name: str, what: str | None, done: int) -> None:
            bar.update(whole, completed=done)
            if what is None:
                bar.remove_task(tasks.pop(name)) if name in tasks else None
            elif name in tasks:
                bar.update(tasks[name], description=f"{name}: {what}")
            else:
                tasks[name] = bar.add_task(f"{name}: {what}", total=None)

        yield update
