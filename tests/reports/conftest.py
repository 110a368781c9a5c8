"""The hand-made report, golden files of its rendering, and reports of random hostile text."""

from __future__ import annotations

import importlib.util
import string
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import strategies as st

from npu_guard.checking import registry
from npu_guard.checking.rule import Rule
from npu_guard.results.findings import (
    Evidence,
    Finding,
    Location,
    ModelReport,
    Outcome,
    Report,
    RuleCrash,
    Severity,
    SourceLine,
    Tensor,
    Totals,
    Verdict,
)

HERE = Path(__file__).parent
PIECES = (
    "::error::x", "\n::warning::y", "##vso[z]", "##[set-env]", "%0A", "%",
    "]]>", "<script>", "</details>", "-->", "<!--", "&", "&lt;", "|", "`", "``", "\\", "\\|", "~~s~~", "*b*", "__i__", "$x$",
    "](http://e.example)", "![x](y)", "[x]: y", "[[w]]", "http://e.example", "www.e.example", "@user", "a@b.example", "#1",
    "\x00", "\x1b[31m", "\x9b31m", "\r", "\n", "\t", "\u2028", "\u202e", "\u200b", "\ud800", "\udcff", "\ufffe", "\uffff",
    "..", "/", "//", "C:/", "file:///etc/passwd", "javascript:x", "é", "漢", "\U0001f600", " ",
)  # fmt: skip


@pytest.fixture(scope="session")
def sample() -> ModuleType:
    """The module `sample.py` beside this file."""
    spec = importlib.util.spec_from_file_location("report_sample", HERE / "sample.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Documented(Rule):
    """A kernel is longer than the device's limit.

    *What it does*

    Compares each axis of the kernel with the limit.

    *Why it matters*

    A longer kernel does not compile.

    *What to do*

    Split the kernel.
    """

    code = "NPU201"
    name = "kernel-size"
    severity = Severity.ERROR
    ops = ("Conv", "ConvTranspose")
    good = ()
    bad = ()


@pytest.fixture
def compare(
    request: pytest.FixtureRequest, root: Path, sample: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], str]:
    """Render the hand-made report and compare it with its golden file; `pytest --update-golden` writes it.

    One rule with a page of its own stands for all, so that these files change with the formats alone.
    """
    monkeypatch.setattr(registry, "rules", lambda: (Documented(),))

    def check(form: str, name: str) -> str:
        text = registry.renderer(form)(sample.REPORT, color=False)
        file = HERE / "golden" / name
        if request.config.getoption("--update-golden"):
            file.write_text(text, encoding="utf-8")
        assert text == file.read_text(encoding="utf-8"), "if that is meant, run `pytest tests/reports --update-golden`"
        return text

    return check


@pytest.fixture(scope="session")
def any_report() -> st.SearchStrategy[Report]:
    """Reports with hostile text wherever a file can put some."""
    return reports()


def texts() -> st.SearchStrategy[str]:
    """Hostile pieces and any character, lone surrogates included."""
    any_text = st.text(st.characters(exclude_categories=()), max_size=12)
    return st.lists(st.sampled_from(PIECES) | any_text, max_size=5).map("".join)


def findings() -> st.SearchStrategy[Finding]:
    """Findings with hostile text in every field that comes from a file."""
    hostile = texts()
    dims = st.none() | st.integers(0, 2**31) | hostile
    return st.builds(
        Finding,
        rule=st.sampled_from(["NPU201", "NPU301", "XYZ9"]),
        name=st.sampled_from(["kernel-size", "reduce-axis"]),
        severity=st.sampled_from(Severity),
        outcome=st.sampled_from(Outcome),
        location=st.builds(Location, hostile, hostile, hostile, st.tuples(hostile), st.tuples(hostile)),
        message=hostile,
        tensor=st.none() | st.builds(Tensor, hostile, st.none() | st.tuples(dims, dims), st.none() | hostile),
        evidence=st.none() | st.builds(Evidence, hostile, hostile | st.integers() | st.tuples(st.integers()), hostile),
        source=st.none() | st.builds(SourceLine, hostile, st.integers(0, 999_999_999), hostile, hostile),
        fingerprint=st.text(string.hexdigits, min_size=16, max_size=16),
        suppressed=st.none() | hostile,
        macs=st.integers(0, 10**12),
    )


def reports() -> st.SearchStrategy[Report]:
    """Reports of one to three models, one of which may be unreadable."""
    hostile = texts()
    model = st.builds(
        ModelReport,
        path=hostile,
        profile=hostile,
        verdict=st.sampled_from(Verdict),
        findings=st.lists(findings(), max_size=4).map(tuple),
        crashes=st.lists(st.builds(RuleCrash, st.just("NPU401"), hostile, hostile), max_size=2).map(tuple),
        not_applicable=st.just(("NPU202",)),
        totals=st.builds(Totals, macs=st.integers(0, 10**15)),
        notes=st.lists(hostile, max_size=1).map(tuple),
        sha256=st.sampled_from(["", "ab" * 32]),
        error=st.none() | st.tuples(st.sampled_from(["missing", "invalid"]), hostile),
        asked=st.just(("NPU201", "NPU301")),
    )
    return st.builds(
        Report,
        version=st.just("1.2.3"),
        models=st.lists(model, min_size=1, max_size=3).map(tuple),
        fail_on=st.sampled_from(["error", "warning", "never"]),
        allow_undecided=st.booleans(),
    )
