"""Single faults, through `check` and through ONNX Runtime: `python fuzz/differential.py [NAME=FOLDER ...] [--count 10000]`.

Models are onnx's own node tests and those of the folders, with one fault of `faults.py` each. What `check` passes and the
runtime refuses to load is either a limit of that runtime alone, which `RUNTIME_ALONE` knows, or a fault that `check` misses:
then the exit code is 1. So it is where `check` refuses what the runtime runs, but for what the specification forbids. Each
execution is determined by its number, as in `run.py`.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import os
import random
import re
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import onnx

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "bench")]

from ecosystem import node_tests  # noqa: E402
from faults import apply  # noqa: E402
from run import record_text  # noqa: E402

from npu_guard.pipeline.check import check_models  # noqa: E402
from npu_guard.project.config import Config  # noqa: E402

LARGEST = 200_000
"""Bytes of a model; larger ones are left alone."""
SECONDS = 20.0
MEMORY = 6 << 30
RUNTIME_ALONE = {
    "NOT_IMPLEMENTED|Could not find an implementation": "has no code for these types",
    "max supported IR version|under development|is not a registered function/op": "is older than the model",
    "layout_ == 0": "has no batchwise recurrence",
    r"NumDimensions\(\) == 4": "normalizes over channels of maps alone",
    "alpha_ > 0": "wants LRN's alpha to be positive",
    "size_ % 2": "wants LRN's window to be odd",
    "exclude_outside can be": "has exclude_outside for cubic interpolation alone",
    "InsertedPrecisionFreeCast": "adds a cast that is none in this opset",
    "p_ == 1": "knows L1 and L2 norms alone",
    "Failed to construct locale": "lacks the language",
}
"""Why ONNX Runtime does not load a model that is none the worse for it, by what it says."""
FORBIDDEN = {
    "ONNX knows": "a word that ONNX does not know",
    "it must be 0 (or|to)": "a number that stands for no word",
    "beyond any tensor's rank": "an axis beyond any rank",
    "in topological order": "nodes out of order",
    "another number of elements": "a shape in the file that cannot be",
    "does not exist in opset": "an attribute of a newer opset",
    "does not fit into": "a window larger than its input",
    "shape inference refuses": "what ONNX's own inference refuses",
    "does not broadcast to the input": "a slope with more axes than its input",
    "its sizes are .* and must be more than 0": "extents that are none",
    "its (scale|bias) has the shape": "a scale or bias that is not one for each channel",
}
"""What `check` refuses although ONNX Runtime runs it, by what `check` says: ONNX forbids it."""


def far_side(wire: Connection) -> None:
    """Load and run each model that comes, and say `load`, `run` or nothing, and the error."""
    import resource

    import numpy as np
    import onnxruntime

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    onnxruntime.set_default_logger_severity(4)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    while True:
        content = wire.recv_bytes()
        try:
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            wire.send(("refused", str(error)))
            continue
        try:
            feed = {i.name: np.ones(i.shape, _dtype(i.type)) for i in session.get_inputs()}
        except (TypeError, ValueError):
            wire.send(("loaded", ""))
            continue
        try:
            session.run(None, feed)
            wire.send(("ran", ""))
        except Exception as error:
            wire.send(("failed", str(error)))


def _dtype(kind: str) -> str:
    name = kind.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)


class Runtime:
    """ONNX Runtime, which may die of a model."""

    process: multiprocessing.Process | None = None

    def __call__(self, content: bytes) -> tuple[str, str]:
        """What became of the model, and why."""
        if self.process is None:
            self.wire, theirs = multiprocessing.Pipe()
            self.process = multiprocessing.Process(target=far_side, args=(theirs,), daemon=True)
            self.process.start()
            theirs.close()
        try:
            self.wire.send_bytes(content)
            if self.wire.poll(SECONDS):
                outcome: tuple[str, str] = self.wire.recv()
                return outcome
            self.process.kill()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            pass
        self.process = None
        return "died", ""


def execution(number: int, files: list[Path]) -> tuple[str, bytes]:
    """The fault in words and the model with it; nothing where there was none to be made."""
    rng = random.Random(number)
    content = rng.choice(files).read_bytes()
    if len(content) > LARGEST:
        return "", b""
    model = onnx.load_from_string(content)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        return "", b""
    return apply(model, rng), model.SerializeToString()


def reason(said: str, known: dict[str, str]) -> str:
    return next((words for pattern, words in known.items() if re.search(pattern, said)), "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpora", nargs="*", metavar="NAME=FOLDER")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--output", type=Path, help="the page to record the run in")
    arguments = parser.parse_args()
    both: collections.Counter[tuple[str, str]] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    unexplained = []
    with tempfile.TemporaryDirectory() as work:
        folder, path = Path(work) / "node", Path(work) / "m.onnx"
        folder.mkdir()
        node_tests(folder)
        files = sorted(folder.iterdir())
        for corpus in arguments.corpora:
            files += sorted(Path(corpus.partition("=")[2]).rglob("*.onnx"))
        runtime = Runtime()
        for number in range(arguments.first, arguments.first + arguments.count):
            fault, content = execution(number, files)
            if not fault:
                continue
            path.write_bytes(content)
            (model,) = check_models([str(path)], Config(), layers=False, hashes=False).models
            ours, (theirs, said) = model.verdict.value, runtime(content)
            both[ours, theirs] += 1
            if ours == "pass" and theirs in ("refused", "died"):
                why = reason(said, RUNTIME_ALONE) if theirs == "refused" else "dies of it"
                reasons[f"passed, and ONNX Runtime {why or 'refuses it'}"] += 1
            elif model.error is not None and theirs == "ran":
                why = reason(said := model.error[1], FORBIDDEN)
                reasons[f"refused for {why}"] += 1
            else:
                continue
            if not why:
                unexplained.append(
                    f"execution {number}, {fault}: check says {ours}, ONNX Runtime {theirs}: {said[-300:].strip()}"
                )
                print(unexplained[-1], flush=True)
    text = page(both, reasons, arguments.first, arguments.count, len(unexplained))
    print(text)
    if arguments.output is not None:
        record_text(arguments.output, "differential", text)
    return int(bool(unexplained))


OURS, THEIRS = ("pass", "undecided", "fail", "unreadable"), ("ran", "loaded", "failed", "refused", "died")


def page(both: collections.Counter[tuple[str, str]], reasons: collections.Counter[str], first: int, count: int, odd: int) -> str:
    """The run as Markdown."""
    numbers = f"of numbers {first:,} to {first + count - 1:,}"
    rows = [f"| {ours} | {' | '.join(f'{both[ours, theirs]:,}' for theirs in THEIRS)} |" for ours in OURS]
    told = [f"| {words} | {n:,} |" for words, n in reasons.most_common()]
    return "\n".join((
        f"**{sum(both.values()):,} faults**, {numbers}; {odd} where the two differ without a reason.",
        "", f"| `check` says | {' | '.join(THEIRS)} |", "|---" * (len(THEIRS) + 1) + "|", *rows,
        "", "| where they differ | models |", "|---|---|", *told,
    ))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
