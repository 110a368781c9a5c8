"""`make bench-fleet`: what a fleet in an object store costs, from measured parts.

    python bench/fleet.py [--output docs/scale.md]

Networks of the usual kinds are written, put into an S3-compatible server on this machine, and checked as `scan` does.
Requests and bytes are exact and the same everywhere; CPU time is of this machine. From them follows, on paper, what a million
models take. Needs the packages of `make test-cluster`.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import resource
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LATENCY = 0.03
"""Seconds until an object store answers a request; 10 to 100 ms are usual within a region."""
BANDWIDTH = 50e6
"""Bytes per second of one connection to it."""
MODELS = 1_000_000
CORES = 8
IN_FLIGHT = 4
"""Models that one core has under way, as most of their time is waiting."""


@dataclass(frozen=True)
class Measured:
    name: str
    size: int
    requests: int
    fetched: int
    cpu: float


@contextlib.contextmanager
def server() -> Iterator[None]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }  # fmt: skip
    try:
        yield
    finally:
        running.stop()


def models(folder: Path) -> list[Path]:
    """Networks of about 100 MB that differ in how their weights lie."""
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    def chain(name: str, layers: int, width: int, kernel: int) -> Path:
        weights, nodes, value = [], [], "x"
        for n in range(layers):
            weights.append(numpy_helper.from_array(np.zeros((width, width, kernel, kernel), np.float32), f"w{n}"))
            weights.append(numpy_helper.from_array(np.zeros(width, np.float32), f"b{n}"))
            pads = [kernel // 2] * 4
            nodes.append(helper.make_node("Conv", [value, f"w{n}", f"b{n}"], [f"c{n}"], f"layer{n}.conv", pads=pads))
            nodes.append(helper.make_node("Relu", [f"c{n}"], [f"r{n}"], f"layer{n}.relu"))
            value = f"r{n}"
        x, y = (helper.make_tensor_value_info(v, 1, [1, width, 14, 14]) for v in ("x", value))
        model = helper.make_model(helper.make_graph(nodes, name, [x], [y], weights), ir_version=10)
        model.opset_import[0].version = 20
        onnx.save(model, folder / f"{name}.onnx")
        return folder / f"{name}.onnx"

    return [
        chain("11 layers of 9 MB", 11, 512, 3),
        chain("100 layers of 1 MB", 100, 512, 1),
        chain("380 layers of 260 kB", 380, 256, 1),
    ]


def measure(folder: Path) -> list[Measured]:
    import fsspec

    from npu_guard.file.sources import sources
    from npu_guard.fleet import work
    from npu_guard.project.config import Config

    work.SECONDS = 3600.0  # the server here reads the whole object for each range of it
    found = []
    with server():
        s3 = fsspec.filesystem("s3", skip_instance_cache=True)
        s3.mkdir("fleet")
        for path in models(folder):
            s3.put(str(path), f"s3://fleet/{path.name}")
            (source,) = sources([f"s3://fleet/{path.name}"])
            work.run(source, Config())  # warm: imports are paid once by each worker
            row = work.run(source, Config()).row
            assert row.verdict == "pass", row
            # The server is a thread of this process and its work in row.seconds; the same from a file has none of it.
            (local,) = sources([str(path)])
            children = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = work.run(local, Config()).row.seconds
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu += after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
            found.append(Measured(path.stem, source.size, row.requests, row.fetched, cpu))
    return found


PAGE = """# A fleet in an object store

Made by `make bench-fleet`. `npu-guard scan s3://...` fetches the structure of a model in pieces and skips the weights
between, so cost depends on how the weights lie, not on their size. Requests and bytes below are measured with an
S3-compatible server; they are the same with any other. CPU time is that of the machine that made this page. Where results are
kept, and when a model is not read again, stands in [cache.md](cache.md).

| model | size | requests | fetched | part of the file | CPU time |
|---|---|---|---|---|---|
{rows}

## A million models of 100 MB, on paper

Assumed: {latency:.0f} ms until the store answers, {bandwidth:.0f} MB/s for each connection, {cores} cores a machine, {flight}
models under way on each core. Listing takes one request for 1,000 objects. What is unchanged since the last run (same ETag) costs no request
but the listing, so a nightly run over a fleet of which 1 % changes costs a hundredth of this.

| model | requests | read from the store | of | CPU hours | waiting, hours of one connection | hours on one machine | machines for one hour |
|---|---|---|---|---|---|---|---|
{paper}
"""  # noqa: E501


def page(found: list[Measured]) -> str:
    rows, paper = [], []
    for m in found:
        part = 100 * m.fetched / m.size
        sizes = f"{m.size / 1e6:.0f} MB | {m.requests} | {m.fetched / 1e6:.1f} MB | {part:.1f} %"
        rows.append(f"| {m.name} | {sizes} | {1000 * m.cpu:.0f} ms |")
        scale = 100e6 / m.size  # to 100 MB, with layers as they are
        requests, fetched, cpu = m.requests * scale, m.fetched * scale, m.cpu * scale
        waiting = (requests + 1) * LATENCY + fetched / BANDWIDTH  # one more asks for the size
        hours = MODELS * max(cpu, waiting / IN_FLIGHT) / CORES / 3600
        paper.append(
            f"| {m.name} | {MODELS * (requests + 1) / 1e6:.0f} million | {MODELS * fetched / 1e12:.1f} TB | 100 TB"
            f" | {MODELS * cpu / 3600:.0f} | {MODELS * waiting / 3600:.0f} | {hours:.1f} | {max(1, round(hours + 0.5))} |"
        )
    return PAGE.format(
        rows="\n".join(rows),
        paper="\n".join(paper),
        latency=1000 * LATENCY,
        bandwidth=BANDWIDTH / 1e6,
        cores=CORES,
        flight=IN_FLIGHT,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = page(measure(Path(folder)))
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
