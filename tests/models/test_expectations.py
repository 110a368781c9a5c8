"""Each sample network gives exactly the findings that an engineer who knows the device expects, in every spelling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from npu_guard.checking import registry
from npu_guard.pipeline.check import check_model
from npu_guard.project.config import Config
from npu_guard.results.findings import Finding, Outcome, Verdict
from npu_guard.zoo import samples
from npu_guard.zoo.system import counted, wanted

PROFILE = "aimotive-aiware"
NAMES = [entry.name for entry in samples.entries()]
SPELLINGS = ("dynamo", "legacy")


def findings(path: Path) -> tuple[Finding, ...]:
    report = check_model(str(path), registry.profile(PROFILE), Config())
    assert report.error is None, report.error
    assert not report.crashes
    # How many boxes survive is unknown by nature; nothing else is, and no finding is left open for it.
    assert all("NonMaxSuppression" in reason for reason in report.unknown.values())
    assert not any(finding.outcome is Outcome.UNDECIDED for finding in report.findings)
    return report.findings


def in_scope(finding: Finding, scope: str) -> bool:
    return not scope or ".".join(finding.location.scope) == scope or ".".join(finding.location.scope).startswith(f"{scope}.")


@pytest.mark.parametrize("exporter", SPELLINGS)
@pytest.mark.parametrize("name", NAMES)
def test_findings_are_those_expected(name: str, exporter: str, exported: Callable[[str, str], Path], tmp_path: Path) -> None:
    import onnxsim

    path = exported(name.replace("-", "_"), exporter)
    expected = samples.system(name).EXPECTED[PROFILE]
    found = findings(path)
    assert counted(found) == wanted(expected)
    for e in expected:
        at_place = [f for f in found if f.rule == e.rule and in_scope(f, e.scope)]
        assert len(at_place) >= e.count, f"{e} but in that module only {[f.location for f in at_place]}"
    if exporter == "dynamo":
        assert all(f.source is not None and f.source.file.startswith("models/") for f in found)

    simplified, _ = onnxsim.simplify(onnx.load(path))
    short = tmp_path / "simplified.onnx"
    onnx.save(simplified, short)
    respelled = getattr(samples.system(name), "SIMPLIFIED", {}).get(PROFILE, ())
    assert counted(findings(short)) == wanted((*expected, *respelled))


def test_recommended_designs_have_no_errors(exported: Callable[[str, str], Path]) -> None:
    """No false alarm on what the device runs: the recommended blocks and plain trunks up to their classifiers."""
    clean = ("resnetsan01-attention", "se", "cbam", "axial-conv", "attentive-skip-fusion", "attention-dual-head-decoder")
    for name in clean:
        report = check_model(str(exported(name.replace("-", "_"), "dynamo")), registry.profile(PROFILE), Config())
        assert report.verdict is Verdict.PASS, name
