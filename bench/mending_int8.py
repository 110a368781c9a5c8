"""`make mending`: the same for quantized networks, into docs/mending-int8.md: networks that a device refuses.

Networks are the sample networks and whatever ONNX files or folders are named.
A network is quantized by `npu-guard quantize` in the scheme that the device states, on drawn data, and mended. *Float* and
*int8* are errors before and after `fix`; those of int8 include the rules for quantization. *Rounded otherwise* is where the
forms are not exact in integers, as `fix` tells it: new tensors with a scale of their own, such as parts of sums (*anew*),
tensors with another scale than before (*scale*), tensors that are no more there (*gone*), and new weights off the grid of the
old ones (*weights*). Where there is none of it, each tensor is the same integers; a result that moves by more than a step there
does so by sums in floating point that fall on the other side of a tie, of which the layers behind make more. *Alone* is how far
the quantized network moves by itself there, when each tensor is moved by 5e-7 of it (four roundings) before it is rounded.
*Steps* is the largest move of a result, in steps of the scale with which it is held (of integers 1), by ONNX Runtime here, on
inputs of the kind that it was calibrated with; of a result in floating point it is the signal-to-noise ratio between before and
after. *To float* is that of int8 against the network in floating point, before and after. *Loses* is a network that comes less
close to it than before, by more than a bit (6 dB); *lag* one that has more errors left than in floating point, of the scheme as
well, and which they are.
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
from mending_int8_page import LIMIT_DB, Cell, older, page, rounded, row, tables

DEVICES = ("aimotive-aiware", "ort-nnapi", "ethos-u85", "nvidia-dla", "rockchip-rk3588", "qualcomm-htp")
"""Left open, unsigned with channels at convolutions alone, all in integers, symmetric, QDQ alone, integers or else slow."""
SAMPLES, JUDGED, SHAKEN = 8, 4, 4
BIT_DB = 6.02
KEPT = Path(".bench/mending-int8.jsonl")
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
        show(options, [c for c in map(json.loads, lines) if c["device"] in options.devices.split(",")], commit)
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
    show(options, cells, commit)
    return int(any(cell.get("wrong") or cell.get("lag") for cell in cells))


def show(options: argparse.Namespace, cells: Sequence[Cell], commit: str) -> None:
    """Write the page, or a section of it, with what it has of other networks and devices; the newest of each is shown."""
    text = options.output.read_text(encoding="utf-8") if options.output.exists() else ""
    own, _, sections = text.partition("\n## ")
    devices = list(dict.fromkeys([*DEVICES, *options.devices.split(",")]))
    newest = {(c["name"], c["device"]): c for c in [*older(sections if options.section else own), *cells]}
    known = sorted(newest.values(), key=lambda c: devices.index(c["device"]))
    devices = [d for d in devices if any(c["device"] == d for c in known)]
    if options.section:
        mending.place(options.output, options.section, "\n".join(tables(known, devices, commit)) + "\n")
    else:
        mending.write(options.output, page(known, devices, commit, __doc__ or ""))


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
    if cell["lag"]:
        cell["more"] = more(file, device, folder, fixed, seconds)
    if fixed.exists():
        cell |= compared(file, made, fixed)
        exact = rounded(cell) == "none"
        cell |= {"alone": alone(file, made)} if exact and cell["steps"] is not None and cell["steps"] > 1.01 else {}
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


def more(file: Path, device: str, folder: Path, fixed: Path, seconds: int) -> str:
    """The errors that are left in integers and not in floating point."""
    plain = folder / "plain.onnx"
    mending.fixed(file, device, plain, seconds)
    left = []
    for path in (plain if plain.exists() else file, fixed):
        told, _, _ = mending.tool("check", str(path), "--profile", device, seconds=seconds)
        findings = told["models"][0]["findings"] if told is not None else []
        left.append({(f["rule"], f["node"]): f["message"] for f in findings if f["severity"] == "error"})
    return "; ".join(f"{rule} {left[1][rule, node]}" for rule, node in left[1] if (rule, node) not in left[0]).replace("|", "/")


def alone(plain: Path, quantized: Path) -> float:
    """Steps by which the quantized network moves when each tensor is moved by a few roundings before it is rounded."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    scales = output_scales(quantized)
    feeds = [feed(plain, seed) for seed in range(JUDGED)]
    as_it_is = onnxruntime.InferenceSession(str(quantized), options)
    names = [o.name for o in as_it_is.get_outputs() if o.name in scales or not o.type.startswith("tensor(float")]
    old, most = [as_it_is.run(names, f) for f in feeds], 0.0
    for seed in range(SHAKEN):
        model, random = onnx.load(quantized), np.random.default_rng(seed)
        nodes = []
        for index, node in enumerate(model.graph.node):
            if node.op_type == "QuantizeLinear":
                factor = np.float32(1 + random.choice([-1, 1]) * 4 * 2.0**-23)
                model.graph.initializer.append(onnx.numpy_helper.from_array(factor, f"shaken {index}"))
                nodes.append(onnx.helper.make_node("Mul", [node.input[0], f"shaken {index}"], [f"moved {index}"]))
                node.input[0] = f"moved {index}"
            nodes.append(node)
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del model.graph.node[:]
        model.graph.node.extend(kept)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        for f, before in zip(feeds, old, strict=True):
            for name, a, b in zip(names, before, session.run(names, f), strict=True):
                if a.shape == b.shape:
                    most = max(most, float(np.abs(a.astype(np.float64) - b).max(initial=0.0)) / scales.get(name, 1.0))
    return round(most, 2)


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


if __name__ == "__main__":
    sys.exit(main())
