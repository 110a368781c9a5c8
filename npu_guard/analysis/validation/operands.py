"""What is wrong with the shapes that a node reads, operator by operator, in words; None where nothing is known to be.

`agreement.py` says which operator is asked what.
"""

from __future__ import annotations

import math

from npu_guard.graph.graph import Node
from npu_guard.graph.ops import names
from npu_guard.results.findings import Dim

Shape = tuple[Dim, ...]


def extents(node: Node, index: int) -> Shape | None:
    """Shape of an input, None where it is left out or not known."""
    value = node.input(index)
    return value.shape if value is not None else None


def differ(a: Dim, b: Dim) -> bool:
    """Known to be different, not just not known to be equal."""
    return isinstance(a, int) and isinstance(b, int) and a != b


def broadcasts(given: Shape, to: Shape) -> bool:
    """Whether a shape may be broadcast to another one, as far as extents are known; never to more axes."""
    pairs = zip(reversed(given), reversed(to), strict=False)
    return len(given) <= len(to) and not any(g != 1 and differ(g, t) for g, t in pairs)


def batch_norm(node: Node) -> str | None:
    """Parameters for as many channels as there are."""
    x = extents(node, 0)
    if x is None or len(x) < 2:
        return None
    for index, what in ((1, "scale"), (2, "bias"), (3, "mean"), (4, "variance")):
        shape = extents(node, index)
        if shape is not None and len(shape) == 1 and differ(shape[0], x[1]):
            return f"its {what} is for {shape[0]} channels and the input has {x[1]}"
    return None


def transpose(node: Node) -> str | None:
    """perm is an order of the axes."""
    x, perm = extents(node, 0), node.attributes.get("perm")
    if x is None or perm is None or sorted(perm) == list(range(len(x))):
        return None
    return f"perm {list(perm)} is no order of the {len(x)} axes of its input"


def prelu(node: Node) -> str | None:
    """The slope broadcasts to the input, along all axes but the first."""
    return _prelu(node, 1)


def prelu_first(node: Node) -> str | None:
    """The slope broadcasts along the first axis too."""
    return _prelu(node, 0)


def _prelu(node: Node, first: int) -> str | None:
    x, slope = extents(node, 0), extents(node, 1)
    if x is None or slope is None or node.graph.model.opsets.get("", 0) < 7:  # where it was one number for each channel
        return None
    if len(slope) <= len(x) and broadcasts(slope[first:] if len(slope) == len(x) else slope, x):
        return None
    return f"the slope of shape {list(slope)} does not broadcast to the input of shape {list(x)}"


AXES = (
    "Flatten", "Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "ArgMax", "ArgMin", "Gather", "Concat", "TopK", "Split",
    "SplitToSequence",
)  # fmt: skip


def axis(node: Node) -> str | None:
    """The axis is one of the input's."""
    x, axis = extents(node, 0), node.attributes.get("axis")
    if x is None or axis is None:
        return None
    # Flatten may end behind the last axis, and so could the Softmax of old.
    most = len(x) - (node.op_type != "Flatten" and not (node.op_type.endswith("max") and "Arg" not in node.op_type))
    return f"its axis is {axis} and its input has rank {len(x)}" if not -len(x) <= axis <= max(most, 0) else None


def layer_norm(node: Node) -> str | None:
    """Scale and bias broadcast to the input, whose leading axes they may have too."""
    x = extents(node, 0)
    for index, what in ((1, "scale"), (2, "bias")):
        shape = extents(node, index)
        if x is not None and shape is not None and not broadcasts(shape, x):
            return f"its {what} has the shape {list(shape)} and the input {list(x)}"
    return None


def split(node: Node) -> str | None:
    """As many outputs as are asked for."""
    wanted = node.attributes.get("num_outputs")
    have = len(node.outputs)
    return f"num_outputs is {wanted} and it has {have} outputs" if wanted is not None and wanted != have else None


def parts(node: Node) -> str | None:
    """Something for each output, outside of branches."""
    wanted, x, axis = node.attributes.get("num_outputs"), extents(node, 0), node.attr("axis", 0)
    if node.graph.parent is not None:  # a branch may be for other ranks, and never run for this one
        return None
    if wanted is None or x is None or not -len(x) <= axis < len(x) or not isinstance(extent := x[axis], int):
        return None
    part = -(-extent // wanted)  # the last part is the smaller one
    return f"an extent of {extent} does not make {wanted} parts of {part}" if 0 < extent <= part * (wanted - 1) else None


def lists(node: Node) -> str | None:
    """What must be a list is one. Unsqueeze alone takes a single axis without it."""
    for index in node.operator.indices("axes", "position", "step", "extents"):
        shape = extents(node, index)
        if shape is not None and len(shape) != 1 and not (node.op_type == "Unsqueeze" and not shape):
            return f"its input {index} has the shape {list(shape)} and must be a list"
    return None


LISTS = ("Slice", "Squeeze", "Unsqueeze", "Split", *names("reduction"))
"""Operators whose axes, positions, steps and extents are lists."""


def bounds(node: Node) -> str | None:
    """The bounds of Clip are single numbers."""
    for index, what in ((1, "min"), (2, "max")):
        shape = extents(node, index)
        if shape is not None and shape != () and (len(shape) != 1 or differ(shape[0], 1)):
            return f"its {what} has the shape {list(shape)} and must be a single number"
    return None


def same_rank(node: Node) -> str | None:
    """Indices of the data's rank, updates of the indices' shape."""
    x, indices, updates = extents(node, 0), extents(node, 1), extents(node, 2)
    if x is not None and indices is not None and len(x) != len(indices):
        return f"its indices have rank {len(indices)} and its data rank {len(x)}"
    if indices is not None and updates is not None and not _equal(indices, updates):
        return f"its updates have the shape {list(updates)} and its indices {list(indices)}"
    return None


def _equal(a: Shape, b: Shape) -> bool:
    return len(a) == len(b) and not any(map(differ, a, b))


def per_channel(node: Node) -> str | None:
    """A scale and a bias for each channel."""
    x = extents(node, 0)
    if x is None or len(x) < 2:
        return None
    for index, what in ((1, "scale"), (2, "bias")):
        shape = extents(node, index)
        if shape is not None and (len(shape) != 1 or differ(shape[0], x[1])):
            return f"its {what} has the shape {list(shape)} and the input has {x[1]} channels"
    return None


def groups(node: Node) -> str | None:
    """Channels that can be split into groups, and a scale and a bias for each channel; before opset 21, for each group."""
    x, groups = extents(node, 0), node.attributes.get("num_groups")
    if x is None or len(x) < 2 or not isinstance(x[1], int) or not groups:
        return None
    if x[1] % groups:
        return f"{x[1]} channels cannot be split into {groups} groups"
    of_channels = node.graph.model.opsets.get("", 0) >= 21
    wanted = x[1] if of_channels else groups
    for index, what in ((1, "scale"), (2, "bias")):
        shape = extents(node, index)
        if shape is not None and (len(shape) != 1 or differ(shape[0], wanted)):
            return f"its {what} has the shape {list(shape)} and there are {wanted} {'channels' if of_channels else 'groups'}"
    return None


def depth_to_space(node: Node) -> str | None:
    """Extents that can be cut into blocks."""
    x, block = extents(node, 0), node.attributes.get("blocksize")
    if x is None or not block:
        return None
    if len(x) != 4:
        return f"its input has rank {len(x)} and must have 4"
    pairs = [(x[1], block * block)] if node.op_type == "DepthToSpace" else [(x[2], block), (x[3], block)]
    bad = next((e for e, by in pairs if isinstance(e, int) and e % by), None)
    return f"an extent of {bad} cannot be cut into blocks of {block}" if bad is not None else None


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(node: Node) -> str | None:
    """Weights for all gates of the hidden size."""
    x, w, r, hidden = extents(node, 0), extents(node, 1), extents(node, 2), node.attributes.get("hidden_size")
    both = 2 if node.attr("direction", "forward") == "bidirectional" else 1
    gates = GATES[node.op_type]
    if hidden is None and r is not None and len(r) == 3:
        hidden = r[2]
    rows = gates * hidden if isinstance(hidden, int) else None
    for shape, what, last in ((w, "W", x[2] if x is not None and len(x) == 3 else None), (r, "R", hidden)):
        if shape is not None and not _equal(shape, wanted := (both, rows, last)):
            return f"its {what} has the shape {list(shape)} and must have {['?' if e is None else e for e in wanted]}"
    return None


def quantize(node: Node) -> str | None:
    """Scales and zero points for the axis, one for each."""
    x, scale, zero = extents(node, 0), extents(node, 1), extents(node, 2)
    if scale is not None and zero is not None and math.prod(_known(scale)) != 1 and not _equal(scale, zero):
        return f"its scale has the shape {list(scale)} and its zero point {list(zero)}"
    if scale is not None and zero is not None and scale in ((), (1,)) and math.prod(_known(zero)) != 1:
        return f"it has one scale and zero points of shape {list(zero)}"
    axis = node.attr("axis", 1)
    if x is None or scale is None or len(scale) != 1 or scale[0] == 1 or not -len(x) <= axis < len(x):
        return None
    return f"it has {scale[0]} scales and axis {axis} has extent {x[axis]}" if differ(scale[0], x[axis]) else None


def _known(shape: Shape) -> list[int]:
    return [e if isinstance(e, int) else 1 for e in shape]


def regions(node: Node) -> str | None:
    """Four coordinates for each region."""
    x, regions = extents(node, 0), extents(node, 1)
    if x is not None and len(x) != 4:
        return f"its input has rank {len(x)} and must have 4"
    if regions is not None and (len(regions) != 2 or differ(regions[1], 4)):
        return f"its regions have the shape {list(regions)} and must have four coordinates each"
    return None


def region_counts(node: Node) -> str | None:
    """An index for each region."""
    regions, batch = extents(node, 1), extents(node, 2)
    if regions is not None and batch is not None and not _equal(batch, regions[:1]):
        return f"it has regions of shape {list(regions)} and indices of shape {list(batch)}"
    return None


def target(node: Node) -> str | None:
    """The target is a list."""
    shape = extents(node, 1)
    if shape is None or len(shape) == 1:
        return None
    return f"its target is a tensor of shape {list(shape)} and must be a list"


def count(node: Node) -> str | None:
    """As many elements as before."""
    x, y = extents(node, 0), node.output.shape
    if x is None or y is None or not all(isinstance(e, int) for e in (*x, *y)):
        return None
    return (
        f"it makes {list(y)} of {list(x)}, which has another number of elements"
        if math.prod(_known(x)) != math.prod(_known(y))
        else None
    )
