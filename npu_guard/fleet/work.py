"""What a worker does: check one model and say what was found in a row that is small enough to keep for ever."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import msgspec

from npu_guard.base.address import is_url
from npu_guard.base.errors import ModelError, UsageError
from npu_guard.checking import registry
from npu_guard.file import external_data, load
from npu_guard.file.skeleton import Skeleton
from npu_guard.file.source import ModelSource
from npu_guard.pipeline.check import check_skeleton
from npu_guard.project.config import Config
from npu_guard.results.findings import ModelReport, Outcome

SECONDS = 120.0
"""For one model, however it comes: what takes longer is a result of its own and holds nothing up."""
VERDICTS = ("pass", "fail", "undecided", "unreadable", "internal")
_SHOWN = 20
_LASTING = frozenset({"not-onnx", "truncated", "unsupported-version", "limit"})
"""Refusals that follow from the file alone."""


class Shown(msgspec.Struct, frozen=True):
    """A finding as the fleet report names it."""

    rule: str
    severity: str
    outcome: str
    node: str
    message: str


class Row(msgspec.Struct, frozen=True):
    """One model against one device. `key` is that of its structure (`load.Content`): equal keys and stamps have equal results."""

    key: str
    verdict: str
    """One of VERDICTS."""
    error_kind: str = ""
    error: str = ""
    rules: dict[str, tuple[int, int, int]] = {}
    """Errors, warnings with notes, and undecided findings, by rule."""
    shown: tuple[Shown, ...] = ()
    nodes: int = 0
    params: int = 0
    macs: int = 0
    npu_macs_percent: float = 0.0
    seconds: float = 0.0
    """CPU time."""
    requests: int = 0
    fetched: int = 0
    """Bytes read from an object store; 0 for files."""
    beside: dict[str, int] = {}
    """Sizes of the files of weights that were there, by location."""

    @property
    def counts(self) -> tuple[int, int, int]:
        """Errors, warnings with notes, undecided."""
        return (
            sum(r[0] for r in self.rules.values()), sum(r[1] for r in self.rules.values()), sum(r[2] for r in self.rules.values())
        )  # fmt: skip


class Done(msgspec.Struct, frozen=True):
    """A row and the model that it is about."""

    name: str
    mark: str
    size: int
    row: Row


class _Late(Exception):
    pass


def run(source: ModelSource, config: Config) -> Done:
    """Check one model; whatever it does, the result is a row."""
    began = time.process_time()
    skeleton, buffer = None, None
    try:
        with _deadline(SECONDS):
            if is_url(source.name):
                skeleton, buffer = load.load_remote(source.name, config.limits, keyed=True)
            else:
                skeleton = load.load(source.name, config.limits, keyed=True)
            report, dependencies = check_skeleton(skeleton, registry.profile(config.profile), config)
    except (ModelError, UsageError) as error:  # one model without the input that --input-shape names costs no other its result
        lasting = error.kind in _LASTING or (error.kind == "invalid" and (skeleton is None or not _has_weights_beside(skeleton)))
        return _refused(source, error.kind, str(error), began, lasting)
    except _Late:
        return _refused(source, "timeout", f"{source.name}: took more than {SECONDS:.0f} s", began)
    except MemoryError:
        return _refused(source, "memory", f"{source.name}: needs more memory than there is", began)
    except Exception as error:  # a bug of ours costs one model, not the run
        return _refused(source, "internal", f"{source.name}: internal error: {type(error).__name__}: {error}", began)
    row = msgspec.structs.replace(
        _row(skeleton.key, report),
        beside=dict(dependencies.beside) if dependencies is not None else {},
        seconds=round(time.process_time() - began, 4),
        requests=buffer.requests if buffer else 0,
        fetched=buffer.fetched if buffer else 0,
    )
    return Done(source.name, source.mark, source.size, row)


def refusal_key(source: ModelSource) -> str:
    """The key of a result about a model whose structure nobody knows."""
    return "refused-" + hashlib.sha256(f"{source.name}\n{source.mark}".encode("utf-8", "backslashreplace")).hexdigest()[:56]


def _has_weights_beside(skeleton: Skeleton) -> bool:
    """Whether a model may name files of weights: more places than those where the reader has cut weights out."""
    content: bytes = skeleton.proto.SerializeToString()
    return content.count(b"\x0a\x08location") > len(skeleton.payloads)


def _refused(source: ModelSource, kind: str, message: str, began: float, lasting: bool = False) -> Done:
    # Nothing is known of the structure, so the result holds for this name and mark alone; and for this run, where something
    # else than the file may have been the reason: weights beside it, a busy machine, a bug.
    error = message[:1000].encode("utf-8", "backslashreplace").decode()
    row = Row(refusal_key(source), "unreadable", kind, error, seconds=round(time.process_time() - began, 4))
    return Done(source.name, source.mark if lasting else "", source.size, row)


def holds(source: ModelSource, row: Row) -> bool:
    """Whether the weights beside a model are still what they were when the row was made."""
    try:
        return all(external_data.locate(Path(source.name).parent, at, "")[1] == size for at, size in row.beside.items())
    except ModelError:
        return False


def _row(key: str, report: ModelReport) -> Row:
    rules: dict[str, list[int]] = {}
    seen: Counter[str] = Counter()
    shown: list[Shown] = []
    for finding in report.findings:
        if finding.suppressed is not None:
            continue
        place = 2 if finding.outcome is Outcome.UNDECIDED else 0 if finding.severity.value == "error" else 1
        rules.setdefault(finding.rule, [0, 0, 0])[place] += 1
        seen[finding.rule] += 1
        if seen[finding.rule] <= 3 and len(shown) < _SHOWN:
            words = (finding.rule, finding.severity.value, finding.outcome.value)
            shown.append(Shown(*words, finding.location.node[:200], finding.message[:400]))
    for crash in report.crashes:
        rules.setdefault(crash.rule, [0, 0, 0])[2] += 1
    t = report.totals
    counts = {code: (n[0], n[1], n[2]) for code, n in sorted(rules.items())}
    verdict = "internal" if report.crashes else report.verdict.value
    return Row(key, verdict, "", "", counts, tuple(shown), t.nodes, t.params, t.macs, t.npu_macs_percent)


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise _Late in the main thread when the time is over; elsewhere, and where there are no signals, there is no limit."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def late(_: int, __: FrameType | None) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
