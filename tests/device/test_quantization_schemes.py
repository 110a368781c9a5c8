"""Each limit that a device states on quantization, planted in a model that keeps to all others, and its neighbour."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from npu_guard import check
from npu_guard.checking import registry
from npu_guard.checking.quantization import MIDDLES
from npu_guard.device.keys import LIMITS
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
    parted: bool = False
    """Whether a pair stands in front of each operator of the tail."""

    def build(self) -> onnx.ModelProto:
        w, d = self.weight, [1, 16, 8, 8]
        inits = [numpy_helper.from_array(np.float32(s), f"s{i}") for i, s in enumerate(self.scales)]
        inits += [helper.make_tensor("z", TYPES[self.act], [], [self.zero])]
        inits += [
            helper.make_tensor(
                "w", TYPES[w], [16, 16, 1, 1] if "Conv" in self.op else [8, 8], [1] * (256 if "Conv" in self.op else 64)
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
        if self.form in ("weights", "float"):
            inits += [numpy_helper.from_array(np.ones([16, 16, 1, 1], np.float32), "real")]
            nodes = [helper.make_node("DequantizeLinear", ["w", "t", "n"], ["c"])] if self.form == "weights" else []
            nodes += [helper.make_node("Conv", ["x0", "c" if nodes else "real"], ["node"], "node")]
            ends = [helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x0", d), ("node", None))]
            return self._model(nodes, ends[:1], ends[1:], inits)
        nodes += [helper.make_node("DequantizeLinear", [f"x{i}", f"s{i}", "z"], [f"a{i}"]) for i in (0, 1)]
        axis = {"axis": self.axis} if many else {}
        nodes += [helper.make_node("DequantizeLinear", ["w", "t", "n"], ["c"], **axis)]
        nodes += [helper.make_node("DequantizeLinear", ["q", "u"], ["b"])]
        inits += [numpy_helper.from_array(np.zeros([1, 2, 8, 8], np.float32), "offsets")]
        given = {"Conv": ["a0", "c", "b"], "MatMul": ["a0", "c"], "DeformConv": ["a0", "c", "offsets"]}.get(self.op, ["a0", "a1"])
        options = {"Concat": {"axis": 1}, "MaxPool": {"kernel_shape": [2, 2], "strides": [2, 2]}}.get(self.op, {})
        options |= {"kernel_shape": [2, 2], "strides": [2, 2]} if self.op == "AveragePool" else {}
        given = given[:1] if "Pool" in self.op or self.op == "Relu" else given
        nodes += [helper.make_node(self.op, given, ["node"], "node", **options)]
        last = "node"
        for index, op in enumerate(self.tail):
            if self.parted:
                nodes += [helper.make_node("QuantizeLinear", [last, "s2", "z"], [f"r{index}"])]
                nodes += [helper.make_node("DequantizeLinear", [f"r{index}", "s2", "z"], [f"p{index}"])]
                last = f"p{index}"
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
        opset = 21 if {self.act, self.weight} & {"int16", "uint16", "int4"} else 19  # rockchip reads 19
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
        spelled += [replace(net, form=form) for form in ("qoperator", "weights")] + [net]
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
        return [
            (matrix if "MatMul" not in limit else replace(net, op="DeformConv", weight_scales=(0.25,) * 16), "NPU804", "node")
        ]
    if name == "activation_types":
        kind = next(t for t in ("int8", "uint8", "int16", "uint16", "int4") if t not in limit)
        return [(replace(net, op="Relu", act=kind, zero=MIDDLES.get(TYPES[kind], 0)), "NPU805", "node")]
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
    if name == "bias_scale":
        return [(replace(net, bias_scale=0.25), "NPU809", "node"), (replace(net, scales=(1.0, 0.5, 0.5)), "NPU809", "node")]
    if name == "fused":
        return [
            (replace(net, op=op, tail=(act,), parted=True), "NPU812", "tail0")
            for act in limit
            for op in ("Conv", "MatMul", "Add")
        ]
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
    if name == "fused":
        bare = "HardSigmoid" if "HardSigmoid" not in limit else "Elu"
        joined = [replace(net, tail=(act,)) for act in limit] + [replace(net, tail=(bare,), parted=True)]
        return [*joined, *(replace(net, op="Concat", tail=(act,), parted=True) for act in limit)]
    if name == "bias_scale":
        return [net, replace(net, scales=(1.0, 0.5, 0.5), bias_scale=0.25), replace(net, scales=(0.5, 0.5, 1.0))]
    if name == "power_of_two":
        return [replace(net, scales=(2.0**-7, 4.0, 0.5), bias_scale=2.0**-9)]
    return [net] if name != "forms" else [replace(net, form=form) for form in limit or ("float",)]


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
    planted = faults(device, key)
    assert planted
    for net, code, node in planted:
        assert (code, node, "fail") in found(net, device, tmp_path), net
        others = {rule for rule, _, _ in found(net, device, tmp_path)} - {code}
        assert others <= ({"NPU802"} if code == "NPU801" else set()), net


@pytest.mark.parametrize(("device", "key"), stated())
def test_the_nearest_that_fits_has_no_finding(device: str, key: str, tmp_path: Path) -> None:
    beside = neighbours(device, key)
    assert beside
    for net in beside:
        assert found(net, device, tmp_path) == [], net


STATED = {
    "forms": '["qdq", "weights"]', "whole": "true", "weight_types": '["int8"]', "weights_symmetric": '["int8"]',
    "weight_scales": '["tensor"]', "channel_operators": '["Conv"]', "activation_types": '["uint8"]',
    "activations_symmetric": '["int8"]', "same_scale": '["MaxPool", "Concat"]', "same_operands": '["Add", "Mul"]',
    "power_of_two": "true", "bias_types": '["int32"]', "bias_scale": "true", "fused": '["Relu", "Sigmoid"]',
}  # fmt: skip
"""Each limit on quantization as a device may state it, those as well that no shipped device does."""


@pytest.mark.parametrize("key", [key for key in LIMITS if key.startswith("quantization.")])
def test_a_device_that_states_one_limit_finds_its_fault_alone(key: str, tmp_path: Path) -> None:
    name = key.removeprefix("quantization.")
    limit = f"{name} = {{ value = {STATED[name]}, consequence = 'host' }}"
    device = tmp_path / "own.toml"
    device.write_text(f'name = "own"\ntitle = "Own"\nsource = "none"\n[limits.quantization]\n{limit}\n')
    planted = faults(str(device), key)
    assert planted
    for net, code, node in planted:
        told = {(rule, at, outcome) for rule, at, outcome in found(net, str(device), tmp_path) if rule != "NPU802"}
        assert (code, node, "fail") in told or code == "NPU802", net
        assert {rule for rule, _, _ in told} <= {code}, net
    for net in neighbours(str(device), key):
        assert found(net, str(device), tmp_path) == [], net


_BROKEN = (0.0, -0.5, float("inf"), float("nan"), 1e-40)


@pytest.mark.parametrize("device", registry.profile_names())
def test_a_scale_that_is_none_is_found_on_every_device(device: str, tmp_path: Path) -> None:
    net = base(device)
    forms = [net, replace(net, form="qoperator"), replace(net, form="integer")]
    plant: list[Callable[[float], Net]] = [
        *(lambda x, form=form: replace(form, scales=(x, 0.5, 0.5), bias_scale=x) for form in forms),  # type: ignore[misc]
        *(lambda x, form=form: replace(form, weight_scales=(x,)) for form in forms),  # type: ignore[misc]
        lambda x: replace(net, scales=(0.5, 0.5, x)),
        lambda x: replace(net, bias_scale=x),
        lambda x: replace(net, weight_scales=(0.25,) * 15 + (x,)),
        lambda x: replace(net, op="Add", scales=(0.5, x, 0.5)),
    ]
    for index, faulty in enumerate(plant):
        fault = faulty(_BROKEN[index % len(_BROKEN)])
        assert ("NPU811", "node", "fail") in found(fault, device, tmp_path), fault
    for good in (*forms, replace(net, scales=(2.0**-20, 0.5, 0.5), bias_scale=2.0**-22)):
        assert "NPU811" not in {rule for rule, _, _ in found(good, device, tmp_path)}, good


def _contrib(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """With ONNX Runtime's own QuantizeLinear and DequantizeLinear."""
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.domain = "com.microsoft"
    return model


def _constants(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """With scales, zero points and weights in Constant nodes."""
    nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in model.graph.initializer] + list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _paired(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """With the weight in floating point behind a pair."""
    graph = model.graph
    index = next((i for i, n in enumerate(graph.node) if n.op_type == "DequantizeLinear" and n.input[0] == "w"), None)
    weight = next((t for t in graph.initializer if t.name == "w"), None)
    if index is None or weight is None:
        return None
    graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float32) / 4, "real"))
    graph.initializer.remove(weight)
    pair = helper.make_node("QuantizeLinear", ["real", *graph.node[index].input[1:]], ["w"])
    pair.attribute.extend(graph.node[index].attribute)
    graph.node.insert(index, pair)
    return model


def _identities(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """With an Identity behind each DequantizeLinear of an input."""
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type == "DequantizeLinear" and node.input[0].startswith("x"):
            nodes.append(helper.make_node("Identity", [f"{node.output[0]}_"], [node.output[0]]))
            node.output[0] += "_"
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


_QLINEAR = {
    "Conv": "QLinearConv", "MatMul": "QLinearMatMul", "Add": "QLinearAdd", "Mul": "QLinearMul", "Concat": "QLinearConcat",
    "AveragePool": "QLinearAveragePool",
}  # fmt: skip


def _qlinear(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """As an operator in integer arithmetic, where there is one that takes these types and scales."""
    graph = model.graph
    node = next((n for n in graph.node if n.name == "node"), None)
    quantized = next((n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "node"), None)
    before = {n.output[0]: n for n in graph.node if n.op_type == "DequantizeLinear"}
    if node is None or quantized is None or node.op_type not in _QLINEAR or not all(i in before for i in node.input):
        return None
    types = {t.name: t.data_type for t in graph.initializer}
    columns = 0 if node.op_type == "Conv" else 1
    if any(a.i != columns for i in node.input for a in before[i].attribute):
        return None
    if types.get("w", TensorProto.INT8) == TensorProto.INT16 or types.get("q", TensorProto.INT32) != TensorProto.INT32:
        return None
    op, result = _QLINEAR[node.op_type], list(quantized.input[1:])
    given = [name for i in node.input[:2] for name in before[i].input]
    given = [*result, *given] if op == "QLinearConcat" else [*given, *result, *(before[i].input[0] for i in node.input[2:])]
    domain = "" if op in ("QLinearConv", "QLinearMatMul") else "com.microsoft"
    made = helper.make_node(op, given, [quantized.output[0]], "node", domain=domain)
    made.attribute.extend(node.attribute)
    del graph.node[:]
    graph.node.append(made)
    return model


def _some() -> list[tuple[str, str]]:
    """Limits of one device of each file."""
    of_each_file = {device.partition(":")[0]: device for device in registry.profile_names()}
    return [(device, key) for device, key in stated() if device == of_each_file[device.partition(":")[0]]]


@pytest.mark.parametrize("spelling", [_contrib, _constants, _paired, _identities, _qlinear])
@pytest.mark.parametrize(("device", "key"), _some())
def test_a_fault_is_found_however_the_network_is_written(
    device: str, key: str, spelling: Callable[[onnx.ModelProto], onnx.ModelProto | None], tmp_path: Path
) -> None:
    beside = {"NPU810"} if spelling is _qlinear else set()  # the spelling itself
    for net, code, node in [*faults(device, key), *((net, "", "") for net in neighbours(device, key))]:
        if (model := spelling(net.build())) is None:
            continue
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        onnx.save(model, tmp_path / "net.onnx")
        report = check(str(tmp_path / "net.onnx"), profile=device)
        told = {(f.rule, f.location.node, f.outcome.value) for f in report.findings if f.rule.startswith("NPU8")}
        assert not code or (code, node, "fail") in told, net
        assert {rule for rule, _, _ in told} <= {code, *beside, *({"NPU802"} if code == "NPU801" else set())}, net


WIDE = {"int4": 22, "uint4": 21, "int8": 3, "uint8": 2, "int16": 5, "uint16": 4, "float8e4m3fn": 17}


@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("weight", ["int4", "uint4", "int8", "int16", "float8e4m3fn"])
@pytest.mark.parametrize("act", ["int4", "int8", "uint16", "float8e4m3fn"])
def test_types_and_blocks_are_judged_by_what_the_device_states(act: str, weight: str, blocks: bool, tmp_path: Path) -> None:
    """Activations and weights of 4, 8 and 16 bits, and weights with a scale for each block, on one device of each file."""
    inits = [
        numpy_helper.from_array(np.float32(0.5), "s"),
        helper.make_tensor("z", WIDE[act], [], [MIDDLES.get(WIDE[act], 0)]),
        helper.make_tensor("w", WIDE[weight], [32, 16], [1] * 512),
        numpy_helper.from_array(np.full([2, 16] if blocks else [], 0.25, np.float32), "t"),
        helper.make_tensor("n", WIDE[weight], [2, 16] if blocks else [], [MIDDLES.get(WIDE[weight], 0)] * (32 if blocks else 1)),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["a"]),
        helper.make_node("DequantizeLinear", ["w", "t", "n"], ["c"], **({"axis": 0, "block_size": 16} if blocks else {})),
        helper.make_node("MatMul", ["a", "c"], ["node"], "node"),
        helper.make_node("QuantizeLinear", ["node", "s", "z"], ["y"]),
    ]
    ends = (helper.make_tensor_value_info(n, WIDE[act], s) for n, s in (("x", [1, 4, 32]), ("y", None)))
    graph = helper.make_graph(nodes, "g", [next(ends)], [next(ends)], inits)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "net.onnx")
    for device in sorted({device for device, _ in _some()}):
        limit = registry.profile(device).limit
        forms = limit("quantization.forms")
        kinds, weights, scales = (limit(f"quantization.{k}") for k in ("activation_types", "weight_types", "weight_scales"))
        wanted = {"NPU810"} if forms is not None and "qdq" not in forms else set()
        wanted |= {"NPU805"} if kinds and act not in kinds else set()
        wanted |= {"NPU806"} if weights and weight not in weights else set()
        wanted |= {"NPU804"} if blocks and scales and "block" not in scales else set()
        findings = [f for f in check(str(tmp_path / "net.onnx"), profile=device).findings if f.rule.startswith("NPU8")]
        assert (device, {f.rule for f in findings}) == (device, wanted)
        assert {f.location.node for f in findings} <= {"node"}


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
    for device in registry.profile_names():
        findings = check(str(path), profile=device).findings
        told = [f for f in findings if f.location.op_type.endswith(("QuantizeLinear", "DequantizeLinear"))]
        assert not [f.message for f in told if "not documented" in f.message or f.outcome.value != "fail"], device
