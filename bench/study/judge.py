"""What the rules say of a case, as a word: `fits`, `refused` or `undecided`; and the case as a model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from single import Case

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.checking import registry
from npu_guard.checking.engine import check
from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case as Example
from npu_guard.device import Profile
from npu_guard.file.load import load
from npu_guard.project.config import Config
from npu_guard.results.findings import Outcome, Severity

IR_VERSION = 8  # the newest that all the compilers read


@dataclass(frozen=True)
class Opinion:
    """The rules on one case and one profile. `codes` refuse it, or could not tell."""

    word: str
    codes: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()


def model_of(case: Case) -> onnx.ModelProto:
    """With shapes: the outputs' are left open in the text."""
    model = case_model(Example(graph=case.text, opset=case.opset))
    model.ir_version = IR_VERSION
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


def analysis_of(case: Case) -> Analysis:
    """By way of a file, as a user's model comes in."""
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        Path(file.name).write_bytes(model_of(case).SerializeToString())
        return analyze(load(file.name))


def opinions(analysis: Analysis, profiles: Sequence[Profile]) -> Mapping[str, Opinion]:
    """By the profile's name. The gate is what counts: warnings and notes let a model pass."""
    return {profile.name: _opinion(analysis, profile) for profile in profiles}


def _opinion(analysis: Analysis, profile: Profile) -> Opinion:
    findings = [f for f in check(analysis, profile, registry.rules(), Config()).findings if f.severity is Severity.ERROR]
    for outcome, word in ((Outcome.FAIL, "refused"), (Outcome.UNDECIDED, "undecided")):
        found = [f for f in findings if f.outcome is outcome]
        if found:
            return Opinion(word, tuple(dict.fromkeys(f.rule for f in found)), tuple(f.message for f in found))
    return Opinion("fits")
