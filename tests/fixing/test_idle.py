"""What `fix` writes has no node that does nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli, Write

DEVICE = """
name = "device"
title = "Device"
source = "its manual"

[[operators]]
names = ["Concat", "Reshape", "Transpose", "Conv"]
status = "supported"
source = "its manual"

[[limit]]
ops = ["Concat"]
metric = "axes"
in = [-3]
source = "its manual"
"""


@pytest.mark.parametrize(
    ("graph", "left"),
    [
        # Maps of one row and of one column are what a Reshape to the place in front of the axis gives.
        ("g (float[1,1,1,5] x, float[1,1,1,5] z) => (y) { y = Concat<axis = 2>(x, z) }", 1),
        ("g (float[1,1,2,5] x, float[1,1,3,5] z) => (y) { y = Concat<axis = 2>(x, z) }", 3),
        ('g (float["N",1,1,5] x, float["N",1,1,5] z) => (y) { y = Concat<axis = 2>(x, z) }', 1),
    ],
)
def test_moves_that_lead_nowhere_are_not_written(graph: str, left: int, cli: Cli, write: Write, tmp_path: Path) -> None:
    (tmp_path / "device.toml").write_text(DEVICE)
    write(graph)
    told: Any = cli("fix", "net.onnx", "-o", "fixed.onnx", "--profile", "device.toml")
    assert told.code == 0, told.err
    nodes = onnx.load(str(tmp_path / "fixed.onnx")).graph.node
    assert sum(n.op_type == "Reshape" for n in nodes) == left
    assert f"-> {len(nodes)} nodes" in told.out
