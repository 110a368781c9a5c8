"""Ask Arm's Vela compiler: which operators stay on the NPU?

Options: `accelerator` (such as `ethos-u55-128`) and `core` (`legacy` for the rules that were the default up to Vela 4.5).
Vela reads TFLite, so each operator is written as a TFLite file of its own, quantized to 8 bits; what has no such form is
`not_run`.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
from collections.abc import Mapping
from typing import Any

import driver  # type: ignore[import-not-found]  # lies beside this script, where it runs
import numpy as np
import tflite_op  # type: ignore[import-not-found]  # lies beside this script, where it runs
import tflite_ops  # type: ignore[import-not-found]  # lies beside this script, where it runs
from driver import Answer

_CPU, _NPU = re.compile(r"CPU operators = (\d+)"), re.compile(r"NPU operators = (\d+)")
_REASON = re.compile(r"^(?:Reason: | - )(.+)$", re.MULTILINE)


def judge(path: str, options: Mapping[str, str], folder: str) -> Answer:
    """Every operator of the main graph by itself; those that are alike are compiled once."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    known = _known(model, onnx)
    answers, nodes = {}, []
    for node in model.graph.node:
        try:
            blob = _file(node, known, onnx)
        except tflite_op.NotMapped as error:
            nodes.append(driver.verdict(node, "not_run", f"no TFLite form: {error}"))
            continue
        key = hashlib.sha256(blob).digest()
        if key not in answers:
            answers[key] = _compile(blob, options, folder)
        nodes.append(driver.verdict(node, *answers[key]))
    for status, words in (("refused", ("host", "refused")), ("failed", ("failed",)), ("not_run", ("not_run",))):
        found = [entry for entry in nodes if entry["word"] in words]
        if found:
            return driver.answer(status, found[0]["message"], nodes)
    return driver.answer("accepted", "", nodes)


def _known(model: Any, onnx: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Shapes, types and constants by name."""
    shapes, dtypes = {}, {}
    for value in [*model.graph.input, *model.graph.value_info, *model.graph.output]:
        tensor = value.type.tensor_type
        if tensor.HasField("shape"):
            shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
        if tensor.elem_type:
            dtypes[value.name] = str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)))
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    constants[node.output[0]] = onnx.numpy_helper.to_array(attribute.t)
    return shapes, dtypes, constants


def _file(node: Any, known: Any, onnx: Any) -> bytes:
    if node.domain or node.op_type not in tflite_ops.MAPPED:
        raise tflite_op.NotMapped(node.op_type)
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    texts = {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}
    op = tflite_op.Op(node, *known, texts)
    return bytes(op.file.file(tflite_ops.MAPPED[node.op_type](op)))


def _compile(blob: bytes, options: Mapping[str, str], folder: str) -> tuple[str, str]:
    path = os.path.join(folder, "one.tflite")
    with open(path, "wb") as file:
        file.write(blob)
    arguments = [path, "--accelerator-config", options.get("accelerator", "ethos-u55-128"), "--output-dir", folder]
    arguments += ["--show-cpu-operations"] + (["--debug-force-legacy-core"] if options.get("core") == "legacy" else [])
    found, log = driver.apart(lambda: _vela(arguments), folder, 600)
    if found.get("status") == "failed":
        # This is how it says that it can neither place an operator on the NPU nor write it back as TFLite.
        return "refused" if "could not run on NPU" in found["message"] else "failed", found["message"]
    host, npu = _CPU.search(log), _NPU.search(log)
    if host is None or npu is None:
        return "failed", f"Vela said no count of operators: {driver.last_line(log)}"
    if int(host[1]):
        return "host", "; ".join(dict.fromkeys(reason.strip() for reason in _REASON.findall(log)))
    return ("merged", "npu")[int(npu[1])] if int(npu[1]) < 2 else "decomposed", ""


def _vela(arguments: list[str]) -> dict[str, Any]:
    return {"code": importlib.import_module("ethosu.vela.vela").main(arguments)}


if __name__ == "__main__":
    driver.main(judge, ("onnx", "ethosu.vela.vela"))
