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
from collections.abc import Collection, Mapping
from typing import Any

import driver  # type: ignore[import-not-found]  # lies beside this script, where it runs
import numpy as np
import tflite_op  # type: ignore[import-not-found]  # lies beside this script, where it runs
import tflite_ops  # type: ignore[import-not-found]  # lies beside this script, where it runs
from driver import Answer

_CPU, _NPU = re.compile(r"CPU operators = (\d+)"), re.compile(r"NPU operators = (\d+)")
_FOLDED = frozenset(
    {"Constant", "Gather", "Slice", "Concat", "Unsqueeze", "Squeeze", "Cast", "Add", "Sub", "Mul", "Div", "Mod", "Floor", "Ceil",
     "Range", "ConstantOfShape", "Reshape", "Transpose", "Equal", "Where", "Min", "Max", "ReduceProd", "ReduceMin", "ReduceMax",
     "Identity", "Expand"}
)  # fmt: skip
"""Constants, and operators of shape arithmetic."""
_POSITIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Softplus", "Exp"})
_MOST_FOLDED = 4096
"""Elements of an operand: weights are not shapes."""
_REASON = re.compile(r"^(?:Reason: | - )(.+)$", re.MULTILINE)


def judge(path: str, options: Mapping[str, str], folder: str) -> Answer:
    """Every operator of the main graph by itself; those that are alike are compiled once."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    folded: set[str] = set()
    while more := _fold(model, onnx, folded):
        folded |= more
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)  # which knows more by what is constant now
    known, positive = _known(model, onnx), _positive(model.graph)
    answers, nodes = {}, []
    for node in model.graph.node:
        if node.output[0] in folded:
            nodes.append(driver.verdict(node, "merged", "computed from shapes and constants before"))
            continue
        try:
            blob = _file(node, known, onnx, positive)
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


def _fold(model: Any, onnx: Any, before: Collection[str] = ()) -> set[str]:
    """Compute what follows from shapes and constants alone, as converters do, and make it weights of the model.

    Returns what the folded nodes give, those left out that were so before. They stay in the graph, so that each has an answer.
    """
    from onnx.reference import ReferenceEvaluator

    shapes, _, constants = _known(model, onnx)
    folded: set[str] = set()
    for node in model.graph.node:
        if node.output[0] in before:
            continue
        operands = [name for name in node.input if name]
        if node.op_type == "Shape" and not node.attribute and None not in shapes.get(node.input[0], (None,)):
            values: list[Any] = [np.array(shapes[node.input[0]], np.int64)]
        elif node.op_type in _FOLDED and all(name in constants and constants[name].size <= _MOST_FOLDED for name in operands):
            graph = onnx.helper.make_graph(
                [node], "one", [], [onnx.ValueInfoProto(name=name) for name in node.output],
                [onnx.numpy_helper.from_array(constants[name], name) for name in operands],
            )  # fmt: skip
            one = onnx.helper.make_model(graph, opset_imports=model.opset_import)
            try:
                values = list(ReferenceEvaluator(one).run(None, {}))
            except Exception:  # what it cannot compute stays a question for Vela
                continue
        else:
            continue
        constants |= dict(zip(node.output, values, strict=True))
        folded.update(node.output)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(constants[name]), name) for name in sorted(folded))
    return folded


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


def _positive(graph: Any) -> set[str]:
    """What has no number below 0, as it comes from such an operator or from one that picks numbers of such a tensor."""
    found: set[str] = set()
    for node in graph.node:
        if node.op_type in _POSITIVE or (node.op_type in ("MaxPool", "Identity", "Dropout") and node.input[0] in found):
            found.update(node.output[:1])
    return found


def _file(node: Any, known: Any, onnx: Any, positive: Collection[str] = ()) -> bytes:
    if node.domain or node.op_type not in tflite_ops.MAPPED:
        raise tflite_op.NotMapped(node.op_type)
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    texts = {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}
    op = tflite_op.Op(node, *known, texts, positive)
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
