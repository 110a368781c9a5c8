"""Models of any size, of shapes in which work that is not linear would show."""

from __future__ import annotations

import onnx
from html_report import network
from onnx import helper

from models import chain, finish, info


def findings(nodes: int) -> onnx.ModelProto:
    """Residual blocks with a finding each."""
    return network(nodes, modules=True)


def fan(nodes: int) -> onnx.ModelProto:
    """Many readers of one value, each the beginning of a run of rearrangements, and one node that reads them all."""
    made = [helper.make_node("Transpose", ["x"], ["t"], "t", perm=[0, 2, 3, 1])]
    made += [helper.make_node("Transpose", ["t"], [f"v{i}"], f"n{i}", perm=[0, 3, 1, 2]) for i in range(nodes)]
    made.append(helper.make_node("Sum", [f"v{i}" for i in range(nodes)], ["y"], "sum"))
    return finish(helper.make_graph(made, "fan", [info("x", [1, 8, 4, 6])], [info("y", [1, 8, 4, 6])]))


def passed_on(nodes: int) -> onnx.ModelProto:
    """Half of the nodes pass a value on, the others read it at the end of that way."""
    made = [helper.make_node("Identity", [f"v{i}"], [f"v{i + 1}"], f"n{i}") for i in range(nodes // 2)]
    ends = [f"y{i}" for i in range(nodes // 2)]
    made += [helper.make_node("Transpose", [f"v{nodes // 2}"], [end], end, perm=[0, 2, 3, 1]) for end in ends]
    made.append(helper.make_node("Sum", ends, ["y"], "sum"))
    return finish(helper.make_graph(made, "passed", [info("v0", [1, 8, 4, 6])], [info("y", [1, 4, 6, 8])]))


def rearranged(nodes: int) -> onnx.ModelProto:
    """One long run of operators that move axes and nothing else."""
    shape, made = [1, 8, 4, 6], []
    for i in range(nodes):
        made.append(helper.make_node("Transpose", [f"v{i}"], [f"v{i + 1}"], f"n{i}", perm=[0, 2, 3, 1]))
        shape = [shape[0], shape[2], shape[3], shape[1]]
    return finish(helper.make_graph(made, "rearranged", [info("v0", [1, 8, 4, 6])], [info(f"v{nodes}", shape)]))


def nested(nodes: int) -> onnx.ModelProto:
    """Branches that read values of the graph around them."""
    made = [helper.make_node("Relu", ["x"], ["v0"], "r")]
    for i in range(nodes // 3):
        bodies = [
            helper.make_graph([helper.make_node(op, [f"v{i}"], [f"{op}{i}"], f"{op}{i}")], op, [], [info(f"{op}{i}", [1, 8])])
            for op in ("Relu", "Neg")
        ]
        made.append(helper.make_node("If", ["c"], [f"v{i + 1}"], f"i{i}", then_branch=bodies[0], else_branch=bodies[1]))
    inputs = [info("x", [1, 8]), helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, [])]
    return finish(helper.make_graph(made, "nested", inputs, [info(f"v{nodes // 3}", [1, 8])]))


SHAPES = {f.__name__: f for f in (chain, findings, fan, passed_on, rearranged, nested)}
