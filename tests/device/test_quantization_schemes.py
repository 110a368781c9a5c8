"""Each limit that a device states on quantization, planted in a model that keeps to all others, and its neighbour."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from npu_guard import check
from npu_guard.checking import registry
from npu_guard.checking.quantization import MIDDLES
from npu_guard.zoo.samples import export_system

TYPES = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "int16": TensorProto.INT16, "uint16": TensorProto.UINT16,
         "int32": TensorProto.INT32, "int4": TensorProto.INT4}  # fmt: skip


@dataclass(frozen=True)
class Net:
    """Two inputs [1,16,8,8] in integers; one operator `op` called `node`; its result in integers."""

    op: str = "Conv"
    form: str = "qdq"
    act: str = "int8"
    zero: int = 0
    scales: tuple[float, ...] = (0.5, 0.5, 0.5)
    """Of the two inputs and of the result."""
    weight: str = "int8"
    weight_zero: int = 0
    weight_scales: tuple[float, ...] = (0.25,)
    axis: int = 0
    bias: str = "int32"
    bias_scale: float = 0.125
    quantized: bool = True
    """Whether the result is."""
    tail: tuple[str, ...] = ()
    """Operators behind it, each in floating point."""

    def build(self) -> onnx.ModelProto:
        w, d = self.weight, [1, 16, 8, 8]
        inits = [numpy_helper.from_array(np.float32(s), f"s{i}") for i, s in enumerate(self.scales)]
        inits += [helper.make_tensor("z", TYPES[self.act], [], [self.zero])]
        inits += [
            helper.make_tensor(
                "w", TYPES[w], [16, 16, 1, 1] if self.op == "Conv" else [8, 8], [1] * (256 if self.op == "Conv" else 64)
            )
        ]
        many = len(self.weight_scales) > 1
        inits += [numpy_helper.from_array(np.asarray(self.weight_scales if many else self.weight_scales[0], np.float32), "t")]
        count = len(self.weight_scales)
        inits += [helper.make_tensor("n", TYPES[w], [count] if many else [], [self.weight_zero] * (count if many else 1))]
        inits += [
            helper.make_tensor("q", TYPES[self.bias], [16], [1] * 16),
            numpy_helper.from_array(np.float32(self.bias_scale), "u"),
        ]
        inputs = [helper.make_tensor_value_info(x, TYPES[self.act], d) for x in ("x0", "x1")]
        nodes = []
        if self.form == "qoperator":
            nodes = [helper.make_node("QLinearConv", ["x0", "s0", "z", "w", "t", "n", "s2", "z"], ["node"], "node")]
            out = helper.make_tensor_value_info("node", TYPES[self.act], None)
            return self._model(nodes, inputs[:1], [out], inits)
        if self.form in ("integer", "dynamic"):
            return self._summed(inputs[0], inits)
        nodes += [helper.make_node("DequantizeLinear", [f"x{i}", f"s{i}", "z"], [f"a{i}"]) for i in (0, 1)]
        axis = {"axis": self.axis} if many else {}
        nodes += [helper.make_node("DequantizeLinear", ["w", "t", "n"], ["c"], **axis)]
        nodes += [helper.make_node("DequantizeLinear", ["q", "u"], ["b"])]
        given = {"Conv": ["a0", "c", "b"], "MatMul": ["a0", "c"]}.get(self.op, ["a0", "a1"])
        options = {"Concat": {"axis": 1}, "MaxPool": {"kernel_shape": [2, 2], "strides": [2, 2]}}.get(self.op, {})
        options |= {"kernel_shape": [2, 2], "strides": [2, 2]} if self.op == "AveragePool" else {}
        given = given[:1] if "Pool" in self.op or self.op == "Relu" else given
        nodes += [helper.make_node(self.op, given, ["node"], "node", **options)]
        last = "node"
        for index, op in enumerate(self.tail):
            nodes += [helper.make_node(op, [last], [f"tail{index}"], f"tail{index}")]
            last = f"tail{index}"
        if self.quantized:
            nodes += [helper.make_node("QuantizeLinear", [last, "s2", "z"], ["y"])]
        out = helper.make_tensor_value_info("y" if self.quantized else last, TYPES[self.act] if self.quantized else 1, None)
        return self._model(nodes, inputs if "a1" in given else inputs[:1], [out], inits)

    def _summed(self, given: onnx.ValueInfoProto, inits: list[onnx.TensorProto]) -> onnx.ModelProto:
        """As ConvInteger or MatMulInteger, whose sums are scaled behind it: by a scale that is given, or computed."""
        dynamic, first = self.form == "dynamic", onnx.ValueInfoProto.FromString(given.SerializeToString())
        nodes = []
        if dynamic:
            first = helper.make_tensor_value_info("x0", 1, [1, 16, 8, 8])
            nodes += [helper.make_node("DynamicQuantizeLinear", ["x0"], ["i", "s", "d"])]
        op = "ConvInteger" if self.op == "Conv" else "MatMulInteger"
        nodes += [
            helper.make_node(op, ["i" if dynamic else "x0", "w", "d" if dynamic else "z", "n"], ["node"], "node"),
            helper.make_node("Cast", ["node"], ["f"], to=1),
            helper.make_node("Mul", ["s" if dynamic else "s0", "t"], ["m"]),
            helper.make_node("Mul", ["f", "m"], ["y"]),
        ]
        return self._model(nodes, [first], [helper.make_tensor_value_info("y", 1, None)], inits)

    def _model(self, nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto],
               inits: list[onnx.TensorProto]) -> onnx.ModelProto:  # fmt: skip
        read = {name for node in nodes for name in node.input}
        made = {name for node in nodes for name in node.output}
        wanted = {i.name for i in inputs} | made
        used = [n for n in nodes if all(not i or i in wanted or any(t.name == i for t in inits) for i in n.input)]
        used = [n for n in used if any(o in read or o in {v.name for v in outputs} for o in n.output)]
        opset = 21 if "16" in f"{self.act} {self.weight}" else 19  # rockchip reads 19
        graph = helper.make_graph(used, "g", inputs, outputs, [t for t in inits if t.name in read])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def base(device: str) -> Net:
    """A net that keeps to all that the device states."""
    profile = registry.profile(device)
    act = next(iter(profile.limit("quantization.activation_types") or ("int8",)))
    weight = next(iter(profile.limit("quantization.weight_types") or ("int8",)))
    return Net(act=act, zero=MIDDLES.get(TYPES[act], 0), weight=weight, weight_zero=MIDDLES.get(TYPES[weight], 0))


def other(allowed: tuple[str, ...]) -> str:
    return next(t for t in ("int8", "uint8", "int16", "int32") if t not in allowed)


def faults(device: str, key: str) -> list[tuple[Net, str, str]]:
    """Nets with one fault each, the code, and the node at which it must be found."""
    net, limit = base(device), registry.profile(device).limit(key)
    name = key.removeprefix("quantization.")
    middle = MIDDLES.get(TYPES[net.act], 0)
    if name == "forms":
        spelled = [replace(net, form=form, op=op) for form in ("integer", "dynamic") for op in ("Conv", "MatMul")]
        spelled += [replace(net, form="qoperator"), net]
        return [(n, "NPU810", "node") for n in spelled if n.form not in limit]
    if name == "whole":
        return [
            (replace(net, quantized=False), "NPU802", "node"),
            (replace(net, tail=("Sigmoid",)), "NPU801", "tail0"),
        ]
    if name == "weight_types":
        return [(replace(net, weight=other(limit), weight_zero=MIDDLES.get(TYPES[other(limit)], 0)), "NPU806", "node")]
    if name == "weights_symmetric":
        return [(replace(net, weight=limit[0], weight_zero=MIDDLES.get(TYPES[limit[0]], 0) + 1), "NPU803", "node")]
    if name == "weight_scales":
        wide = (0.25,) * 16
        wrong = replace(net, weight_scales=wide, axis=1)
        return [(wrong, "NPU804", "node")] + ([(replace(wrong, axis=0), "NPU804", "node")] if "channel" not in limit else [])
    if name == "channel_operators":
        matrix = replace(net, op="MatMul", weight_scales=(0.25,) * 8, axis=1)
        return [(matrix, "NPU804", "node")] if "MatMul" not in limit else []
    if name == "activation_types":
        kind = other(limit)
        return (
            [(replace(net, op="Relu", act=kind, zero=MIDDLES.get(TYPES[kind], 0)), "NPU805", "node")]
            if kind in ("int8", "uint8")
            else []
        )
    if name == "activations_symmetric":
        return [(replace(net, op="Relu", zero=middle + 1), "NPU805", "node")]
    if name == "same_scale":
        return [(replace(net, op=op, scales=(0.5, 0.5, 1.0)), "NPU807", "node") for op in limit]
    if name == "same_operands":
        return [(replace(net, op=op, scales=(0.5, 1.0, 0.5)), "NPU807", "node") for op in limit]
    if name == "power_of_two":
        return [
            (replace(net, scales=(0.3, 0.5, 0.5), bias_scale=0.075), "NPU808", "node"),
            (replace(net, weight_scales=(0.3,), bias_scale=0.15), "NPU808", "node"),
        ]
    if name == "bias_types":
        return [(replace(net, bias="int8"), "NPU809", "node")]
    raise AssertionError(f"nothing is planted for {key}")


def neighbours(device: str, key: str) -> list[Net]:
    """Nets next to the faults that keep to the limit."""
    net, limit = base(device), registry.profile(device).limit(key)
    name = key.removeprefix("quantization.")
    if name == "whole":
        return [net, replace(net, tail=("Relu",))]
    if name == "weight_scales" and "channel" in limit:
        return [replace(net, weight_scales=(0.25,) * 16)]
    if name == "channel_operators" and "MatMul" in limit:
        return [replace(net, op="MatMul", weight_scales=(0.25,) * 8, axis=1)]
    if name == "weight_types":
        return [replace(net, weight=t, weight_zero=MIDDLES.get(TYPES[t], 0)) for t in limit]
    if name == "activation_types":
        return [replace(net, op="Relu", act=t, zero=MIDDLES.get(TYPES[t], 0)) for t in limit]
    if name == "same_scale":
        return [replace(net, op=op) for op in limit]
    if name == "same_operands":
        return [replace(net, op=op, scales=(0.5, 0.5, 1.0)) for op in limit]
    if name == "power_of_two":
        return [replace(net, scales=(2.0**-7, 4.0, 0.5), bias_scale=2.0**-9)]
    return [net] if name != "forms" else [replace(net, form=form) for form in ("qdq", "qoperator", "integer") if form in limit]


def stated() -> list[tuple[str, str]]:
    return [
        (device, key)
        for device in registry.profile_names()
        for key in sorted(registry.profile(device).limits)
        if key.startswith("quantization.")
    ]


def found(net: Net, device: str, tmp_path: Path) -> list[tuple[str, str, str]]:
    onnx.save(net.build(), tmp_path / "net.onnx")
    findings = check(str(tmp_path / "net.onnx"), profile=device).findings
    return [(f.rule, f.location.node, f.outcome.value) for f in findings if f.rule.startswith("NPU8")]


def test_devices_state_their_schemes() -> None:
    devices = {device.partition(":")[0] for device, _ in stated()}
    assert devices >= {"qualcomm-htp", "ort-nnapi", "ort-coreml", "ethos-u55", "ethos-u85", "amd-dpu", "nvidia-dla", "rockchip"}


@pytest.mark.parametrize(("device", "key"), stated())
def test_a_planted_fault_is_found_at_its_node(device: str, key: str, tmp_path: Path) -> None:
    for net, code, node in faults(device, key):
        assert (code, node, "fail") in found(net, device, tmp_path), net
        others = {rule for rule, _, _ in found(net, device, tmp_path)} - {code}
        assert others <= ({"NPU802"} if code == "NPU801" else set()), net


@pytest.mark.parametrize(("device", "key"), stated())
def test_the_nearest_that_fits_has_no_finding(device: str, key: str, tmp_path: Path) -> None:
    for net in neighbours(device, key):
        assert found(net, device, tmp_path) == [], net


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_pairs_of_units_are_no_operators_on_any_device(form: str, tmp_path: Path) -> None:
    """A sample network that somebody else has quantized: no device is asked whether it has QuantizeLinear."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    export_system("linear-attention", tmp_path / "net.onnx", "tiny", "legacy")
    given = onnx.load(tmp_path / "net.onnx").graph.input
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in given}

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.rest = iter([{n: np.random.default_rng(0).standard_normal(s).astype(np.float32) for n, s in shapes.items()}])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rest, None)

    path = tmp_path / "int8.onnx"
    kind = getattr(quantization.QuantFormat, form)
    logging.disable(logging.WARNING)
    quantization.quantize_static(str(tmp_path / "net.onnx"), str(path), Reader(), quant_format=kind, per_channel=True)
    logging.disable(logging.NOTSET)
    of_each_file = {device.partition(":")[0]: device for device in registry.profile_names()}
    for device in of_each_file.values():
        findings = check(str(path), profile=device).findings
        told = [f for f in findings if f.location.op_type.endswith(("QuantizeLinear", "DequantizeLinear"))]
        assert not [f.message for f in told if "not documented" in f.message or f.outcome.value != "fail"], device
