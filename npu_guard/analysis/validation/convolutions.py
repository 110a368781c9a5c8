"""What is wrong with the shapes of convolutions and pooling, in words; see `operands.py`."""

from __future__ import annotations

from npu_guard.analysis.validation.operands import differ, extents
from npu_guard.graph.graph import Node


def conv(node: Node) -> str | None:
    """Weight, bias and groups against the channels of the input."""
    x, w, b = extents(node, 0), extents(node, 1), extents(node, 2)
    if x is None or w is None:
        return None
    if len(x) < 3 or len(w) != len(x):
        return f"input of shape {list(x)} does not go with a weight of shape {list(w)}"
    group = node.attr("group", 1)
    cin, filters = x[1], w[0]
    if isinstance(filters, int) and filters % group:
        return f"{filters} {'channels' if node.op_type == 'ConvTranspose' else 'filters'} cannot be split into {group} groups"
    if not isinstance(cin, int) or not isinstance(filters, int):
        return None
    if node.op_type == "ConvTranspose":
        if differ(filters, cin):
            return f"the weight is for {filters} input channels and the input has {cin}"
        out = w[1] * group if isinstance(w[1], int) else None
    else:
        if isinstance(w[1], int) and cin != w[1] * group:
            return f"the weight is for {w[1]} x {group} (group) input channels and the input has {cin}"
        out = filters
    if b is not None and (len(b) != 1 or differ(b[0], out)):
        return f"the bias has shape {list(b)} and there are {out} output channels"
    kernel = node.attributes.get("kernel_shape")
    if kernel is not None and any(differ(k, d) for k, d in zip(kernel, w[2:], strict=False)):
        return f"kernel_shape is {list(kernel)} and the weight is {list(w[2:])}"
    return None


def window(node: Node) -> str | None:
    """Lists with an entry for each axis of space, and a window that fits."""
    x, w = extents(node, 0), extents(node, 1) if node.op_type.startswith("Conv") else None
    kernel = node.attributes.get("kernel_shape") or (w[2:] if w is not None else None)
    if x is None or not kernel:
        return None
    axes = len(x) - 2
    for name in ("kernel_shape", "strides", "dilations", "pads"):
        given = node.attributes.get(name)
        if given is not None and len(given) != (wanted := 2 * axes if name == "pads" else axes):
            return f"its {name} has {len(given)} entries and {axes} axes of space want {wanted}"
    auto = node.attr("auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        return None
    pads = node.attributes.get("pads") if auto == "NOTSET" else None
    dilations, strides = node.attributes.get("dilations"), node.attributes.get("strides")
    for axis, (extent, k) in enumerate(zip(x[2:], kernel, strict=False)):
        if not isinstance(extent, int) or not isinstance(k, int):
            continue
        reach = (k - 1) * (dilations[axis] if dilations else 1) + 1
        padded = extent + (pads[axis] + pads[axis + axes] if pads else 0)
        # Rounded up, the number of windows is 1 as long as the only one hangs over by less than a stride.
        over = (strides[axis] if strides else 1) - 1 if w is None and node.attr("ceil_mode", 0) else 0
        if reach > padded + over:
            return f"its window of {reach} does not fit into {padded}, the padded extent of axis {axis + 2}"
        if w is None and pads and (pad := max(pads[axis], pads[axis + axes])) >= k:
            return f"its padding of {pad} along axis {axis + 2} is not less than its kernel of {k}"
    return None


def global_pool(node: Node) -> str | None:
    """Something to pool over."""
    x = extents(node, 0)
    return f"its input has the shape {list(x)}, without axes of space" if x is not None and len(x) < 3 else None
