"""A graph in ONNX text becomes a model file, an analysis and a partition; and the program runs in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import onnx
import pytest

from npu_guard.analysis.analyze import analyze
from npu_guard.checking import registry
from npu_guard.checking.engine import check
from npu_guard.checking.examples import case_model, profile_for
from npu_guard.checking.rule import Case
from npu_guard.file import load
from npu_guard.file.document import Document
from npu_guard.partitioning.partition import Partition, Settings, partition_model
from npu_guard.project.config import Config

REFUSED = {"Erf": "refused", "NonMaxSuppression": "refused", "NonZero": "refused"}
FREE = Settings(byte_cost=0, launch_cost=0)
"""Transfers cost nothing, so that sides alone decide."""


class Cut(NamedTuple):
    """A model that was cut, with the file that it came from."""

    document: Document
    partition: Partition
    path: Path

    def words(self) -> list[str]:
        """`npu: a b` for each piece: its side and the first outputs of its nodes."""
        return [f"{p.side}: {' '.join(n.output.name for n in p.nodes)}" for p in self.partition.pieces]

    def crossings(self) -> dict[str, tuple[int, tuple[int, ...]]]:
        """From which piece to which each tensor goes."""
        return {c.tensor: (c.source, c.targets) for c in self.partition.crossings}


@pytest.fixture
def cut(tmp_path: Path) -> Callable[..., Cut]:
    """`cut(graph)`: refused are Erf and what depends on data, as no other rule has a limit."""

    def run(
        graph: str | onnx.ModelProto, settings: Settings = FREE, operators: Mapping[str, str] = REFUSED,
        limits: Mapping[str, object] | None = None, opset: int = 20,
    ) -> Cut:  # fmt: skip
        case = Case(graph if isinstance(graph, str) else "", operators=dict(operators), limits=dict(limits or {}), opset=opset)
        path = tmp_path / "net.onnx"
        path.write_bytes((case_model(case) if isinstance(graph, str) else graph).SerializeToString())
        skeleton = load.load(path)
        document = Document.of(skeleton)
        analysis, profile = analyze(skeleton), profile_for(case)
        checked = check(analysis, profile, registry.rules(), Config())
        return Cut(document, partition_model(analysis, checked, profile, settings), path)

    return run
