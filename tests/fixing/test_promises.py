"""What `check` says that `fix` does, `fix` does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from npu_guard.checking import registry
from npu_guard.fixing import catalog
from npu_guard.pipeline.check import check_models
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.results.findings import Finding
from npu_guard.results.summary import mending
from npu_guard.rewriting.substitution import EXACT


def kinds(findings: tuple[Finding, ...]) -> Counter[tuple[str, tuple[str, ...], str]]:
    """Findings by rule, module and what they say; nodes have other names afterwards."""
    return Counter((f.rule, f.location.scope, f.message) for f in findings)


@pytest.mark.parametrize("device", ["aimotive-aiware", "ethos-u55-legacy"])
def test_what_fix_mends_goes_and_what_it_would_with_warnings_stays(device: str, root: Path) -> None:
    path = str(root / "samples/sample_net.onnx")
    profile, config = registry.profile(device), Config(device)
    found = check_models([path], config, remedies=True).models[0].findings
    exact = [s for s in catalog.substitutions() if s.exactness == EXACT]
    left = kinds(fix_model(path, profile, config, exact).after.findings)
    said = {
        words: kinds(tuple(f for f in found if mending([f]) == words)) for words in ("fix mends it", "fix --warnings mends it")
    }
    assert not said["fix mends it"] & left
    assert said["fix --warnings mends it"] <= left
    if said["fix --warnings mends it"]:
        asked = kinds(fix_model(path, profile, config, exact, warnings=True).after.findings)
        assert not said["fix --warnings mends it"] & asked
    assert sum(map(len, said.values())), device
