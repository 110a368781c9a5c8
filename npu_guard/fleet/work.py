"""What a worker does: check one model and say what was found in a row that is small enough to keep for ever."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from types import FrameType

import msgspec

import npu_guard
from npu_guard import load, pipeline, registry
from npu_guard.config import Config
from npu_guard.errors import ModelError
from npu_guard.profile import Profile
from npu_guard.results import ModelReport, Outcome
from npu_guard.sources import Source, is_url

SECONDS = 120.0
"""For one model, however it comes: what takes longer is a result of its own and holds nothing up."""
_SHOWN = 20


class Shown(msgspec.Struct, frozen=True):
    """A finding as the fleet report names it."""

    rule: str
    severity: str
    outcome: str
    node: str
    message: str


class Row(msgspec.Struct, frozen=True):
    """One model against one device. `key` is that of its structure: equal keys and stamps have equal results."""

    key: str
    verdict: str
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


def stamp(profile: Profile, config: Config) -> str:
    """What besides the model decides the result: version, device and settings."""
    settings = msgspec.json.encode(
        [
            npu_guard.__version__, [r.code for r in registry.rules()], msgspec.to_builtins(profile, enc_hook=_word),
            config.select, config.ignore, {k: v.value for k, v in config.severity.items()}, config.suppress, config.fail_on,
            dict(config.input_shapes), config.limits,
        ], order="deterministic", enc_hook=_word,
    )  # fmt: skip
    return hashlib.sha256(settings).hexdigest()[:32]


def _word(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else getattr(value, "value", None) or repr(value)


def run(source: Source, config: Config) -> Done:
    """Check one model; whatever it does, the result is a row."""
    began = time.process_time()
    buffer = None
    try:
        with _deadline(SECONDS):
            if is_url(source.name):
                skeleton, buffer = load.remote(source.name, config.limits)
            else:
                skeleton = load.load(source.name, config.limits)
            key = hashlib.sha256(skeleton.proto.SerializeToString(deterministic=True)).hexdigest()
            report = pipeline.check_skeleton(skeleton, registry.profile(config.profile), config)
    except ModelError as error:
        return _refused(source, error.kind, str(error), began)
    except _Late:
        return _refused(source, "timeout", f"{source.name}: took more than {SECONDS:.0f} s", began)
    except MemoryError:
        return _refused(source, "memory", f"{source.name}: needs more memory than there is", began)
    except Exception as error:  # a bug of ours costs one model, not the run
        return _refused(source, "internal", f"{source.name}: internal error: {type(error).__name__}: {error}", began)
    row = msgspec.structs.replace(
        _row(key, report), seconds=round(time.process_time() - began, 4), requests=buffer.requests if buffer else 0,
        fetched=buffer.fetched if buffer else 0,
    )  # fmt: skip
    return Done(source.name, source.mark, source.size, row)


def refusal_key(source: Source) -> str:
    """The key of a result about a model whose structure nobody knows."""
    return "refused-" + hashlib.sha256(f"{source.name}\n{source.mark}".encode("utf-8", "backslashreplace")).hexdigest()[:56]


def _refused(source: Source, kind: str, message: str, began: float) -> Done:
    # Nothing is known of the structure, so the result holds for this name and mark alone.
    row = Row(refusal_key(source), "unreadable", kind, message[:1000], seconds=round(time.process_time() - began, 4))
    return Done(source.name, source.mark, source.size, row)


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
            shown.append(Shown(*words, finding.place.node[:200], finding.message[:400]))
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
