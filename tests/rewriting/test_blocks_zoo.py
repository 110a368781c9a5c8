"""Whole networks made of blocks with an exact substitute: exported, simplified or built, and clean after `fix`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from npu_guard.checking import registry
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.fixing.driver import FixReport
from npu_guard.pipeline.fix import fix_model
from npu_guard.pipeline.verify import verify_models
from npu_guard.project.config import Config
from npu_guard.project.export import export
from npu_guard.results.findings import Finding, Outcome, Severity
from npu_guard.rewriting.substitution import EXACT

torch = pytest.importorskip("torch")
onnxsim = pytest.importorskip("onnxsim")

ROOT = Path(__file__).parents[2]
SYSTEMS = ("eca", "eca_conv1d", "cbam_512", "resnet18", "mobilenet_v2")
OWN = {"NPU101", "NPU102", "NPU104", "NPU105", "NPU302"}
"""Rules whose findings in these systems are all replaced."""
Exported = Callable[[str, str], Path]


def fix(path: Path) -> FixReport:
    profile = registry.profile("aimotive-aiware")
    exact = [s for s in catalog.substitutions() if s.exactness == EXACT]
    return fix_model(str(path), profile, Config(), exact)


def errors(report: FixReport) -> list[Finding]:
    return [f for f in report.after.findings if f.severity is Severity.ERROR and f.outcome is Outcome.FAIL]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """(system, spelling) -> path at size tiny."""
    folder = tmp_path_factory.mktemp("blocks")

    def make(name: str, spelling: str) -> Path:
        path = folder / f"{name}.{spelling}.onnx"
        if path.exists():
            return path
        exporter, _, simplified = spelling.partition("-")
        if simplified:
            model, ok = onnxsim.simplify(onnx.load(make(name, exporter)))
            assert ok
            onnx.save(model, path)
            return path
        system = importlib.import_module(f"npu_guard.models.{name}")
        export(system.build("tiny"), system.inputs("tiny"), path, exporter=exporter, root=ROOT)
        return path

    return make


@pytest.mark.parametrize("spelling", ["dynamo", "legacy", "dynamo-simplified", "legacy-simplified"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_zoo_system_is_clean_afterwards(name: str, spelling: str, exported: Exported, tmp_path: Path) -> None:
    path = exported(name, spelling)
    report = fix(path)
    assert report.applied, [r.reason for r in report.refused]
    assert errors(report) == []
    assert not [f for f in report.after.findings if f.rule in OWN]
    assert report.verification.verdict == "equal", report.verification
    assert min(o.snr_db for o in report.verification.outputs) >= 100
    target = tmp_path / "fixed.onnx"
    save_document(report.document, target)
    onnx.checker.check_model(str(target), full_check=True)
    assert verify_models(str(path), str(target), {}, seeds=(7,)).verdict == "equal"


def test_the_python_line_stays_with_what_replaces_it(exported: Exported) -> None:
    graph = fix(exported("eca_conv1d", "dynamo")).document.proto.graph
    conv = next(n for n in graph.node if n.op_type == "Conv")
    assert any("refused.py" in entry.value for entry in conv.metadata_props)
    assert {e.value for e in conv.metadata_props if e.key == "npu_guard.substitution"} == {"eca-to-se"}


class Net:
    """A network built node by node, as exporters leave it."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(3)

    def op(self, op_type: str, *inputs: str, **attributes: object) -> str:
        name = f"{op_type.lower()}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(op_type, inputs, [name], name=name, **attributes))
        return name

    def weight(self, *shape: int) -> str:
        values = self.random.standard_normal(shape) * (2 / max(1, int(np.prod(shape[1:])))) ** 0.5
        return self.constant(values.astype(np.float32))

    def constant(self, values: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(onnx.numpy_helper.from_array(values, name))
        return name

    def conv(self, x: str, before: int, after: int, kernel: int, stride: int = 1) -> str:
        pads = [kernel // 2] * 4
        return self.op("Conv", x, self.weight(after, before, kernel, kernel), self.weight(after), strides=[stride] * 2, pads=pads)

    def eca(self, x: str, channels: int, conv1d: bool) -> str:
        pooled, taps = self.op("GlobalAveragePool", x), 5 if channels > 64 else 3
        if conv1d:
            strip = self.op("Transpose", self.op("Squeeze", pooled, self.constant(np.array([3]))), perm=[0, 2, 1])
            gate = self.op("Sigmoid", self.op("Conv", strip, self.weight(1, 1, taps), pads=[taps // 2] * 2))
            back = self.op("Unsqueeze", self.op("Transpose", gate, perm=[0, 2, 1]), self.constant(np.array([3])))
        else:
            strip = self.op("Reshape", pooled, self.constant(np.array([1, 1, 1, channels])))
            raw = self.op("Conv", strip, self.weight(1, 1, 1, taps), pads=[0, taps // 2, 0, taps // 2])
            back = self.op("Sigmoid", self.op("Reshape", raw, self.constant(np.array([1, channels, 1, 1]))))
        return self.op("Mul", x, back)

    def save(self, output: str, shape: tuple[int, ...], result: tuple[int, ...], path: Path) -> None:
        value = onnx.helper.make_tensor_value_info
        inputs, outputs = [value("image", 1, shape)], [value(output, 1, result)]
        graph = onnx.helper.make_graph(self.nodes, "net", inputs, outputs, self.weights)
        opsets = [onnx.helper.make_opsetid("", self.opset)]
        onnx.save(onnx.helper.make_model(graph, ir_version=10, opset_imports=opsets), path)


def resnet50_eca(path: Path, width: int) -> None:
    """ResNet-50's 3, 4, 6 and 3 bottlenecks, each with an ECA block in one of two spellings; `width` in place of 64."""
    net = Net(17)
    x, channels = net.op("Relu", net.conv("image", 3, width, 7, 2)), width
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner, outer = width << stage, 4 * width << stage
        for block in range(blocks):
            stride = 2 if block == 0 and stage else 1
            y = net.op("Relu", net.conv(x, channels, inner, 1))
            y = net.op("Relu", net.conv(y, inner, inner, 3, stride))
            y = net.eca(net.conv(y, inner, outer, 1), outer, conv1d=block % 2 == 1)
            skip = net.conv(x, channels, outer, 1, stride) if block == 0 else x
            x, channels = net.op("Relu", net.op("Add", net.op("Mul", y, net.constant(np.float32(0.5))), skip)), outer
    flat = net.op("Flatten", net.op("GlobalAveragePool", x))
    net.save(net.op("Gemm", flat, net.weight(40, channels), net.weight(40), transB=1), (1, 3, 64, 64), (1, 40), path)


def test_resnet50_with_16_eca_blocks(tmp_path: Path) -> None:
    path = tmp_path / "resnet50.onnx"
    resnet50_eca(path, 16)
    report = fix(path)
    assert sum(a.substitution == "eca-to-se" for a in report.applied) == 16
    assert {a.verification.verdict for a in report.applied} == {"equal"}
    assert report.after.findings == ()
    assert report.verification.verdict == "equal"
    assert min(o.snr_db for o in report.verification.outputs) >= 100
    kinds = {n.op_type for n in report.document.proto.graph.node}
    assert kinds == {"Conv", "Relu", "GlobalAveragePool", "Sigmoid", "Mul", "Add", "Squeeze"}
