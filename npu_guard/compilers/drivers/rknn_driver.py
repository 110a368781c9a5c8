"""Ask Rockchip's rknn-toolkit2: on what does each layer run?

Options: `platform` (such as `rk3588`), and `calibration` for the toolkit's own quantization to 8 bits: the file that names
its calibration data, as rknn-toolkit2 reads it, or `drawn` for normally distributed inputs. Without it the model is
compiled as it is: in float16, or in 8 bits where it has QuantizeLinear and DequantizeLinear. The table of layers in the log
is the answer.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Mapping
from typing import Any

import driver  # type: ignore[import-not-found]  # lies beside this script, where it runs
from driver import Answer

Layer = tuple[str, str, str]
"""Operator, target and name."""

_LAYER = re.compile(r"^D RKNN: \[[^\]]*\] (\d+) +(\w+) +\S+ +(NPU|CPU|GPU) .* (\S+)\s*$", re.MULTILINE)
_ERROR = re.compile(r"^E (?:RKNN: \[[^\]]*\] )?\S.*$", re.MULTILINE)
_CODE = "the toolkit ended with an error code"
_ENDS = ("InputOperator", "OutputOperator")


def judge(path: str, options: Mapping[str, str], folder: str) -> Answer:
    """Layers are matched with nodes by name; what a node was split into has names of its own, and runs on the NPU or not."""
    model, copy = driver.renamed(path, folder, tensors=True)
    found, log = driver.apart(lambda: _build(model, copy, options, folder), folder, 3600)
    nodes = model.graph.node
    if "error" not in found:
        return found  # the child failed
    if found["error"]:
        message = found["error"] if found["error"] != _CODE else driver.last_line("\n".join(_ERROR.findall(log))) or _CODE
        named = set(driver.indices(message)) if len(nodes) > 1 else {0}
        words = ["refused" if index in named else "not_run" for index in range(len(nodes))]
        return driver.answer(
            "refused",
            message,
            [driver.verdict(n, w, message if w == "refused" else "") for n, w in zip(nodes, words, strict=False)],
        )
    layers = _without_border([(op, target, name) for _, op, target, name in _LAYER.findall(log) if op not in _ENDS])
    if not layers and "Network Layer Information Table" not in log:
        return driver.failed("the log has no table of layers")
    verdicts, others = _verdicts(nodes, layers)
    host = bool(others) or any(v["word"] == "host" for v in verdicts)
    return driver.answer("refused" if host else "accepted", f"also on the CPU: {', '.join(others)}" if others else "", verdicts)


def _without_border(layers: list[Layer]) -> list[Layer]:
    """Without the reshapes to and from four dimensions that the toolkit puts where a model begins and ends.

    They move data that comes from the CPU or goes there, and are no operator of the model: they are named after a tensor, where a
    reshape of the model, or what became of one, has its node's name.
    """
    inserted = [op == "Reshape" and not driver.indices(name) for op, _, name in layers]
    first = next((i for i, border in enumerate(inserted) if not border), len(layers))
    last = next((i for i in range(len(layers), 0, -1) if not inserted[i - 1]), 0)
    return layers[first:last] if first < last else layers


def _verdicts(nodes: Any, layers: list[Layer]) -> tuple[list[Answer], list[str]]:
    """One verdict for each node, and the CPU layers that belong to none.

    What the toolkit inserts between two operators is named after the tensor between them, and counts for the one that gives it.
    """
    own: dict[int, list[tuple[str, str]]] = {index: [] for index in range(len(nodes))}
    others = []
    for op, target, name in layers:
        named = [i for i in driver.indices(name) or driver.makers(name) if i in own] or ([0] if len(nodes) == 1 else [])
        for index in named:
            own[index].append((op, target))
        if not named and target != "NPU":
            others.append(f"{op} ({name})")
    verdicts = []
    for index, node in enumerate(nodes):
        outside = sorted({f"{op} on the {target}" for op, target in own[index] if target != "NPU"})
        word = "host" if outside else ("merged", "npu")[len(own[index])] if len(own[index]) < 2 else "decomposed"
        verdicts.append(driver.verdict(node, word, ", ".join(outside)))
    return verdicts, others


def _build(model: Any, path: str, options: Mapping[str, str], folder: str) -> Answer:
    data = options.get("calibration", "")
    if data == "drawn":
        data = _drawn(model, folder)
    rknn = importlib.import_module("rknn.api").RKNN(verbose=True)
    try:
        rknn.config(target_platform=options.get("platform", "rk3588"))
        code = rknn.load_onnx(model=path) or rknn.build(do_quantization=bool(data), dataset=data or None)
    except Exception as error:  # how the toolkit refuses a model; a traceback comes before what it says
        return {"error": " ".join(str(error).rpartition("Error: ")[2].split())[:400] or type(error).__name__}
    rknn.release()
    return {"error": _CODE if code else ""}


def _drawn(model: Any, folder: str) -> str:
    """A file that names one set of inputs for the toolkit's calibration. Raises ValueError where a shape is open."""
    import numpy

    draw, names = numpy.random.default_rng(0), []
    given = {tensor.name for tensor in model.graph.initializer}
    for place, value in enumerate(v for v in model.graph.input if v.name not in given):
        kind = value.type.tensor_type
        shape = [axis.dim_value for axis in kind.shape.dim]
        if not kind.HasField("shape") or min(shape, default=1) < 1:
            raise ValueError(f"calibration needs fixed shapes, and input {value.name!r} has an open one")
        names.append(os.path.join(folder, f"input{place}.npy"))
        numpy.save(names[-1], draw.standard_normal(shape).astype(numpy.float32))
    path = os.path.join(folder, "calibration.txt")
    with open(path, "w", encoding="utf-8") as file:
        file.write(" ".join(names) + "\n")
    return path


if __name__ == "__main__":
    driver.main(judge, ("rknn.api",))
