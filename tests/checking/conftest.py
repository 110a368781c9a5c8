"""What a table of findings says of one graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from npu_guard.checking import registry
from npu_guard.pipeline.check import check_model
from npu_guard.project.config import Config

Q = "float s = {0.1}, uint8 z = {0}"
"""What `<Q` in a graph stands for."""


@pytest.fixture
def expect_row(write: Callable[..., Path]) -> Callable[[str], None]:
    """`expect_row("device | opset | NPU301 y | NPU102 y, NPU103 y | graph")`: what fires, and what must not."""

    def expect(row: str) -> None:
        device, opset, fires, silent, graph = (column.strip() for column in row.split("|", 4))
        path = write(graph.replace("<Q", f"<{Q}"), opset=int(opset))
        report = check_model(str(path), registry.profile(device), Config(profile=device))
        assert not report.crashes
        assert report.error is None
        found = {(f.rule, f.location.node or f.location.output) for f in report.findings}
        assert found >= _pairs(fires), [f.message for f in report.findings]
        assert not found & _pairs(silent), [f.message for f in report.findings]

    return expect


def _pairs(words: str) -> set[tuple[str, ...]]:
    """Rules and labels of a column."""
    return {tuple(pair.split()) for pair in words.split(",") if pair.strip()}
