"""`npu-guard fix` beside its budgets: rows for `make bench`, which needs ONNX Runtime for them (the extra `fix`).

Run as a script it is one of the measured processes: `fix.py unproven MODEL OUT` fixes without verification, `fix.py overhead
BEFORE AFTER` prints how much longer verification takes than the runs of ONNX Runtime that it makes, `fix.py proofs
MODEL OUT` which share of all of `fix` its proofs take, in CPU time with that of ONNX Runtime, `fix.py inference MODEL` the CPU
time of one inference on one thread without optimisations.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from measure import interleaved, ratio

from npu_guard.fixing import catalog

TWICE = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
feed = {i.name: numpy.zeros(i.shape, numpy.float32) for i in session.get_inputs()}
for _ in range(2):
    session.run(None, feed)
"""
TOUCHED = 4096 * 19 * 19 * 4 / 1e6
"""MB of the one kernel in `inline_kernel.onnx` that is too large."""
ECA, BOTH, KERNEL = "fix ResNet-50 with 16 ECA", "import onnxruntime + two runs", "fix 1.5 GB inside, unproven"
NETWORKS = {
    "vit-block": "a vision transformer's block",
    "efficientnet-b0": "EfficientNet-B0",
}
"""Sample networks that are fixed at their real size, where torch is installed."""
INFERENCES, IMPORTS = 25, 18
"""The CPU time that `fix` may take: so many inferences, and so many imports of onnx to start, search and prove.

An import takes a sixth of a second on the machine for which 3 s were allowed; a slower machine is slower at both.
"""


def rows(folder: Path, runs: int) -> list[tuple[str, float, float, str]]:
    """(what, measured, allowed, unit)."""
    if importlib.util.find_spec("onnxruntime") is None:
        print("\nfix is not measured: pip install onnxruntime")
        return []
    model, out, kernel = (str(folder / f"{name}.onnx") for name in ("resnet50_eca", "fixed", "inline_kernel"))
    program, script = str(Path(sys.executable).parent / "npu-guard"), str(Path(__file__).resolve())
    commands: dict[str, Sequence[str]] = {
        ECA: (program, "fix", model, "-o", out),
        BOTH: (sys.executable, "-c", TWICE, model),
        KERNEL: (sys.executable, script, "unproven", kernel, str(folder / "fixed_kernel.onnx")),
    }
    found = interleaved(commands, runs, folder)
    for name, series in found.items():
        print(f"{name:<28}{series}")
        if series.code:
            raise SystemExit(f"did not end well: {name}")
    command = (sys.executable, script, "overhead", model, out)
    overhead = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    command = (sys.executable, script, "proofs", model, out)
    share = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return [
        *inferences({"ResNet-50 with 16 ECA": Path(model)} | networks(folder), folder),
        ("fix of ResNet-50 with 16 ECA / import onnxruntime + 2 runs", ratio(found[ECA], found[BOTH]), 10.0, "x"),
        ("fix of 1.5 GB inside without verification, memory", found[KERNEL].megabytes, 400 + TOUCHED, "MB"),
        ("verification / its ONNX Runtime runs, time", overhead, 1.3, "x"),
        ("proofs / all of fix of ResNet-50 with 16 ECA, CPU time", share, 0.2, "x"),
    ]


def networks(folder: Path) -> dict[str, Path]:
    """The sample networks at their real size; none where torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        return {}
    program, files = (
        str(Path(sys.executable).parent / "npu-guard"),
        {title: folder / f"{name}.onnx" for name, title in NETWORKS.items()},
    )
    for name, path in zip(NETWORKS, files.values(), strict=True):
        subprocess.run([program, "zoo", name, "-o", str(path)], check=True, capture_output=True)
    return files


def inferences(files: Mapping[str, Path], folder: Path) -> list[tuple[str, float, float, str]]:
    """How many inferences `fix` takes beyond its start, in CPU time; ONNX Runtime has one thread."""
    script, program = str(Path(__file__).resolve()), str(Path(sys.executable).parent / "npu-guard")
    found = []
    for title, path in files.items():
        command = (sys.executable, script, "inference", str(path))
        one = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        fix = (program, "fix", str(path), "-o", str(folder / "fixed.onnx"))
        series = interleaved({"fix": fix, "import": (sys.executable, "-c", "import onnx")}, 1, folder)
        taken, start = series["fix"].cpu[-1], IMPORTS * series["import"].cpu[-1]
        print(f"{f'fix {title}':<40} {taken:7.2f} s of CPU, {IMPORTS} imports {start:.2f} s, an inference {one:.3f} s")
        label = f"fix of {title}, without {IMPORTS} imports, in inferences"
        found.append((label, max(0.0, taken - start) / one, float(INFERENCES), "x"))
    return found


def inference(model: Path) -> None:
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    feed = {i.name: np.ones([d if isinstance(d, int) else 1 for d in i.shape], np.float32) for i in session.get_inputs()}
    times = []
    for _ in range(4):
        start = time.process_time()
        session.run(None, feed)
        times.append(time.process_time() - start)
    print(min(times))


def unproven(model: Path, out: Path) -> None:
    from npu_guard.checking import registry
    from npu_guard.file.save import save_document
    from npu_guard.pipeline.fix import fix_model
    from npu_guard.project.config import Config

    report = fix_model(str(model), registry.profile("aimotive-aiware"), Config(), catalog.substitutions(), check_numbers=False)
    assert report.applied
    save_document(report.document, out)


def overhead(before: Path, after: Path) -> None:
    from npu_guard.analysis.analyze import analyze
    from npu_guard.file.document import Document
    from npu_guard.file.load import load
    from npu_guard.verification.compare import accumulated_terms, compare_documents, run_document
    from npu_guard.verification.feeds import input_specs, seeded_feeds
    from npu_guard.verification.runtime import Runtime

    skeletons = [load(p) for p in (before, after)]
    documents, analyses = [Document.of(s) for s in skeletons], [analyze(s) for s in skeletons]
    terms = sum(map(accumulated_terms, analyses))
    wanted = input_specs(analyses[0].model.graph.inputs)
    with Runtime() as runtime:
        run_document(runtime, documents[0], seeded_feeds(wanted, 0)[:1])  # starts the process
        start, runs = time.perf_counter(), runtime.runs
        used = [feed for seed in (0, 1, 2) for feed in seeded_feeds(wanted, seed)]
        done = compare_documents(runtime, *documents, used, terms, exact=True, seeds=(0, 1, 2), kinds="bench")
        assert done.verdict == "equal", done
        print((time.perf_counter() - start) / (runtime.runs - runs))


def proofs(model: Path, out: Path) -> None:
    import resource

    from npu_guard.checking import registry
    from npu_guard.file.save import save_document
    from npu_guard.fixing import driver
    from npu_guard.pipeline.fix import fix_model
    from npu_guard.project.config import Config

    prove, taken = driver.prove_edits, 0.0

    def timed(*state: Any) -> Iterator[Any]:
        nonlocal taken
        start = time.process_time()
        found = list(prove(*state))
        taken += time.process_time() - start
        return iter(found)

    driver.prove_edits = timed
    report = fix_model(str(model), registry.profile("aimotive-aiware"), Config(), catalog.substitutions())
    assert report.applied
    save_document(report.document, out)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(taken / sum(u.ru_utime + u.ru_stime for u in used))


if __name__ == "__main__":
    {"unproven": unproven, "overhead": overhead, "proofs": proofs, "inference": inference}[sys.argv[1]](*map(Path, sys.argv[2:]))
