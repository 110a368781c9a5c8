"""A rule's executable examples: from ONNX text to what the rules say. The tests and the documentation both run them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from msgspec.structs import replace

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.checking import registry
from npu_guard.checking.engine import Checked, check
from npu_guard.checking.rule import Case, Rule
from npu_guard.checking.suppressions import settings_findings, unused_suppressions
from npu_guard.device import Limit, Operator, Profile, limit_value, requirements
from npu_guard.file.load import load
from npu_guard.project.config import Config, Suppression

IR_VERSION = 10


def run_case(rule: Rule, case: Case, folder: Path) -> Checked:
    """What one rule says of the case; `folder` takes the model's file."""
    analysis, profile = analyze_case(case, folder), profile_for(case)
    if rule.about_settings:
        config = Config(suppress=tuple(Suppression(code, "accepted", node) for code, node in case.suppress))
        checked = check(analysis, profile, registry.rules(), config)
        asked = [r for r in registry.rules() if r.code in checked.asked]
        unused = unused_suppressions(config.suppress, checked.findings, asked)
        own: Checked = replace(checked, findings=settings_findings(config, unused, checked.findings, [rule]), not_applicable=())
        return own
    return check(analysis, profile, [rule], Config())


def analyze_case(case: Case, folder: Path) -> Analysis:
    """The case's model, by way of a file, as a user's model comes in."""
    path = folder / "case.onnx"
    path.write_bytes(case_model(case).SerializeToString())
    return analyze(load(path))


def case_model(case: Case) -> onnx.ModelProto:
    """The case's graph with a header; weights are drawn from a fixed seed."""
    header = f'<ir_version: {IR_VERSION}, opset_import: ["" : {case.opset}]>'
    model: onnx.ModelProto = onnx.parser.parse_model(f"{header}\n{case.graph}")
    graph = model.graph
    for domain in dict.fromkeys(node.domain for node in graph.node if node.domain):
        model.opset_import.add(domain=domain, version=1)
    known = {name for node in graph.node for name in node.output} | {tensor.name for tensor in graph.initializer}
    random = np.random.default_rng(0)
    for entry in graph.value_info:
        if entry.name not in known:
            tensor = entry.type.tensor_type
            values = random.standard_normal([d.dim_value for d in tensor.shape.dim])
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
            graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values).astype(dtype), entry.name))
    return model


def profile_for(case: Case) -> Profile:
    """A device with the limits and operators that the case names, and no others."""
    limits = {key: Limit(key, limit_value("case", key, value), "case") for key, value in case.limits.items()}
    operators = {op: _operator(word) for op, word in case.operators.items()}
    required = tuple(r for entry in case.require for r in requirements("case", entry, "case"))
    return Profile("case", "Case", "case", (), limits, operators, {}, required)


def _operator(word: str) -> Operator:
    if word == "channels":
        return Operator("supported", "case", only="channels")
    return Operator(word, "case", reason="the case refuses it" if word == "refused" else "")
