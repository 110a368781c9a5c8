"""What operators that move data, and compute nothing or little, do to channels that could be widened."""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from npu_guard.analysis.channels.flow import Carry, Extent, Flow, Form
from npu_guard.graph.graph import Node


def concat(node: Node, flow: Flow) -> Carry | None:
    """Parts one after the other along channels, or maps of equal channels along another axis."""
    ctx, y = flow.ctx, node.output
    sources = [flow.source(node, i) for i in range(len(node.inputs))]
    wide = {i: v for i, v in enumerate(sources) if v in flow.forms}
    forms = [flow.forms[v] for v in wide.values()]
    zero = all(f.zero for f in forms)
    if node.attr("axis", 1) % ctx.rank(y) != 1:
        alike = {replace(f, zero=True) for f in forms}
        if len(alike) != 1 or len(wide) != len(sources):
            return None
        return Carry(node, wide, {y: replace(alike.pop(), zero=zero)}, tuple((y, v, 0) for v in sources))
    if not wide or any(f.factor > 1 for f in forms):
        return None
    ties, pinned, offset = [], {}, 0
    for i, value in enumerate(sources):
        extent = ctx.extent(value, 1)
        ties.append((y, value, offset))
        offset += extent
        if i not in wide:
            pinned[value] = extent
    rigid = y if pinned or any(f.rigid for f in forms) else None
    return Carry(node, wide, {y: Form(offset, zero=zero, rigid=rigid)}, tuple(ties), pinned=pinned)


def split(node: Node, flow: Flow) -> Carry | None:
    """Parts of the channels, which are widened together, or of another axis."""
    x = flow.source(node, 0)
    form = flow.forms.get(x)
    if form is None:
        return None
    parts = [v for v in node.outputs if v is not None]
    if node.attr("axis", 0) % flow.ctx.rank(x) != 1:
        return Carry(node, {0: x}, dict.fromkeys(parts, form), tuple((x, v, 0) for v in parts))
    if form.factor > 1 or len(parts) != len(node.outputs):
        return None
    made, ties, offset = {}, [], 0
    for part in parts:
        made[part] = replace(form, units=flow.ctx.extent(part, 1), rigid=form.rigid and part)
        ties.append((x, part, offset))
        offset += made[part].units
    sizes = tuple((v, made[v].units) for v in parts)
    return Carry(node, {0: x}, made, tuple(ties), numbers={1 if flow.opset >= 13 else "split": sizes})


def cut(node: Node, flow: Flow) -> Carry | None:
    """Slice: a run of channels, or parts of other axes."""
    x, y, ctx = flow.source(node, 0), node.output, flow.ctx
    form = flow.forms.get(x)
    if form is None:
        return None
    if flow.opset < 10:
        starts, axes, steps = node.attributes["starts"], node.attributes.get("axes"), None
    else:
        starts, axes, steps = (None if a is None else a.tolist() for a in (flow.small(node, i) for i in (1, 3, 4)))
    axes = range(len(starts)) if axes is None else axes
    if 1 not in [a % ctx.rank(x) for a in axes]:
        return flow.same(node)
    if len(starts) > 1 or form.factor > 1 or steps not in (None, [1]):
        return None
    start, units = min(starts[0] + (form.units if starts[0] < 0 else 0), form.units), ctx.extent(y, 1)
    start = max(start, 0)
    if not units:
        return None
    low, high = (1, 2) if flow.opset >= 10 else ("starts", "ends")
    numbers: dict[int | str, tuple[Extent, ...]] = {low: ((x, start),), high: ((x, start + units),)}
    form = replace(form, units=units, rigid=form.rigid and y)
    return Carry(node, {0: x}, {y: form}, ((x, y, start),), numbers=numbers)


def reshape(node: Node, flow: Flow) -> Carry | None:
    """Batch and channels stay in front; space may take another form, or follow the channels into one axis."""
    before, after = flow.ctx.dims(flow.ctx.input(node, 0)), flow.ctx.dims(node.output)
    carry = flow.same(node)
    if carry is None or min(len(before), len(after)) < 2 or before[0] is None or before[0] != after[0]:
        return None
    if node.op_type != "Reshape" and before[1] == 1:
        return None  # which axis goes or comes hangs on the one channel being one
    form, space = carry.forms[node.output], [d for d in before[2:] if isinstance(d, int)]
    rest = [d for d in after[2:] if isinstance(d, int)]
    if len(space) != len(before) - 2 or len(rest) != len(after) - 2:
        return None
    if after[1] != before[1]:
        if rest or after[1] != form.units * form.factor * int(np.prod(space)):
            return None
        form = replace(form, factor=form.factor * int(np.prod(space)))
        carry.forms = {node.output: form}
    if node.op_type == "Reshape":
        if flow.opset < 5 or (node.attr("allowzero", 0) and not isinstance(before[0], int)):
            return None
        batch = before[0] if node.attr("allowzero", 0) and isinstance(before[0], int) else 0  # 0 takes it over, whatever it is
        carry.numbers = {1: (batch, (node.output, form.units), *rest)}
    return carry


def resize(node: Node, flow: Flow) -> Carry | None:
    """Sizes or scales of all axes: those of the channels stay."""
    carry = flow.same(node)
    if carry is None or node.attr("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        return None
    x = carry.wide[0]
    axes = [a % flow.ctx.rank(x) for a in node.attributes.get("axes", range(flow.ctx.rank(x)))]
    if 1 not in axes:
        return carry
    at, newest = axes.index(1), node.op_type == "Resize" and flow.opset >= 11
    sizes = flow.small(node, 3) if newest else None
    if sizes is not None and sizes.size:
        if node.attr("keep_aspect_ratio_policy", "stretch") != "stretch" or sizes[at] != flow.ctx.extent(node.output, 1):
            return None
        extents: list[Extent] = [int(s) for s in sizes]
        extents[at] = (node.output, carry.forms[node.output].units)
        carry.numbers = {3: tuple(extents)}
        return carry
    scales = node.attributes["scales"] if "scales" in node.attributes else flow.small(node, 2 if newest else 1)
    return carry if scales is not None and scales[at] == 1 else None


def pad(node: Node, flow: Flow) -> Carry | None:
    """Padding of other axes than the channels; with anything but zeros, padded channels hold that in the border."""
    x = flow.source(node, 0)
    if x not in flow.forms:
        return None
    pads = node.attr("pads") if flow.opset < 11 else flow.ctx.array(flow.ctx.input(node, 1)).tolist()
    if pads is None:
        return None
    given = flow.small(node, 3) if flow.opset >= 18 else None
    axes = [a % flow.ctx.rank(x) for a in (range(len(pads) // 2) if given is None else given.tolist())]
    if any(pads[i] or pads[i + len(axes)] for i, axis in enumerate(axes) if axis == 1):
        return None
    filled = flow.small(node, 2) if flow.opset >= 11 else np.asarray(node.attr("value", 0.0))
    if filled is None or not filled.any() or node.attr("mode", "constant") != "constant":
        return flow.same(node)
    return flow.same(node, zero=False) if np.isfinite(filled.astype(np.float64)).all() else None


def transpose(node: Node, flow: Flow) -> Carry | None:
    """Batch and channels stay in front."""
    return flow.same(node) if tuple(node.attributes.get("perm", ()))[:2] == (0, 1) else None
