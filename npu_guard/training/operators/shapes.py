"""What moves elements and computes nothing. The batch stays free wherever it is an axis of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_guard.training.operators.arithmetic import BINARY
from npu_guard.training.operators.kind import as_operator, axes, receiver
from npu_guard.training.words import tensor_list
from npu_guard.training.writer import CannotWrite, Write

if TYPE_CHECKING:
    from npu_guard.training.graph import Op
    from npu_guard.training.writer import Writer
ZEROS = ("0.0", "0", "-0.0")
NEXT_TO_ZERO = "1e-30"
"""What a Pad in front of a convolution has in the place of zeros: torch's exporter would put these into the convolution again."""


def transpose(w: Writer, op: Op) -> None:
    """Transpose."""
    order = tuple(op.attributes.get("perm") or reversed(range(len(w.shape(op.inputs[0])))))
    w.assign(op, "moved", f"{receiver(w.value(op.inputs[0], False))}.permute({', '.join(map(str, order))})")


def reshape(w: Writer, op: Op) -> None:
    """Reshape to stated extents; the first is taken from the tensor where it is the batch."""
    source, shape = receiver(w.value(op.inputs[0], False)), w.shape(op.inputs[0])
    extents = list(w.shape(op.outputs[0]))
    if extents and shape and extents[0] == shape[0]:
        first = f"{source}.shape[0]" if source.isidentifier() else "-1"
    else:
        first = "-1" if extents and 0 not in extents else ""
    written = [first or str(extents[0]), *map(str, extents[1:])] if extents else []
    w.assign(op, "shaped", f"{source}.reshape({', '.join(written) or '()'})")


def flatten(w: Writer, op: Op) -> None:
    """Flatten from an axis on; those before it are one axis as well."""
    axis = op.attributes.get("axis", 1)
    if axis == 1:
        w.assign(op, "flat", f"{receiver(w.value(op.inputs[0], False))}.flatten(1)")
        return
    w.assign(op, "flat", f"{receiver(w.value(op.inputs[0], False))}.reshape{w.shape(op.outputs[0])}")


def squeeze(w: Writer, op: Op) -> None:
    """Squeeze of stated axes."""
    shape = w.shape(op.inputs[0])
    over = sorted(a % len(shape) for a in axes(w, op, [i for i, n in enumerate(shape) if n == 1]))
    w.assign(op, "flat", f"{receiver(w.value(op.inputs[0], False))}.squeeze({over[0] if len(over) == 1 else tuple(over)})")


def unsqueeze(w: Writer, op: Op) -> None:
    """Unsqueeze, axis by axis."""
    expression = receiver(w.value(op.inputs[0], False))
    for axis in sorted(a % len(w.shape(op.outputs[0])) for a in axes(w, op)):
        expression += f".unsqueeze({axis})"
    w.assign(op, "wide", expression)


def expand(w: Writer, op: Op) -> None:
    """Expand: nothing, where all that read it broadcast anyway."""
    readers = w.graph.consumers.get(op.outputs[0], [])
    if readers and op.outputs[0] not in w.graph.outputs and all(r.type in BINARY for r in readers):
        w.rename(op, w.value(op.inputs[0], False))
        return
    shape, extents = w.shape(op.inputs[0]), list(w.shape(op.outputs[0]))
    kept = "-1" if shape[:1] == tuple(extents[:1]) and len(shape) == len(extents) else str(extents[0])
    w.assign(op, "wide", f"{receiver(w.value(op.inputs[0], False))}.expand({', '.join([kept, *map(str, extents[1:])])})")


def cut(w: Writer, op: Op) -> None:
    """Slice with stated bounds and steps forward."""
    a, shape = op.attributes, w.shape(op.inputs[0])
    given = [w.ints(n) if n else None for n in (*op.inputs[1:], "", "", "", "")[:4]]
    starts, ends = given[0] or a.get("starts", []), given[1] or a.get("ends", [])
    over, steps = given[2] or a.get("axes") or list(range(len(starts))), given[3] or [1] * len(starts)
    parts = [":"] * len(shape)
    for first, last, axis, step in zip(starts, ends, over, steps, strict=True):
        if step < 0:
            raise CannotWrite("a Slice that runs backwards has no form in PyTorch")
        extent = shape[axis]
        end = "" if last >= extent else str(last)
        parts[axis % len(shape)] = f"{first or ''}:{end}" + (f":{step}" if step != 1 else "")
    while len(parts) > 1 and parts[-1] == ":":
        parts.pop()
    w.assign(op, "part", f"{receiver(w.value(op.inputs[0], False))}[{', '.join(parts)}]")


def split(w: Writer, op: Op) -> None:
    """Split in stated sizes; many parts are one tuple. Equal parts of the first axis are so many of any batch."""
    axis = op.attributes.get("axis", 0)
    sizes = [w.shape(name)[axis] for name in op.outputs]
    equal = len(set(sizes)) == 1
    if equal and axis == 0:
        w.split(op, f"torch.chunk({w.value(op.inputs[0], False)}, {len(sizes)})")
        return
    w.split(op, f"torch.split({w.value(op.inputs[0], False)}, {sizes[0] if equal else sizes}, {axis})")


def concat(w: Writer, op: Op) -> None:
    """Concat of tensors; constants of one sample are repeated for each of the batch."""
    constants, axis = w.graph.constants, op.attributes["axis"]
    other = next((name for name in op.inputs if name not in constants), "")
    repeated = bool(other) and axis % len(w.shape(op.inputs[0])) > 0
    parts = []
    for name in op.inputs:
        shape, value = w.shape(name), w.value(name, False)
        if repeated and name in constants and len(shape) > 1 and shape[0] == 1:
            value = f"{value}.expand({receiver(w.value(other, False))}.shape[0]{', -1' * (len(shape) - 1)})"
        parts.append(value)
    w.assign(op, "joined", f"torch.cat({tensor_list(parts)}, {axis})")


def pad(w: Writer, op: Op) -> None:
    """Pad in one of torch's modes."""
    rank = len(w.shape(op.inputs[0]))
    amounts = w.ints(op.inputs[1]) if len(op.inputs) > 1 else op.attributes["pads"]
    over = w.ints(op.inputs[3]) if len(op.inputs) > 3 and op.inputs[3] else list(range(rank))
    by_axis = {axis % rank: (amounts[i], amounts[i + len(over)]) for i, axis in enumerate(over)}
    pairs = [n for axis in reversed(range(rank)) for n in by_axis.get(axis, (0, 0))]
    while len(pairs) > 2 and pairs[-1] == pairs[-2] == 0:
        pairs = pairs[:-2]
    mode = op.attributes.get("mode", "constant")
    value = w.value(op.inputs[2]) if len(op.inputs) > 2 and op.inputs[2] else "0.0"
    if mode == "constant" and value in ZEROS and any(r.type == "Conv" for r in w.graph.consumers.get(op.outputs[0], ())):
        value = NEXT_TO_ZERO
    named = {"edge": "replicate", "wrap": "circular"}.get(mode, mode)
    tail = f', mode="{named}"' if mode != "constant" else f", value={value}" if value != "0.0" else ""
    w.assign(op, "padded", f"F.pad({w.value(op.inputs[0], False)}, {tuple(pairs)}{tail})")


def gather(w: Writer, op: Op) -> None:
    """Gather with constant indices."""
    indices, axis = op.inputs[1], op.attributes.get("axis", 0)
    if indices not in w.graph.constants or len(w.shape(indices)) > 1:
        raise CannotWrite("a Gather with computed indices has no form in PyTorch here")
    source = receiver(w.value(op.inputs[0], False))
    if not w.shape(indices):
        w.assign(op, "part", f"{source}.select({axis}, {w.ints(indices)[0]})")
        return
    w.assign(op, "part", f"{source}.index_select({axis}, {w.value(indices, False)})")


def pixels(w: Writer, op: Op) -> None:
    """DepthToSpace; torch's own has the channels before the blocks."""
    x, size = w.value(op.inputs[0], False), op.attributes["blocksize"]
    if op.attributes.get("mode", "DCR") == "CRD":
        w.assign(op, "y", f"F.pixel_shuffle({x}, {size})")
        return
    channels = w.shape(op.inputs[0])[1] // size**2
    swapped = f"{receiver(x)}.unflatten(1, ({size**2}, {channels})).transpose(1, 2).flatten(1, 2)"
    as_operator(w, op, "y", f"F.pixel_shuffle({swapped}, {size})", ("blocksize", "mode"))


WRITERS: dict[str, Write] = {
    "Transpose": transpose, "Reshape": reshape, "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": unsqueeze, "Expand": expand,
    "Slice": cut, "Split": split, "Concat": concat, "Pad": pad, "Gather": gather, "DepthToSpace": pixels,
}  # fmt: skip
