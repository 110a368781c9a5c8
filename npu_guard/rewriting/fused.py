"""Groups of operators that a device's compiler takes as one, written as that one operator.

Between pairs of QuantizeLinear and DequantizeLinear such a group is none any more, so `quantize` writes it as one before. That is
a Gelu: from opset 20 on ONNX has it, before that ONNX Runtime has the same function under a domain of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import onnx

from npu_guard.device.matching import taken
from npu_guard.graph.graph import is_known
from npu_guard.rewriting.gelu import spelled_out

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.file.document import Document
    from npu_guard.graph.graph import Node

_OPSET = 20
"""The first with Gelu."""
_DIGITS = 1e-3
"""Part by which numbers of a Gelu may be off, such as a root of 2 in half precision: less than a step of 8 bits makes of it."""
_MICROSOFT = "com.microsoft"


def groups(ctx: Context) -> Mapping[Node, Sequence[Node]]:
    """The groups of the main graph that the compiler takes as one, by the node that gives the result."""
    found: dict[Node, list[Node]] = {}
    for node, (_, root) in taken(ctx.profile.patterns, ctx.analysis.nodes(), ctx).items():
        if root.graph.parent is None:
            found.setdefault(root, []).append(node)
    return found


def join(document: Document, ctx: Context, but: Collection[str] = ()) -> int:
    """Write each Gelu in parts that the compiler takes as one as a Gelu, and say how many.

    None where the device has no such operator; groups with a node of a name in `but` stay as they are.
    """
    domain = "" if ctx.analysis.model.opsets.get("", 0) >= _OPSET else _MICROSOFT
    operator = ctx.profile.operator(f"{domain}::Gelu" if domain else "Gelu")
    if operator is None or operator.status == "refused":
        return 0
    proto = document.proto.graph
    names = {name: node.name for node in proto.node for name in node.output}
    made: dict[str, onnx.NodeProto] = {}
    gone: set[str] = set()
    for root, nodes in groups(ctx).items():
        erf = next((n for n in nodes if n.op == "Erf"), None)
        gelu = None if erf is None else spelled_out(erf, ctx, _DIGITS)
        if gelu is None or gelu.x is None or gelu.nodes[-1] is not root or not is_known(root.output.shape):
            continue
        if any(names[node.output.name] in but for node in nodes):
            continue
        name = root.output.name
        made[name] = onnx.helper.make_node("Gelu", [gelu.x.name], [name], names[name], domain=domain)
        made[name].metadata_props.extend(root.proto.metadata_props)
        gone.update(node.output.name for node in nodes if node is not root)
        # no shape inference of ONNX knows the other domain
        if domain and all(v.name != name for v in (*proto.value_info, *proto.output)):
            proto.value_info.append(onnx.helper.make_tensor_value_info(name, root.output.dtype, root.output.shape))
    if made:
        kept = [made.get(node.output[0], node) for node in proto.node if not gone.intersection(node.output)]
        infos = [info for info in proto.value_info if info.name not in gone]
        del proto.node[:], proto.value_info[:]
        proto.node.extend(kept)
        proto.value_info.extend(infos)
        if domain and all(entry.domain != domain for entry in document.proto.opset_import):
            document.proto.opset_import.append(onnx.helper.make_opsetid(domain, 1))
    return len(made)
