"""The HTML report of a 10,000-node model: CPU time to write it, its size, and how soon Chromium answers.

`python bench/html_report.py` needs playwright and Debian's chromium (`apt-get install chromium`).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import onnx
from chromium import CHROMIUM, FLAGS
from measure import Series, once
from onnx import TensorProto, helper

NODES = 10_000
RUNS = 5
BLOCK = (("Conv", "conv1"), ("Erf", "act"), ("Conv", "conv2"), ("Sigmoid", "gate"), ("Mul", "scale"), ("Add", ""))


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="npu-guard-bench-") as name:
        folder = Path(name)
        rows = []
        for title, modules in (("10,000 nodes in modules", True), ("10,000 nodes without modules", False)):
            model, page = folder / f"{modules}.onnx", folder / f"{modules}.html"
            model.write_bytes(network(NODES, modules=modules).SerializeToString())
            write = [written(model, page) for _ in range(RUNS + 1)][1:]  # the first one compiles modules, on a fresh checkout
            ready, drawn = zip(*(interactive(page) for _ in range(RUNS)), strict=True)
            rows += [
                (f"{title}: HTML written, CPU", statistics.median(write), 2.0, "s"),
                (f"{title}: size", page.stat().st_size / 1e6, 6.0, "MB"),
                (f"{title}: first view interactive", statistics.median(ready), 2.0, "s"),
                (f"{title}: graph drawn after a click", statistics.median(drawn), 2.0, "s"),
            ]
    print(f"{'budget':<52} {'measured':>10} {'allowed':>10}")
    for label, measured, allowed, unit in rows:
        print(f"{label:<52} {measured:>7.2f} {unit:<2} {allowed:>7.2f} {unit:<2}  {'ok' if measured <= allowed else 'MISSED'}")
    return int(any(measured > allowed for _, measured, allowed, _ in rows))


def network(count: int, *, modules: bool) -> onnx.ModelProto:
    """Residual blocks with an Erf each (a finding), named as the older exporter names them, or not at all."""
    nodes: list[onnx.NodeProto] = []
    value, block = "x", 0
    while len(nodes) < count:
        stage = f"/stages/stages.{block // 100}/blocks/blocks.{block % 100}" if modules else f"n{block}"
        start = value
        for step, (op, part) in enumerate(BLOCK):
            name = ("/" if modules else "_").join(filter(None, (stage, part, op)))
            inputs = {"Conv": [value, "w"], "Mul": [value, start], "Add": [value, start]}.get(op, [value])
            value = f"{name}_output_{step}"
            nodes.append(helper.make_node(op, inputs, [value], name))
        block += 1
    nodes = nodes[:count]
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [12, 12, 1, 1], b"\0" * 576, raw=True)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 12, 16, 16]) for n in ("x", nodes[-1].output[0])]
    graph = helper.make_graph(nodes, "bench", ends[:1], ends[1:], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def written(model: Path, page: Path) -> float:
    """Seconds of CPU that the whole process takes, checking included."""
    command = [str(Path(sys.executable).parent / "npu-guard"), "report", str(model), "-o", str(page)]
    run = once(command, model.parent, Series())
    assert run.code == 1, "the model is made to have findings"
    return run.cpu[0]


def interactive(page: Path) -> tuple[float, float]:
    """Seconds from navigation until the page answers, and from a click on the graph's tab until it is painted."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        view = browser.new_page()
        view.goto(page.as_uri())
        ready = view.evaluate("performance.getEntriesByName('ready')[0].startTime")
        drawn = view.evaluate(
            "() => new Promise(done => { const start = performance.now(); document.getElementById('tab-graph').click();"
            " setTimeout(() => requestAnimationFrame(() => setTimeout(() => done(performance.now() - start))), 0) })"
        )
        assert view.locator(".canvas .box").count() > 10
        browser.close()
    return ready / 1000, drawn / 1000


if __name__ == "__main__":
    sys.exit(main())
