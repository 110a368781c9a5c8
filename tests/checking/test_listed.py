"""The index of rules says what their files say, and a check loads only what has something to look at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from npu_guard.checking import listed, registry
from npu_guard.checking.listed import listed_rules

ROOT = Path(__file__).resolve().parents[2]
DRIVER = """import sys
from npu_guard.cli import main
try:
    main(["check", *sys.argv[1:]])
finally:
    print(*(m for m in sys.modules if m.startswith("npu_guard.rules.") and "substitutions" not in m), file=sys.stderr)
"""


def test_listed_are_the_same_in_the_same_order() -> None:
    stated = ("code", "name", "severity", "replaces", "ops", "limits", "parametric", "about_settings")
    for there, loaded in zip(listed_rules(), registry.rules(), strict=True):
        for key in stated:
            found, wanted = getattr(there, key), getattr(loaded, key)
            assert (tuple(found) if isinstance(found, list) else found) == wanted, (loaded.code, key)
        assert there.section("What to do") == loaded.section("What to do")
    assert registry.rule_codes() == [rule.code for rule in registry.rules()]


def test_without_an_index_all_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed, "rule_index", lambda: None)
    listed_rules.cache_clear()
    try:
        assert listed_rules() == registry.rules()
    finally:
        listed_rules.cache_clear()


def test_an_index_that_lacks_a_file_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody writes a rule, and has not generated the index again."""
    known = registry.indexed("rules")
    known.pop("kernel_size")
    monkeypatch.setattr(registry, "indexed", lambda *_: known)
    registry.rule_index.cache_clear()
    try:
        assert registry.rule_index() is None
        assert "NPU201" in registry.rule_codes()
    finally:
        registry.rule_index.cache_clear()


def test_a_check_loads_no_rule_that_has_nothing_to_look_at() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, "samples/sample_net.onnx"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    loaded = {name.rpartition(".")[2] for name in done.stderr.split()}
    assert {"unsupported_operator", "kernel_size"} <= loaded  # of each node, of convolutions
    assert not {"deformable_convolution", "resize_mode", "weight_scales", "unused_suppression"} & loaded
