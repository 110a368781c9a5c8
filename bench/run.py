"""`make bench`: start-up, time and memory of `check` and `fix` beside the budgets; `make bench-peers`: beside other tools.

Every number is the median of whole processes, measured in turns with what it is compared with. The models are
made in a temporary folder (6.5 GB); nothing is written elsewhere, but for the peers' environments in .bench/.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import fix
import peers
from measure import HEAD, Series, interleaved, ratio

HERE = Path(__file__).resolve().parent
PARSE_AND_INFER = "import onnx, sys; onnx.shape_inference.infer_shapes(onnx.load(sys.argv[1], load_external_data=False))"
MODELS = {
    "resnet18": "ResNet-18, 45 MB",
    "inline": "1.5 GB of weights inside",
    "external": "1.6 GB of weights beside",
    "chain_1000": "1,000 nodes",
    "chain_10000": "10,000 nodes",
    "chain_100000": "100,000 nodes",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="rounds after the one that warms caches (default: 7)")
    parser.add_argument("--peers", action="store_true", help="measure other tools on the same files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="npu-guard-bench-") as name:
        folder = Path(name)
        print("making the models ...", flush=True)
        subprocess.run([sys.executable, str(HERE / "models.py"), name], check=True)
        if options.peers:
            peers.measure(folder, MODELS, options.runs)
            return 0
        return budgets(folder, options.runs)


def check(folder: Path, model: str) -> Sequence[str]:
    return (str(Path(sys.executable).parent / "npu-guard"), "check", str(folder / f"{model}.onnx"))


def budgets(folder: Path, runs: int) -> int:
    """Measure what has a budget; 1 where one is missed."""
    commands: dict[str, Sequence[str]] = {"import onnx": (sys.executable, "-c", "import onnx")}
    commands |= {title: check(folder, model) for model, title in MODELS.items() if model != "chain_100000"}
    found = interleaved(commands, runs, folder)
    largest = str(folder / "chain_100000.onnx")
    baseline = "onnx parse + inference"
    pair = {MODELS["chain_100000"]: check(folder, "chain_100000"), baseline: (sys.executable, "-c", PARSE_AND_INFER, largest)}
    found |= interleaved(pair, runs, folder)
    show(found, runs)
    wrong = [name for name, series in found.items() if series.code not in (0, 1)]
    if wrong:
        print(f"did not end well: {', '.join(wrong)}")
        return 1

    time = {name: series.seconds for name, series in found.items()}
    size = {name: series.megabytes for name, series in found.items()}
    small, middle, large = (MODELS[f"chain_{n}"] for n in (1_000, 10_000, 100_000))
    first = (time[middle] - time[small]) / 9_000 * 1e6
    second = (time[large] - time[middle]) / 90_000 * 1e6
    resnet, inline, external = MODELS["resnet18"], MODELS["inline"], MODELS["external"]
    rows = [
        ("ResNet-18 / import onnx, time", ratio(found[resnet], found["import onnx"]), 1.5, "x"),
        ("ResNet-18, memory", size[resnet], 120, "MB"),
        ("1.5 GB inside / ResNet-18, time", ratio(found[inline], found[resnet]), 1.3, "x"),
        ("1.5 GB inside, memory", size[inline], 150, "MB"),
        ("1.6 GB beside / ResNet-18, time", ratio(found[external], found[resnet]), 1.3, "x"),
        ("1.6 GB beside, memory", size[external], 150, "MB"),
        ("100,000 nodes / onnx parse + inference, time", ratio(found[large], found[baseline]), 3.0, "x"),
        ("time per node, 10,000 to 100,000 / 1,000 to 10,000", second / first, 1.3, "x"),
    ]
    rows += fix.rows(folder, runs)
    print(f"\n{'budget':<60} {'measured':>10} {'allowed':>10}")
    for label, measured, allowed, unit in rows:
        word = "ok" if measured <= allowed else "MISSED"
        print(f"{label:<60} {measured:>7.2f} {unit:<2} {allowed:>7.2f} {unit:<2}  {word}")
    print(f"(microseconds per node: {first:.1f} from 1,000 to 10,000, {second:.1f} from there to 100,000)")
    return int(any(measured > allowed for _, measured, allowed, _ in rows))


def show(found: Mapping[str, Series], runs: int) -> None:
    print(f"\nmedian of {runs} runs (smallest-largest), whole processes\n\n{'':<28}{HEAD}")
    for name, series in found.items():
        print(f"{name:<28}{series}")


if __name__ == "__main__":
    sys.exit(main())
