"""A Ray cluster of two nodes on this machine, one of which is killed in the middle: `make test-cluster` installs Ray."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from npu_guard.fleet import report, scan
from npu_guard.fleet.cluster import run_on_cluster
from npu_guard.fleet.store import Store
from npu_guard.project.config import Config

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries that are not ours


def test_every_model_once_though_a_node_dies(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.cluster_utils import Cluster

    for n in range(45):  # enough that many are running when the node dies
        (models / f"more{n}.onnx").write_bytes((models / f"good{n % 10}.onnx").read_bytes())
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80 << 20})
    second = nodes.add_node(num_cpus=2, object_store_memory=80 << 20)
    nodes.wait_for_nodes()
    store = Store(str(tmp_path / "store.db"))
    seen: Counter[str] = Counter()
    killed = []
    try:

        def progress(done: object, count: int, total: int) -> None:
            seen[done.name] += 1  # type: ignore[attr-defined]
            if count == 12 and not killed:
                killed.append(time.monotonic())
                nodes.remove_node(second, allow_graceful=False)

        tally = scan.scan(
            [str(models)], Config(), store,
            lambda run, tasks, lost: run_on_cluster(run, tasks, nodes.address, lost), progress,
        )  # fmt: skip
        fleet = report.Fleet.of(store, tally.run)
    finally:
        store.close()
        ray.shutdown()
        nodes.shutdown()
    assert killed
    assert len(seen) == 60
    assert set(seen.values()) == {1}
    assert tally.checked == len(fleet.rows) == 60
    assert fleet.verdicts == {"pass": 55, "fail": 4, "undecided": 0, "unreadable": 1, "internal": 0}
