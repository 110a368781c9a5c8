"""Members of a repeated field are dropped one by one or all at once, and what is left is the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from npu_guard.file.unread import _SINGLY, drop


@pytest.mark.parametrize("count", [0, 1, 5, _SINGLY, _SINGLY + 1, 200])
def test_what_is_left_keeps_its_order(count: int) -> None:
    graph = onnx.GraphProto()
    for i in range(200):
        graph.node.add(name=str(i))
    gone = sorted(np.random.default_rng(count).choice(200, count, replace=False).tolist())
    drop(graph.node, gone)
    assert [node.name for node in graph.node] == [str(i) for i in range(200) if i not in gone]
