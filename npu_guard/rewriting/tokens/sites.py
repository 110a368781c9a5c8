"""Where feature maps are tokens, they can stay maps: the matches of the two substitutions that know this, and the rewrite.

`regions.py` finds the regions, `operators.py` and its neighbours translate the operators, `views.py` keeps track of
what the axes mean, `map_writer.py` emits.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from npu_guard.analysis.layout import RUNNING
from npu_guard.checking.context import Context
from npu_guard.graph.graph import Node, Value
from npu_guard.rewriting.map_writer import OPSET, Name, Writer, static_shape
from npu_guard.rewriting.substitution import Builder, Match, Refused, Substitution, closed
from npu_guard.rewriting.tokens.regions import OPERATORS, SPOKEN_OF, Maps, Region, is_product, regions, translated
from npu_guard.rewriting.views import moves

__all__ = ["OPERATORS", "match_region", "write_region"]


def match_region(substitution: Substitution, node: Node, ctx: Context, *, products: bool) -> Match | None:
    """The region that is named after this node, where it has products of activations or not, as asked for.

    Raises Refused where it cannot be written with maps.
    """
    region = regions(ctx).get(node)
    if region is None:
        _ask_shapes(node, ctx, products=products)
        return None
    if bool(region.products) != products:
        return None
    workers = [n for n in region.nodes if n.op_type not in RUNNING and n not in ctx.analysis.elided]
    if region.blocked is not None:
        culprit, reason = region.blocked
        if reason and (workers or culprit.op_type in OPERATORS):
            raise Refused(reason)
        return None
    mended = sum(n in ctx.rearrangements or n.op_type in SPOKEN_OF for n in region.nodes)
    if region.edges >= mended:
        if workers and region.edges:
            raise Refused("the model has tokens at its inputs and outputs, so as much would have to be rearranged as before")
        return None
    if (opset := ctx.analysis.model.opsets.get("", 0)) < OPSET:
        raise Refused(f"the model is of opset {opset}; convert it to {OPSET} or later")
    nodes, replaced = (*region.nodes, *region.shapes), (*region.exits, *(n.output for n in region.shapes))
    closed(nodes, replaced, ctx)
    return Match(substitution, node, nodes, replaced, region)


def _ask_shapes(node: Node, ctx: Context, *, products: bool) -> None:
    """Refuse where a product, or weights on tokens, would be in a region if its shapes were known."""
    if node.op_type not in ("MatMul", "Attention", "LayerNormalization") or node.domain or node.graph.parent is not None:
        return
    if is_product(node, ctx) == products and (node.output.shape is None or len(node.output.shape) > 2):
        for value in (*node.inputs[:3], node.output):
            if value is not None and not ctx.is_constant(value):
                static_shape(value)


def write_region(region: Region, build: Builder, writer: type[Writer] = Writer) -> Mapping[Value, str]:
    """The region on maps; names for the values that it has to provide."""
    w = writer(region.ctx, build)
    known = Maps(region.ctx, {}, w)
    results: dict[Value, str] = {}
    taken: set[Name] = set()
    for node in region.nodes:
        for value, made in translated(node, region.ctx, known):
            known.inner[value] = made
    for value in region.exits:
        found = known.inner[value]
        name = w.rearranged(w.whole(found), moves(found.view.stored, found.view.axes))
        if isinstance(name, Value) or name in taken:
            name = w.op("Identity", name)
        taken.add(name)
        results[value] = name
    for node in region.shapes:
        value = onnx.numpy_helper.from_array(region.ctx.array(node.output))
        results[node.output] = w.op("Constant", value=value)
    return results
