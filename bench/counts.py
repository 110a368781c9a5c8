"""`make bench-counts`: what `check` costs, counted instead of timed, beside what was recorded.

Counts do not depend on what else the machine does, so they are tests (`tests/trust/test_cost.py`) and fail when start-up
grows or work stops being linear. Whole runs of `check`, on a model without findings and on the sample, which has some, are
compared with a record for the version of Python, `counts/3.11.json`, which `python bench/counts.py --record` rewrites where a
growth is wanted; what is a ratio holds for all versions. With `--instructions`, valgrind counts instructions of whole processes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RECORD = HERE / "counts" / f"{sys.version_info.major}.{sys.version_info.minor}.json"
SHAPES = ("chain", "findings", "fan", "passed_on", "rearranged", "nested")
NODES = 100
"""Of the smallest model: as many as use up the sketches that `counted.py` grants."""

OWN, OTHERS, MODULES = "bytecodes in npu-guard", "bytecodes in what it uses", "modules imported"
USED = ("onnx", "numpy", "protobuf", "click", "msgspec", "typing-extensions")
"""Packages that `check` imports."""
ALLOWED = {OWN: 1.03, OTHERS: 1.05, MODULES: 1.03}
"""How much more than recorded; what others publish may change a little."""
CLEAN, SAMPLE = "a model without findings", "the sample"
CLEAN_NODES = 60
TO_ONNX = {CLEAN: 0.6, SAMPLE: 1.4}
"""Bytecodes of checking, start-up included, for each that `import onnx` executes; findings have remedies sketched."""
LINEAR = {"text": 2.1, "json": 2.1, "html": 2.4}
"""How much more work twice as many more nodes may be; the page folds away what is large, in steps."""
WEIGHTS = 1.1
"""How much more of anything a model with 20 times the weights may take."""
LAYERS = 23
"""1.5 GB."""
ADVICE = "If that is wanted, record it: python bench/counts.py --record"


def counted(kind: str, *arguments: str, also: str = "") -> Any:
    """What `counted.py` says in a process of its own; `also` is code that makes it slower, to see that it is noticed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COVERAGE", "NPU_GUARD"))}
    command = [sys.executable, str(HERE / "counted.py"), kind, also, *arguments]
    environment["PYTHONHASHSEED"] = "0"
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def start(model: str, also: str = "") -> dict[str, Any]:
    """Start-up and `check` of CLEAN or SAMPLE."""
    found: dict[str, Any]
    if model == SAMPLE:
        found = counted("start", "samples/sample_net.onnx", also=also)
    else:
        sys.path.insert(0, str(HERE))
        import models

        with tempfile.TemporaryDirectory(prefix="npu-guard-bench-") as folder:
            models.save(models.chain(CLEAN_NODES), Path(folder) / "chain.onnx")
            found = counted("start", os.path.join(folder, "chain.onnx"), also=also)
    found["model"] = model
    parts, modules = found["bytecodes"], found["modules"]
    own = sum(count for part, count in parts.items() if part.startswith("npu_guard/"))
    found["totals"] = {OWN: own, OTHERS: sum(parts.values()) - own, MODULES: len(modules)}
    found["versions"] = {"python": platform.python_version(), **{name: metadata.version(name) for name in USED}}
    return found


def to_onnx(run: Mapping[str, Any]) -> float:
    """Bytecodes of a run for each that `import onnx` executes."""
    totals = run["totals"]
    return float((totals[OWN] + totals[OTHERS]) / run["reference"])


def grown(found: Mapping[str, Any], recorded: Mapping[str, Any]) -> list[str]:
    """What has grown by more than is allowed: by how much, and where.

    What other packages do is compared between equal versions of them alone: their next release is nobody's change here.
    """
    lines = []
    same = found["versions"] == recorded["versions"]
    for what, allowed in ALLOWED.items():
        if what != OWN and not same:
            continue
        now, was = found["totals"][what], recorded["totals"][what]
        if now <= was * allowed:
            continue
        percent = f"{now / was - 1:+.1%}, {allowed - 1:.0%} allowed"
        lines.append(f"check of {found['model']}, {what}: {now:,} and {was:,} were recorded ({percent})")
        if what == MODULES:
            lines += [f"    new: {name}" for name in found["modules"] if name not in recorded["modules"]]
            continue
        before = recorded["bytecodes"]
        more = {part: count - before.get(part, 0) for part, count in found["bytecodes"].items()}
        own = {part: n for part, n in more.items() if part.startswith("npu_guard/") == (what == OWN) and n > 0}
        for part in sorted(own, key=lambda part: -own[part])[:5]:
            lines.append(f"    {part}: {own[part]:+,}, from {before.get(part, 0):,}")
    return [*lines, ADVICE] if lines else []


def record(runs: Mapping[str, Mapping[str, Any]]) -> None:
    RECORD.parent.mkdir(exist_ok=True)
    kept = {model: {key: run[key] for key in ("totals", "versions", "bytecodes", "modules")} for model, run in runs.items()}
    RECORD.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def recorded() -> dict[str, Any] | None:
    """The record for this version of Python by model, if there is one."""
    found: dict[str, Any] | None = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else None
    return found


def growth(shape: str, also: str = "") -> dict[str, float]:
    """For each format, in bytecodes: what the nodes beyond 2 n of a model of 4 n cost, by what those beyond n of 2 n do."""
    return {form: _increase(found) for form, found in counted("growth", shape, str(NODES), also=also).items()}


def memory(shape: str, also: str = "") -> float:
    """The same for memory in Python objects."""
    return _increase(counted("memory", shape, "500", also=also))


def _increase(found: list[int]) -> float:
    """2 where growth is linear, 4 where it is quadratic, whatever else there is that does not depend on size."""
    small, middle, large = found
    return (large - middle) / (middle - small)


def weights(folder: Path, where: str, layers: int = LAYERS, also: str = "") -> dict[str, float]:
    """How much more a model with many weights takes than one with a layer of 64 MB; they are holes, so the disk stays empty."""
    sys.path.insert(0, str(HERE))
    import models

    write = {"inside": models.inline_weights, "beside": models.external_weights}[where]
    found = []
    for count in (1, layers):
        path = folder / f"{where}{count}.onnx"
        write(path, layers=count, empty=True)
        found.append(counted("weights", str(path), also=also))
    return {what: found[1][what] / found[0][what] for what in found[0]}


def instructions(folder: Path) -> list[tuple[str, float]]:
    """Instructions of whole processes in units of `import onnx`, as valgrind counts them; children included."""
    sys.path.insert(0, str(HERE))
    from html_report import network

    import models

    models.save(models.resnet18(), folder / "resnet18.onnx")
    models.save(models.chain(10_000), folder / "chain.onnx")
    models.save(network(1_000, modules=True), folder / "findings.onnx")
    infer = "import onnx, sys; onnx.shape_inference.infer_shapes(onnx.load(sys.argv[1]))"
    program = str(Path(sys.executable).parent / "npu-guard")
    commands = {
        "import onnx": (sys.executable, "-c", "import onnx"),
        "check of ResNet-18": (program, "check", "resnet18.onnx"),
        "check of 10,000 nodes": (program, "check", "chain.onnx"),
        "onnx parse + inference of 10,000 nodes": (sys.executable, "-c", infer, "chain.onnx"),
        "HTML report of 1,000 nodes": (program, "report", "findings.onnx", "-o", "findings.html"),
    }
    counts = {title: executed(command, folder) for title, command in commands.items()}
    return [(title, count / counts["import onnx"]) for title, count in counts.items()]


def executed(command: tuple[str, ...], folder: Path) -> int:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"PYTHONHASHSEED": "0"}
    tool = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", "--log-file=valgrind.%p"]
    subprocess.run([*tool, *command], cwd=folder, env=environment, capture_output=True, check=False)
    logs = list(folder.glob("valgrind.*"))
    total = sum(int(n.replace(",", "")) for log in logs for n in re.findall(r"I\s+refs:\s+([\d,]+)", log.read_text()))
    for log in logs:
        log.unlink()
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="write the counts of this version of Python into the record")
    parser.add_argument("--instructions", action="store_true", help="count instructions of whole processes, with valgrind")
    options = parser.parse_args()
    if options.instructions:
        if shutil.which("valgrind") is None:
            print("valgrind is not installed; without it, `make bench-counts` counts bytecodes")
            return 0
        with tempfile.TemporaryDirectory(prefix="npu-guard-bench-") as name:
            for title, share in instructions(Path(name)):
                print(f"{title:<40} {share:7.2f} x import onnx")
        return 0
    runs = {model: start(model) for model in (CLEAN, SAMPLE)}
    if options.record:
        record(runs)
    known = recorded()
    rows = []
    for model, run in runs.items():
        totals = run["totals"]
        rows.append((f"check of {model} / import onnx, bytecodes", to_onnx(run), TO_ONNX[model]))
        was = known[model]["totals"] if known else totals
        rows += [(f"{model}, {what} / recorded", totals[what] / was[what], allowed) for what, allowed in ALLOWED.items() if known]
    for shape in SHAPES:
        rows += [(f"twice as many nodes, {shape}, {form}: bytecodes", n, LINEAR[form]) for form, n in growth(shape).items()]
    rows.append(("twice as many nodes, findings: memory", memory("findings"), LINEAR["text"]))
    if Path("/proc/self/io").exists():
        with tempfile.TemporaryDirectory(prefix="npu-guard-bench-") as name:
            for where in ("inside", "beside"):
                rows += [(f"1.5 GB of weights {where}: {what}", n, WEIGHTS) for what, n in weights(Path(name), where).items()]
    print(f"{'ratio':<58} {'counted':>8} {'allowed':>8}")
    for label, counted_, allowed in rows:
        print(f"{label:<58} {counted_:>8.2f} {allowed:>8.2f}  {'ok' if counted_ <= allowed else 'MISSED'}")
    if known is None:
        print(f"(no record for Python {RECORD.stem}: python bench/counts.py --record)")
    else:
        print(*(line for model, run in runs.items() for line in grown(run, known[model])), sep="\n")
    return int(any(counted_ > allowed for _, counted_, allowed in rows))


if __name__ == "__main__":
    sys.exit(main())
