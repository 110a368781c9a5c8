"""One small graph against limits or a device, without the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from npu_guard.analysis.analyze import Analysis
from npu_guard.checking.examples import analyze_case
from npu_guard.checking.rule import Case


@pytest.fixture
def analysis(tmp_path: Path) -> Callable[..., Analysis]:
    """What is known of a graph in ONNX text."""
    return lambda graph, opset=20: analyze_case(Case(graph, opset=opset), tmp_path)
