"""Ask Qualcomm's HTP compiler, by way of ONNX Runtime's QNN provider: which nodes does it take?

Options: `soc` (model number of the chip) and `arch` (version of the HTP). Float32 models are compiled as float16.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any

import driver  # type: ignore[import-not-found]  # lies beside this script, where it runs
from driver import Answer

_REFUSED = re.compile(r"failed for node `?op(\d+)z`?[^\n]*error code (\d+)")


def judge(path: str, options: Mapping[str, str], folder: str) -> Answer:
    """The provider takes what it can, and ONNX Runtime tells which nodes those are."""
    model, copy = driver.renamed(path, folder)
    found, log = driver.apart(lambda: _assigned(copy, options), folder, 3600)
    if "nodes" in found:
        return found  # the child failed
    if "error" in found:
        named = set(driver.indices(found["error"])) if len(model.graph.node) > 1 else {0}
        words = [("refused", found["error"]) if index in named else ("not_run", "") for index in range(len(model.graph.node))]
        nodes = [driver.verdict(node, *word) for node, word in zip(model.graph.node, words, strict=True)]
        return driver.answer("refused", found["error"], nodes)
    reasons = {int(index): f"the validation of the operator ended with error {code}" for index, code in _REFUSED.findall(log)}
    placed: dict[int, str] = {}
    for provider, names in found.items():
        for index in (i for name in names for i in driver.indices(name)):
            if placed.get(index) != "host":
                placed[index] = "npu" if provider == "QNNExecutionProvider" else "host"
    nodes = []
    for index, node in enumerate(model.graph.node):
        word = placed.get(index, "merged")
        nodes.append(driver.verdict(node, word, reasons.get(index, "not taken by the provider") if word == "host" else ""))
    return driver.answer("refused" if "host" in placed.values() else "accepted", "", nodes)


def _assigned(path: str, options: Mapping[str, str]) -> dict[str, Any]:
    """Names of nodes by the provider that runs them; `error` where the compiler gave up."""
    onnxruntime, onnxruntime_qnn = map(importlib.import_module, ("onnxruntime", "onnxruntime_qnn"))
    onnxruntime.register_execution_provider_library("QNNExecutionProvider", onnxruntime_qnn.get_library_path())
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == "QNNExecutionProvider"]
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 2
    # What comes later than basic optimisations is for other providers' nodes and would only hide names.
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    chip = {"htp_arch": options.get("arch", "73"), "soc_model": options.get("soc", "60")}
    settings.add_provider_for_devices(
        devices, {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), "offload_graph_io_quantization": "0", **chip}
    )
    try:
        session = onnxruntime.InferenceSession(path, sess_options=settings)
    except Exception as error:  # whatever it raises is the compiler's word
        return {"error": " ".join(str(error).split())[:500]}
    names: dict[str, list[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        names.setdefault(part.ep_name, []).extend(node.name for node in part.get_nodes())
    return names


if __name__ == "__main__":
    driver.main(judge, ("onnx", "onnxruntime", "onnxruntime_qnn"))
