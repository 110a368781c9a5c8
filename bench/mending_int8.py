"""`make mending`: the same for quantized networks, into docs/mending-int8.md: networks that a device refuses.

Networks are the sample networks and whatever ONNX files or folders are named.
A network is quantized by `npu-guard quantize` in the scheme that the device states, on drawn data, and mended. *Float* and
*int8* are errors before and after `fix`; those of int8 include the rules for quantization. *Rounded otherwise* is where the
forms are not exact in integers, as `fix` tells it: new tensors with a scale of their own, such as parts of sums (*anew*),
tensors with another scale than before (*scale*), tensors that are no more there (*gone*), and new weights off the grid of the
old ones (*weights*). Where there is none of it, each tensor is the same integers; a result that moves by more than a step there
does so by sums in floating point that fall on the other side of a tie, of which the layers behind make more. *Steps* is the
largest move of a result, in steps of the scale with which it is held (of integers 1), by ONNX Runtime here, on inputs of the
kind that it was calibrated with; of a result in floating point it is the signal-to-noise ratio between before and after. *To
float* is that of int8 against the network in floating point, before and after. *Loses* is a network that comes less close to it
than before, by more than a bit (6 dB); *lag* one that has more errors left than in floating point, of the scheme as well.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mending
import numpy as np
import onnx
import onnxruntime

DEVICES = ("aimotive-aiware", "ort-nnapi", "ethos-u85", "nvidia-dla", "rockchip-rk3588", "qualcomm-htp")
"""Left open, unsigned with channels at convolutions alone, all in integers, symmetric, QDQ alone, integers or else slow."""
SAMPLES, JUDGED = 8, 4
BIT_DB, LIMIT_DB = 6.02, 99.0
CLOSE_DB = 90.0
"""Between results in floating point of which only the last bits are others."""
KEPT = Path(".bench/mending-int8.jsonl")
Cell = dict[str, Any]
Array = np.ndarray[Any, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="*", help="ONNX files, or folders of them, beside the sample networks")
    parser.add_argument("--samples", metavar="NAMES", help="sample networks, with commas; none: nothing after the equals sign")
    parser.add_argument("--devices", default=",".join(DEVICES), help="profiles, with commas")
    parser.add_argument("--seconds", type=int, default=900, help="CPU time for one command (default: 900)")
    parser.add_argument("--section", help="write the tables between the lines <!-- SECTION --> of the page alone")
    parser.add_argument("--kept", action="store_true", help="measure nothing: the page of the newest cells that are kept")
    parser.add_argument("--output", type=Path, default=Path("docs/mending-int8.md"))
    options = parser.parse_args()
    commit = subprocess.run(["git", "describe", "--always"], capture_output=True, text=True, check=False).stdout.strip()
    lines = KEPT.read_text(encoding="utf-8").splitlines() if KEPT.exists() else []
    known = {(c["model"], c["device"], c["commit"]): c for c in map(json.loads, lines)}
    if options.kept:
        devices = options.devices.split(",")
        newest = {(c["name"], c["device"]): c for c in map(json.loads, lines) if c["device"] in devices}
        ordered = sorted(newest.values(), key=lambda c: devices.index(c["device"]))
        mending.write(options.output, page(ordered, devices, commit))
        return 0
    cells: list[Cell] = []
    with tempfile.TemporaryDirectory(prefix="npu-guard-mending-") as name:
        folder = Path(name)
        wanted = None if options.samples is None else options.samples.split(",")
        own = [file for file in mending.samples(folder) if wanted is None or file.stem in wanted] if wanted != [""] else []
        for device in options.devices.split(","):
            for file in [*mending.files(options.models), *own]:
                key = hashlib.sha256(file.read_bytes()).hexdigest(), device, commit
                cell = known.get(key)
                if cell is None:
                    cell = {"model": key[0], "device": device, "commit": commit, "name": file.stem}
                    cell |= measured(file, device, folder, options.seconds)
                    KEPT.parent.mkdir(exist_ok=True)
                    with KEPT.open("a", encoding="utf-8") as log:
                        log.write(json.dumps(cell) + "\n")
                    print(f"{cell['name']} on {device}: {row(cell)}", flush=True)
                cells.append(cell)
    if options.section:
        mending.place(options.output, options.section, "\n".join(tables(cells, options.devices.split(","), commit)) + "\n")
    else:
        mending.write(options.output, page(cells, options.devices.split(","), commit))
    return int(any(cell.get("wrong") or cell.get("lag") for cell in cells))


def measured(file: Path, device: str, folder: Path, seconds: int) -> Cell:
    """One network on one device; nothing but that it fits, where it does."""
    made, fixed, data = folder / "int8.onnx", folder / "fixed.onnx", folder / "data.npz"
    told, words, _ = mending.tool("check", str(file), "--profile", device, seconds=seconds)
    if told is None or not told["models"][0].get("summary"):
        return {"failed": words[-200:]}
    if not told["models"][0]["summary"]["error"]:
        return {"fits": True}
    plain = mending.fixed(file, device, fixed, seconds)
    if plain is None:
        return {"failed": "fix of the network in floating point"}
    feeds = [feed(file, seed) for seed in range(SAMPLES)]
    np.savez(data, **{name: np.stack([f[name] for f in feeds]) for name in feeds[0]})
    arguments = ("quantize", str(file), "--calibration", str(data), "--profile", device, "-o", str(made), "--minimum-snr", "-300")
    made.unlink(missing_ok=True)
    _, words, _ = mending.tool(*arguments, seconds=seconds)
    if not made.exists():
        return {"float": plain, "failed": f"quantize: {words[-200:]}"}
    fixed.unlink(missing_ok=True)
    arguments = ("fix", str(made), "-o", str(fixed), "--profile", device, "--calibration", str(data))
    told, words, _ = mending.tool(*arguments, seconds=seconds)
    model = {} if told is None else told["models"][0]
    if "before" not in model:
        return {"float": plain, "failed": f"fix of the quantized network: {words[-200:]}"}
    numbers = model["before"]["error"], model["summary"]["error"], len(model["applied"])
    roundings = (model["verification"] or {}).get("roundings")
    cell: Cell = {"float": plain, "int8": numbers, "lag": numbers[1] > plain[1], "wrong": "", "roundings": roundings}
    if fixed.exists():
        cell |= compared(file, made, fixed)
    elif numbers[2]:
        cell["failed"] = "the fixed quantized network was not verified"
    return cell


def feed(file: Path, seed: int) -> dict[str, Array]:
    """Normal numbers for each input."""
    graph = onnx.load(file, load_external_data=False).graph
    stored, random = {t.name for t in graph.initializer}, np.random.default_rng(seed)
    made: dict[str, Array] = {}
    for entry in graph.input:
        if entry.name not in stored:
            kind = entry.type.tensor_type
            numbers = np.asarray(random.standard_normal([d.dim_value or 1 for d in kind.shape.dim]))
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            made[entry.name] = numbers.astype(dtype) if dtype == np.float32 else (np.abs(numbers) % 2).astype(dtype)
    return made


def compared(plain: Path, before: Path, after: Path) -> Cell:
    """Steps over some inputs, and what is wrong with the result."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    sessions = [onnxruntime.InferenceSession(str(path), options) for path in (plain, before, after)]
    results = [[s.run(None, feed(plain, seed)) for seed in range(JUDGED)] for s in sessions]
    scales = output_scales(before)
    steps, near, wrong = 0.0, LIMIT_DB, ""
    noise = [LIMIT_DB, LIMIT_DB]
    for i, entry in enumerate(sessions[0].get_outputs()):
        real, old, new = (np.stack([r[i] for r in result]).astype(np.float64) for result in results)
        if real.shape != old.shape or old.shape != new.shape:
            return {"steps": None, "wrong": f"{entry.name}: shapes"}
        if entry.name in scales or not entry.type.startswith("tensor(float"):
            steps = max(steps, float(np.abs(old - new).max(initial=0.0)) / scales.get(entry.name, 1.0))
        else:
            near = min(near, ratio(old, new))
        own = ratio(real, old), ratio(real, new)
        noise = list(own) if own[1] < noise[1] else noise
        if own[1] < min(own[0], 40.0) - BIT_DB:
            wrong = f"{entry.name}: {own[0]:.0f} dB before, {own[1]:.0f} dB after"
    return {"steps": round(steps, 2), "near": round(near, 1), "noise": [round(n, 1) for n in noise], "wrong": wrong}


def output_scales(file: Path) -> Mapping[str, float]:
    """Scales of the outputs that a DequantizeLinear makes."""
    graph = onnx.load(file).graph
    numbers = {t.name: t for t in graph.initializer if not t.dims or list(t.dims) == [1]}
    makers = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    found = {o.name: makers[o.name].input[1] for o in graph.output if o.name in makers}
    return {o: float(onnx.numpy_helper.to_array(numbers[s]).reshape(-1)[0]) for o, s in found.items() if s in numbers}


def ratio(real: Array, other: Array) -> float:
    """Signal-to-noise ratio in dB."""
    finite = np.isfinite(real) & np.isfinite(other)
    noise, signal = (float(np.square(x[finite]).sum()) for x in (real - other, real))
    return LIMIT_DB if noise == 0 else float(np.clip(10 * np.log10(max(signal, 1e-300) / noise), -LIMIT_DB, LIMIT_DB))


def row(cell: Cell) -> str:
    """The cells of one line behind network and device."""
    if cell.get("fits"):
        return "fits"
    plain, numbers = (f"{c[0]} -> {c[1]}" if (c := cell.get(k)) else "" for k in ("float", "int8"))
    if cell.get("failed"):
        return f"{plain} | {numbers or 'failed'} | | | | {cell['failed'].replace('|', '/')}"
    marks = " ".join([*(["lag"] if cell.get("lag") else []), *([f"loses: {cell['wrong']}"] if cell["wrong"] else [])])
    if "roundings" not in cell:
        return f"{plain} | {numbers} | not asked | {cell['steps']:g} | | {marks}"
    if "steps" not in cell:
        return f"{plain} | {numbers} | nothing replaced | 0 | | {marks}"
    moved = f"{cell['steps']:g}" if cell["near"] == LIMIT_DB else f"{cell['steps']:g}, {cell['near']:g} dB"
    return f"{plain} | {numbers} | {rounded(cell)} | {moved} | {cell['noise'][0]:g} -> {cell['noise'][1]:g} dB | {marks}"


def rounded(cell: Cell) -> str:
    """Where it is not exact in integers."""
    names = {"anew": "anew", "otherwise": "scale", "left_out": "gone", "weights": "weights"}
    found = [f"{count} {name}" for key, name in names.items() if (count := (cell.get("roundings") or {}).get(key))]
    return ", ".join(found) or "none"


def within(cell: Cell) -> bool:
    """Whether no result moves by more than a step; in floating point, not by more than the last bits."""
    return "steps" not in cell or (cell["steps"] <= 1.01 and cell.get("near", LIMIT_DB) >= CLOSE_DB)


def page(cells: Sequence[Cell], devices: Sequence[str], commit: str) -> str:
    """The page: sums for each device, and a line for each network with errors."""
    told = (__doc__ or "").strip().splitlines()[2:]
    lines = ["# What `fix` mends in quantized networks", "", "Written by `make mending`, as [mending.md](mending.md).", *told, ""]
    return "\n".join([*lines, *tables(cells, devices, commit)]) + "\n"


def tables(cells: Sequence[Cell], devices: Sequence[str], commit: str) -> list[str]:
    """Sums for each device, and a line for each network with errors."""
    older = sum(cell["commit"] != commit for cell in cells)
    lines = [f"{older} of {len(cells)} cells are kept from an older commit, and may be better now.", ""] if older else []
    lines += [
        "| device | networks with errors | float: errors | after | int8: errors | after | exact in integers | up to one step "
        "| others | up to one step | lag | loses | failed |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for device in devices:
        some = [c for c in cells if c["device"] == device and not c.get("fits")]
        ran = [c for c in some if "int8" in c]
        sums = [sum(c[kind][i] for c in ran) for kind in ("float", "int8") for i in (0, 1)]
        exact = [c for c in ran if "roundings" in c and rounded(c) == "none"]
        others = [c for c in ran if c not in exact]
        sums += [len(exact), sum(map(within, exact)), len(others), sum(map(within, others))]
        marks = [sum(bool(c.get(key)) for c in some) for key in ("lag", "wrong", "failed")]
        lines.append(f"| {' | '.join(map(str, (device, len(ran), *sums, *marks)))} |")
    lines += [
        "",
        "| network | device | float | int8 | rounded otherwise | steps | to float | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return lines + [f"| {c['name']} | {c['device']} | {row(c)} |" for c in cells if not c.get("fits")]


if __name__ == "__main__":
    sys.exit(main())
