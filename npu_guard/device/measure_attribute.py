"""What can be measured of an operator's attributes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import onnx.defs
import onnx.helper

from npu_guard.device.measure import Measured, in_map_order
from npu_guard.graph.plain import plain
from npu_guard.graph.plain_names import PLAIN

if TYPE_CHECKING:
    from npu_guard.analysis.facts import Facts
    from npu_guard.graph.graph import Node

_OLD = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
"""What Upsample and the first Resize always do."""


def attribute(node: Node, ctx: Facts, name: str) -> Measured:
    """An attribute, ONNX's default where it is left out; an axis of the first input is counted from the front."""
    found = node.attr(name, _OLD.get(name) if node.op_type in ("Resize", "Upsample") else None)
    if found is None and (not node.domain or node.op in PLAIN):
        found = latest_default(plain(node), name)
    if node.op_type == "Upsample" and name == "mode":
        found = found.removeprefix("bi")
    if name == "axis" and isinstance(found, int) and node.op_type != "OneHot":
        x = ctx.data(node)
        rank = ctx.rank(x)
        return Measured(in_map_order(x, (found % max(rank, 1),), ctx), rank=rank)
    return Measured(() if found is None else found if isinstance(found, tuple) else (found,))


def written(node: Node, ctx: Facts, name: str) -> Measured:
    """Whether an attribute is written out; compilers may not know a default."""
    return Measured((name in node.attributes,))


@functools.cache
def latest_default(op: str, name: str) -> Any:
    """ONNX's default of an attribute in its newest operator set: what the operator did before it had the attribute."""
    try:
        declared = onnx.defs.get_schema(op).attributes.get(name)
    except onnx.defs.SchemaError:
        return None
    if declared is None or not declared.default_value.type:
        return None
    found = onnx.helper.get_attribute_value(declared.default_value)
    return found.decode() if isinstance(found, bytes) else tuple(found) if isinstance(found, list) else found
