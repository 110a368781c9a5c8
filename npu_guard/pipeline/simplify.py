"""`--simplify`: models are judged, and mended, as onnxsim leaves them, and what that alone changes is told.

A result of it is never kept: what onnxsim makes of a model depends on its weights, which no key of a cache covers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from npu_guard.analysis.inputs import fix_inputs
from npu_guard.analysis.interface import hold_inputs
from npu_guard.base.address import is_url
from npu_guard.base.errors import ModelError, UsageError
from npu_guard.checking import registry
from npu_guard.file import load
from npu_guard.file.constant_inputs import Held
from npu_guard.file.document import Document
from npu_guard.pipeline.check import check_model
from npu_guard.project.config import Config
from npu_guard.results import fingerprint
from npu_guard.results.findings import Finding, ModelReport, Report, Verdict
from npu_guard.results.simplified import Moved, Simplified
from npu_guard.results.summary import simplified_words


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """Files to judge for models, and the settings to judge them with."""

    files: Mapping[str, str]
    """By the names of the models: what a simplifier left, else the files themselves."""
    config: Config
    """Without the values of inputs, where they are in the simplified models already."""
    _whole: Mapping[str, str] = dataclasses.field(default_factory=dict)
    _done: Mapping[str, Simplified] = dataclasses.field(default_factory=dict)
    _before: Mapping[str, ModelReport] = dataclasses.field(default_factory=dict)
    _failed: Mapping[str, ModelError] = dataclasses.field(default_factory=dict)

    def told(self, report: Report) -> Report:
        """The report with what the simplifier did to each model."""
        return replace(report, models=tuple(map(self.told_of, report.models))) if self._done or self._failed else report

    def told_of(self, model: ModelReport) -> ModelReport:
        """The same for one model."""
        if (failed := self._failed.get(model.path)) is not None:
            return ModelReport(model.path, model.profile, Verdict.UNREADABLE, error=(failed.kind, str(failed)))
        done = self._done.get(model.path)
        if done is None or model.error is not None:
            return model
        before = self._before.get(model.path)
        if before is not None:
            done = _compared(done, before.findings, model.findings)
        digest = load.sha256(self._whole[model.path]) if model.sha256 else ""
        return replace(model, simplified=done, notes=(*simplified_words(done), *model.notes), sha256=digest)

    def expect_simplified(self, name: str) -> None:
        """Raise ModelError where the simplifier failed on a model."""
        if (failed := self._failed.get(name)) is not None:
            raise failed

    def not_verified(self) -> dict[str, str]:
        """Why the simplified model is not known to compute the same, by the names of models that were verified."""
        return {
            name: done.reason or done.verification for name, done in self._done.items() if done.verification not in ("", "equal")
        }


@contextlib.contextmanager
def as_judged(files: Mapping[str, str], config: Config, *, verify: bool = False, compare: bool = True) -> Iterator[Judged]:
    """What to judge in the place of these files: they themselves, or what onnxsim leaves of them where the settings say so.

    With `verify` the two are run on the same inputs; with `compare` the findings of both are told apart. Where onnxsim fails on a
    model, that ModelError is its report. Raises UsageError where there is no onnxsim, or for what no onnxsim can read.
    """
    if not config.simplify:
        yield Judged(files, config)
        return
    from npu_guard.pipeline.simplifier import expect_simplifier

    expect_simplifier()
    for name, file in files.items():
        if is_url(file):
            raise UsageError(f"{name}: --simplify reads weights, and of an object in a store only the structure is fetched")
    profile = registry.profile(config.profile)
    done, before, failed = dict[str, Simplified](), dict[str, ModelReport](), dict[str, ModelError]()
    with tempfile.TemporaryDirectory(prefix="npu-guard-", ignore_cleanup_errors=True) as folder:
        targets = {name: Path(folder, f"{number}.onnx") for number, name in enumerate(files)}
        for name, file in files.items():
            try:
                if compare:
                    before[name] = check_model(file, profile, config)
                    if (error := before[name].error) is not None:
                        raise ModelError(*error)
                done[name] = _simplified(file, targets[name], config, verify=verify)
            except ModelError as error:
                failed[name] = ModelError(error.kind, str(error).replace(str(targets[name]), name).replace(file, name))
        judged = {name: str(targets[name]) if name in done else file for name, file in files.items()}
        yield Judged(judged, replace(config, held=Held(), cache=None), files, done, before, failed)


def _simplified(file: str, target: Path, config: Config, *, verify: bool) -> Simplified:
    """Raises ModelError."""
    from npu_guard.pipeline.simplifier import simplify

    skeleton = load.load(file, config.limits)
    hold_inputs(skeleton, config.held)
    document = Document.of(skeleton)
    fix_inputs(document.proto, config.input_shapes, file).take_back()
    done = simplify(document, target)
    load.load(target, config.limits)  # what comes of a stranger's file is a stranger's file
    if not verify:
        return done
    from npu_guard.pipeline.verify import compare_models

    result, _ = compare_models(file, str(target), config.input_shapes, limits=config.limits, held=config.held)
    return replace(done, verification=result.verdict, reason="" if result.verdict == "equal" else result.reason)


def _compared(done: Simplified, before: Sequence[Finding], after: Sequence[Finding]) -> Simplified:
    """With the findings that only one side has: those at the same value are the same, then those of the same module."""
    there = {(f.rule, f.outcome, f.location.output): j for j, f in enumerate(after)}
    left, known = [], set()
    for f in before:
        j = there.pop((f.rule, f.outcome, f.location.output), None)
        left += [f] if j is None else []
        known |= set() if j is None else {j}
    rest = [f for j, f in enumerate(after) if j not in known]
    pairs = fingerprint.pair(list(map(fingerprint.mark, left)), list(map(fingerprint.mark, rest)))
    old, new = {i for i, _ in pairs}, {j for _, j in pairs}
    return replace(
        done,
        removes=tuple(_moved(f) for i, f in enumerate(left) if i not in old),
        adds=tuple(_moved(f) for j, f in enumerate(rest) if j not in new),
    )


def _moved(finding: Finding) -> Moved:
    return Moved(finding.rule, finding.location.node, finding.fingerprint)
