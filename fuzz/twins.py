"""`make twins`: graphs rewritten into others that mean the same must have the same findings on every device.

Graphs are the examples of all rules. Each rewriting changes the spelling of the whole graph and keeps the labels of its nodes, so
findings are compared by rule, label, severity and outcome. A difference with a reason is in REASONS; any other fails.
"""

from __future__ import annotations

import argparse
import collections
import sys
from collections.abc import Callable, Iterator, Mapping

import onnx
from onnx import helper

from npu_guard.checking import registry
from npu_guard.checking.examples import case_model
from npu_guard.file import load
from npu_guard.pipeline.check import check_skeleton
from npu_guard.project.config import Config

DEVICES = (
    "aimotive-aiware", "ethos-u85", "qualcomm-htp", "ti-tidl:AM68A", "nvidia-dla", "ort-nnapi", "rockchip-rk3588", "kneron:KL730",
)  # fmt: skip
Twin = Callable[[onnx.ModelProto], bool]
Finding = tuple[str, str, str, str]


def constants(model: onnx.ModelProto) -> bool:
    """Initializers as Constant nodes."""
    held = [t for t in model.graph.initializer if t.name not in {i.name for i in model.graph.input}]
    nodes = [helper.make_node("Constant", [], [t.name], f"constant {t.name}", value=t) for t in held]
    _put_first(model, nodes)
    _drop(model, {t.name for t in held})
    return bool(held)


def chosen(model: onnx.ModelProto) -> bool:
    """Initializers that an If of known condition chooses."""
    held = [t for t in model.graph.initializer if t.name not in {i.name for i in model.graph.input}]
    nodes = []
    for tensor in held:
        branches = []
        for side in ("a", "b"):
            inner = onnx.TensorProto()
            inner.CopyFrom(tensor)
            inner.name = f"{tensor.name} {side}"
            end = helper.make_tensor_value_info(inner.name, tensor.data_type, tensor.dims)
            made = helper.make_node("Constant", [], [inner.name], f"held {inner.name}", value=inner)
            branches.append(helper.make_graph([made], f"{tensor.name} {side}", [], [end]))
        node = helper.make_node("If", ["the condition"], [tensor.name], f"choice {tensor.name}")
        node.attribute.extend(helper.make_attribute(k, g) for k, g in zip(("then_branch", "else_branch"), branches, strict=True))
        nodes.append(node)
    _put_first(model, nodes)
    _drop(model, {t.name for t in held})
    if held:
        model.graph.initializer.append(helper.make_tensor("the condition", onnx.TensorProto.BOOL, [], [True]))
    return bool(held)


def identities(model: onnx.ModelProto) -> bool:
    """An Identity on the way into every node."""
    nodes = []
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name:
                nodes.append(helper.make_node("Identity", [name], [f"{name} {len(nodes)}"], f"identity {len(nodes)}"))
                node.input[index] = nodes[-1].output[0]
        nodes.append(node)
    _replace(model, nodes)
    return bool(nodes)


def own_name(model: onnx.ModelProto) -> bool:
    """ONNX's domain under its long name."""
    for entry in (*model.graph.node, *model.opset_import):
        if not entry.domain:
            entry.domain = "ai.onnx"
    return True


def from_the_end(model: onnx.ModelProto) -> bool:
    """Axes of reductions, softmax and concatenation counted from the end."""
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in (*model.graph.input, *model.graph.value_info)
             if v.type.tensor_type.HasField("shape")}  # fmt: skip
    changed = False
    for node in model.graph.node:
        rank = ranks.get(node.input[0], 0) if node.input else 0
        if not rank or node.op_type not in (
            "ReduceMean",
            "ReduceMax",
            "ReduceSum",
            "Softmax",
            "Concat",
            "ArgMax",
            "Split",
            "Gather",
        ):
            continue
        if node.op_type == "Softmax" and next((e.version for e in model.opset_import if not e.domain), 0) < 13:
            continue
        for attribute in node.attribute:
            if attribute.name == "axis" and attribute.i >= 0:
                attribute.i -= rank
                changed = True
            elif attribute.name == "axes" and all(0 <= a < rank for a in attribute.ints):
                attribute.ints[:] = [a - rank for a in attribute.ints]
                changed = True
    return changed


TWINS: Mapping[str, Twin] = {t.__name__: t for t in (constants, chosen, identities, own_name, from_the_end)}
REASONS: Mapping[tuple[str, str], str] = {}
"""Why a rewriting may change what a rule says, by the names of both."""


def _replace(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _put_first(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    _replace(model, [*nodes, *model.graph.node])


def _drop(model: onnx.ModelProto, names: set[str]) -> None:
    left = [t for t in model.graph.initializer if t.name not in names]
    del model.graph.initializer[:]
    model.graph.initializer.extend(left)


def graphs() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Examples of all rules, each node with a label of its own."""
    for rule in registry.rules():
        for kind in ("good", "bad"):
            for number, case in enumerate(getattr(rule, kind)):
                model = case_model(case)
                for node in model.graph.node:
                    node.name = node.name or next((o for o in node.output if o), node.op_type)
                yield f"{rule.code} {kind} {number}", model


def findings(model: onnx.ModelProto, device: str) -> collections.Counter[Finding] | str:
    """What is said of a model, or why it is refused."""
    from npu_guard.base.errors import ModelError

    try:
        skeleton = load.read_skeleton(model.SerializeToString(), "twin.onnx")
        report, _ = check_skeleton(skeleton, registry.profile(device), Config(profile=device))
    except ModelError as error:
        return error.kind
    assert not report.crashes, report.crashes
    return collections.Counter(
        (f.rule, f.location.node or f.location.output, f.severity.value, f.outcome.value) for f in report.findings
    )


def differences(every: int = 1, devices: tuple[str, ...] = DEVICES) -> tuple[int, list[str]]:
    """How many pairs were compared, and those that differ without a reason. `every` takes one graph of so many."""
    compared, found = 0, []
    for number, (name, model) in enumerate(graphs()):
        if number % every:
            continue
        for twin, rewrite in TWINS.items():
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            if not rewrite(copy):
                continue
            for device in devices:
                before, after = findings(model, device), findings(copy, device)
                compared += 1
                if before == after:
                    continue
                if isinstance(before, str) or isinstance(after, str):
                    found.append(f"{name}, {twin}, {device}: {before if isinstance(before, str) else 'read'} and "
                                 f"{after if isinstance(after, str) else 'read'}")  # fmt: skip
                    continue
                odd = [f for f in ((before - after) + (after - before)) if (twin, f[0]) not in REASONS]
                if odd:
                    found.append(f"{name}, {twin}, {device}: {' and '.join(' '.join(f) for f in sorted(odd)[:3])}")
    return compared, found


def main() -> int:
    """Compare all pairs; the exit code is 1 where some differ."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--every", type=int, default=1, help="one graph of so many")
    compared, found = differences(options.parse_args().every)
    print(*found, f"{compared} pairs, {len(found)} differ without a reason", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
