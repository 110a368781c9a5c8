"""`make mending`: what `fix` removes, networks by devices, into docs/mending.md.

Networks are the sample networks and whatever ONNX files or folders are named. A cell is one network on one device: errors
before and after, whether it is deployable, cost, CPU time, and the reasons for what is left. Results are compared by ONNX
Runtime here, not by the project's verifier. Cells are kept by the content of the model and the commit, so a run goes on where
the last one ended. The number behind an arrow is what is left; *deployable* has one piece for the NPU with 95 % of the MACs, and
host work only around it; *failed* wrote no model: its time was over, or the result was not verified. A site is a block that was
replaced; *proved* and *up to rounding* have the label of docs/soundness.md, *sampled* are those that ran alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).resolve().parent))
from mending_page import LABELS, Cell, networks, outcome, page

DEVICES = (
    "aimotive-aiware", "rockchip-rk3588", "qualcomm-htp", "ethos-u85", "ti-tidl:AM68A", "nvidia-dla", "ort-nnapi", "kneron:KL720",
    "axera:AX650", "drobotics-bpu:X5",
)  # fmt: skip
KEPT = Path(".bench/mending.jsonl")
EQUAL = 5e-5
"""Largest error relative to the largest number of an output."""
MOVED = 4
"""Times the largest move of the original, when its input moves by one bit, that a result may differ where that is more: a network
may amplify a rounding without end on inputs a hundred times too large, and a sum in another order is such a rounding."""
SHARE = 95.0
"""Percent of the MACs that have to be in the one piece for the NPU."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", type=Path, help="ONNX files, or folders of them, beside the sample networks")
    parser.add_argument("--devices", default=",".join(DEVICES), help="profiles, with commas (default: ten)")
    parser.add_argument("--no-samples", action="store_true", help="only the models that are named")
    parser.add_argument("--seconds", type=int, default=900, help="CPU time for one cell (default: 900)")
    parser.add_argument("--kept", action="store_true", help="measure nothing: the page of the newest cells that are kept")
    parser.add_argument("--section", help="write a table of these networks between the lines <!-- SECTION --> of the page alone")
    parser.add_argument("--output", type=Path, default=Path("docs/mending.md"))
    options = parser.parse_args()
    described = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(described, capture_output=True, text=True, check=False).stdout.strip()
    known = {(c["model"], c["device"], c["commit"]): c for c in _kept()}
    devices = options.devices.split(",")
    if options.kept and not options.section:
        newest = {(c["name"], c["device"]): c for c in _kept() if c["device"] in devices}
        write(options.output, page(__doc__, list(newest.values()), devices, commit))
        return 0
    cells: list[Cell] = []
    with tempfile.TemporaryDirectory(prefix="npu-guard-mending-") as name:
        folder = Path(name)
        inputs = list(files(options.models))
        inputs += [] if options.no_samples else list(samples(folder))
        for file in inputs:
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            for device in devices:
                cell = known.get((digest, device, commit)) if "dirty" not in commit else None
                if options.kept:
                    cell = next((c for c in _kept()[::-1] if (c["model"], c["device"]) == (digest, device)), None)
                if cell is not None:
                    cell = cell | {"name": file.stem}
                elif options.kept:
                    continue
                else:
                    cell = {"model": digest, "device": device, "commit": commit, "name": file.stem}
                    cell |= measured(file, device, folder / "fixed.onnx", options.seconds)
                    KEPT.parent.mkdir(exist_ok=True)
                    with KEPT.open("a", encoding="utf-8") as log:
                        log.write(json.dumps(cell) + "\n")
                    print(f"{cell['name']} on {device}: {outcome(cell)}", flush=True)
                cells.append(cell)
    if options.section:
        place(options.output, options.section, networks(cells, commit))
    else:
        write(options.output, page(__doc__, cells, devices, commit))
    return int(any(cell.get("wrong") or cell.get("worse") for cell in cells))


def write(path: Path, text: str) -> None:
    """The page, with the sections that are there already behind it."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(
        text + "".join(f"\n{part}" for part in re.findall(r"(?ms)^## [^\n]*\n\n(?:(?!^## ).)*?<!-- end -->\n", old)), "utf-8"
    )


def place(path: Path, section: str, text: str) -> None:
    """Put a table into its section, which begins with a line for it."""
    page, found = re.subn(
        rf"(?s)(<!-- {re.escape(section)} -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{text}{m[2]}", path.read_text("utf-8")
    )
    if not found:
        raise SystemExit(f"{path} has no place for this: a line <!-- {section} --> and after it one <!-- end -->")
    path.write_text(page, "utf-8")


def _kept() -> list[Cell]:
    return [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines()] if KEPT.exists() else []


def files(named: Sequence[Path]) -> Iterator[Path]:
    for path in named:
        yield from sorted(path.glob("**/*.onnx")) if path.is_dir() else (path,)


def samples(folder: Path) -> Iterator[Path]:
    """Files of the sample networks at their tiny size."""
    from npu_guard.zoo.samples import entries, export_system

    for entry in entries():
        path = folder / f"{entry.name}.onnx"
        export_system(entry.name, path, "tiny", "legacy")
        yield path


def tool(*arguments: str, seconds: int) -> tuple[dict[str, Any] | None, str, float]:
    """The JSON of a command, its last words, and the CPU seconds that it and its children took."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))

    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "npu_guard", *arguments, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, preexec_fn=limited)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime
    try:
        return json.loads(done.stdout), done.stderr.strip(), spent
    except ValueError:
        return None, done.stderr.strip() or f"ended with {done.returncode}", spent


def fixed(file: Path, device: str, output: Path, seconds: int, *options: str) -> tuple[int, int, int] | None:
    """Errors before and after `fix`, and how many blocks it replaced; None where it failed."""
    told, _, _ = tool("fix", str(file), "-o", str(output), "--profile", device, *options, seconds=seconds)
    model = {} if told is None else told["models"][0]
    return (model["before"]["error"], model["summary"]["error"], len(model["applied"])) if "before" in model else None


def measured(file: Path, device: str, fixed: Path, seconds: int) -> Cell:
    """One network on one device."""
    fixed.unlink(missing_ok=True)
    told, words, spent = tool("fix", str(file), "-o", str(fixed), "--profile", device, seconds=seconds)
    if told is None:
        return {"failed": words[-300:], "seconds": spent}
    (model,) = told["models"]
    if "before" not in model:
        return {"failed": str(model.get("error"))[:300], "seconds": spent}
    before, after = model["before"], model["summary"]
    cell: Cell = {
        "before": before["error"], "after": after["error"], "seconds": round(spent, 2), "blocks": len(model["applied"]),
        "worse": (after["error"], after["warning"]) > (before["error"], before["warning"]),
        "sites": dict(sites(model["applied"])), "sampled": dict(unproved(model["applied"])),
        "macs": [before["macs"], after["macs"]], "params": [before["params"], after["params"]],
        "reasons": Counter(f"{r['rule']} {r['op_type']}: {kind_of(r['reason'])}" for r in model["remaining"]), "wrong": "",
    }  # fmt: skip
    if model["applied"] and fixed.exists():
        cell["wrong"] = compared(file, fixed)
    elif model["applied"]:
        cell["failed"] = words[-300:]
    if after["error"] and not cell["wrong"]:
        cell["deployable"] = deployable(fixed if fixed.exists() else file, device, seconds)
    return cell


def sites(applied: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """How many blocks each substitution replaced, by what is known of them: keys `elu-to-tanh: proved`."""
    return Counter(f"{a['substitution']}: {_label(a)}" for a in applied)


def unproved(applied: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Why blocks are no more than sampled."""
    return Counter(f"{a['substitution']}: {kind_of(_proof(a).get('reason', ''))}" for a in applied if _label(a) == LABELS[-1])


def _proof(applied: Mapping[str, Any]) -> Mapping[str, Any]:
    return (applied["verification"] or {}).get("proof") or {}


def _label(applied: Mapping[str, Any]) -> str:
    label = str(_proof(applied).get("label", LABELS[-1]))
    return label if label in LABELS else LABELS[-1]


def kind_of(reason: str) -> str:
    """A reason without names and numbers of one place, so that equal ones are counted together."""
    reason = re.sub(r"(would refuse what is new: NPU\d+ at \w+) .*", r"\1", reason)
    return re.sub(r"\d+", "N", re.sub(r"'[^']*'", "'...'", reason)) if "refuse what is new" not in reason else reason


def deployable(file: Path, device: str, seconds: int) -> bool:
    """Whether one piece for the NPU has nearly all MACs, with host work only around it."""
    told, _, _ = tool("partition", str(file), "--profile", device, seconds=seconds)
    pieces = [] if told is None else told["pieces"]
    own = [p for p in pieces if p["side"] == "npu"]
    return len(own) == 1 and own[0]["macs"] >= SHARE / 100 * sum(p["macs"] for p in pieces)


def compared(before: Path, after: Path) -> str:
    """Where the results differ, empty where they do not: normal, image-like, zero and large inputs."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    sessions = [onnxruntime.InferenceSession(str(path), options) for path in (before, after)]
    random = np.random.default_rng(7)
    rounding: dict[int, float] = {}
    for kind, draw in _KINDS.items():
        drawn = {
            i.name: np.asarray(draw(random, [d if isinstance(d, int) else 1 for d in i.shape])) for i in sessions[1].get_inputs()
        }
        feed = _fed(sessions[1], drawn, 251)
        try:
            first = sessions[0].run(None, feed)
        except Exception:  # whatever ONNX Runtime raises for an index out of range
            feed = _fed(sessions[1], drawn, 2)
            first = sessions[0].run(None, feed)
        second = sessions[1].run(None, feed)
        for i, (a, b) in enumerate(zip(first, second, strict=True)):
            # Where large numbers cancel, as a pool of a constant map less that map, nothing but the last bit of these is left.
            rounding.setdefault(i, float(np.finfo(np.float32).eps) * _largest(a))
            least = max(EQUAL * max(_largest(a), 1e-6), rounding[i])
            if a.shape != b.shape or not _distance(a, b) <= least:
                if a.shape == b.shape and _distance(a, b) <= MOVED * max(_distance(a, m[i]) for m in _moved(sessions[0], feed)):
                    continue
                return f"{sessions[0].get_outputs()[i].name} on {kind} inputs"
    return ""


def _fed(session: onnxruntime.InferenceSession, drawn: Mapping[str, Any], below: int) -> dict[str, Any]:
    """Numbers as the inputs want them; integers are whole numbers from 0 to one less than `below`, as bytes and indices are."""
    return {
        i.name: np.asarray(drawn[i.name] if i.type == "tensor(float)" else np.abs(100 * drawn[i.name]) % below, _TYPES[i.type])
        for i in session.get_inputs()
    }


def _largest(a: np.ndarray[Any, Any]) -> float:
    """Of the finite numbers: a network may divide by zero, and its twin has to do so as well."""
    return float(np.max(np.abs(a[np.isfinite(a)].astype(np.float64)), initial=0.0))


def _distance(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    with np.errstate(invalid="ignore"):
        both = (a == b) | (np.isnan(a.astype(np.float64)) & np.isnan(b.astype(np.float64)))
        return float(np.max(np.where(both, 0.0, np.abs(a.astype(np.float64) - b)), initial=0.0))


def _moved(session: onnxruntime.InferenceSession, feed: Mapping[str, Any]) -> list[Any]:
    """What the original gives where each number of its input is the float next to it, up or down."""
    random, results = np.random.default_rng(11), []
    for _ in range(4):
        near = {
            name: np.asarray(np.nextafter(x, np.where(random.random(x.shape) < 0.5, -np.inf, np.inf).astype(x.dtype)))
            if x.dtype.kind == "f"
            else x
            for name, x in feed.items()
        }
        results.append(session.run(None, near))
    return results


_KINDS: Mapping[str, Any] = {
    "normal": lambda random, shape: random.standard_normal(shape),
    "image-like": lambda random, shape: random.random(shape),
    "zero": lambda random, shape: np.zeros(shape),
    "large": lambda random, shape: 100 * random.standard_normal(shape),
}
_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_,
    "tensor(uint8)": np.uint8, "tensor(float16)": np.float16, "tensor(double)": np.float64,
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
