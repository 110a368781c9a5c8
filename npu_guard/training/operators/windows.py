"""Convolutions, pooling and resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from npu_guard.training.operators.kind import as_operator, one, receiver
from npu_guard.training.writer import CannotWrite, Write

if TYPE_CHECKING:
    from npu_guard.training.graph import Op
    from npu_guard.training.writer import Writer

MODES = {
    ("nearest", "asymmetric"): "nearest", ("nearest", "half_pixel"): "nearest-exact", ("linear", "half_pixel"): "bilinear",
    ("linear", "pytorch_half_pixel"): "bilinear", ("linear", "align_corners"): "bilinear", ("cubic", "half_pixel"): "bicubic",
    ("cubic", "pytorch_half_pixel"): "bicubic",
}  # fmt: skip


def convolution(w: Writer, op: Op) -> None:
    """Conv and ConvTranspose: a module where the kernel is trained, a buffer where it only moves values."""
    a, weight = op.attributes, op.inputs[1]
    if weight not in w.graph.constants:
        raise CannotWrite("a convolution whose weights are computed has no form in PyTorch here")
    if a.get("auto_pad", "NOTSET") != "NOTSET":
        raise CannotWrite("a convolution with auto_pad has no form in PyTorch here")
    bias = op.inputs[2] if len(op.inputs) > 2 and op.inputs[2] else None
    shape = w.shape(weight)
    dims, transposed = len(shape) - 2, op.type == "ConvTranspose"
    source, options = w.value(op.inputs[0], False), []
    pads = a.get("pads", [0] * 2 * dims)
    before, after = pads[:dims], pads[dims:]
    crop = ""
    if transposed:
        before, a["output_padding"], crop = transposed_pads(a, before, after)
    elif before != after:
        if min(pads) < 0:
            raise CannotWrite(f"a {op.type} with pads {pads} has no form in PyTorch here")
        source, before = padded(source, before, after), [0] * dims
    for name, attribute, neutral in (
        ("stride", "strides", 1), ("padding", "", 0), ("dilation", "dilations", 1), ("output_padding", "output_padding", 0),
    ):  # fmt: skip
        values = before if name == "padding" else a.get(attribute, [neutral] * dims)
        if set(values) != {neutral}:
            options.append(f"{name}={one(values)}")
    groups = a.get("group", 1)
    if groups != 1:
        options.append(f"groups={groups}")
    if not w.is_trained(weight) and not (bias and w.is_trained(bias)):
        kernel = w.tensor(weight, False, f"{w.hint(op, 'conv')}_kernel")
        options = ([f"bias={w.value(bias, False)}"] if bias else []) + options
        function = f"F.conv{'_transpose' if transposed else ''}{dims}d"
        w.assign(op, w.hint(op, "y"), f"{function}({', '.join([source, kernel, *options])})")
        cropped(w, op, crop)
        return
    channels = (shape[0], shape[1] * groups) if transposed else (shape[1] * groups, shape[0])
    options = [str(channels[0]), str(channels[1]), one(shape[2:]), *options, *([] if bias else ["bias=False"])]
    module = w.module(op, w.hint(op, "conv"), f"nn.{op.type}{dims}d({', '.join(options)})", {"weight": weight, "bias": bias})
    w.assign(op, w.hint(op, "y"), f"self.{module}({source})")
    cropped(w, op, crop)


def cropped(w: Writer, op: Op, index: str) -> None:
    """A line that cuts off what goes too far."""
    if index:
        w.assign(op, w.hint(op, "y"), f"{w.value(op.outputs[0], False)}{index}")


def transposed_pads(
    attributes: dict[str, Any], before: Sequence[int], after: Sequence[int]
) -> tuple[Sequence[int], list[int], str]:
    """Padding and output_padding of torch's ConvTranspose, whose pads are alike at both ends, and an index that crops the rest.

    What goes further at the end is output_padding, as far as ONNX Runtime takes it. Raises CannotWrite for pads below zero.
    """
    if min(*before, *after) < 0:
        raise CannotWrite(f"a ConvTranspose with pads {[*before, *after]} has no form in PyTorch here")
    ones = [1] * len(before)
    own = attributes.get("output_padding", [0] * len(before))
    found = [extra + b - a for extra, b, a in zip(own, before, after, strict=True)]
    if all(0 <= extra < step for extra, step in zip(found, attributes.get("strides", ones), strict=True)):
        return before, found, ""
    least = [min(pair) for pair in zip(before, after, strict=True)]
    ends = [(b - p, a - p) for b, a, p in zip(before, after, least, strict=True)]
    return least, own, f"[:, :, {', '.join(f'{first or str()}:{-last or str()}' for first, last in ends)}]"


def padded(source: str, before: Sequence[int], after: Sequence[int]) -> str:
    """F.pad, which takes the last axis first."""
    pairs = [n for i in reversed(range(len(before))) for n in (before[i], after[i])]
    return f"F.pad({source}, {tuple(pairs)})"


def pool(w: Writer, op: Op) -> None:
    """MaxPool and AveragePool; pads of a maximum at the end alone are torch's `ceil_mode` where that has as many windows."""
    a = op.attributes
    dims = len(a["kernel_shape"])
    pads = a.get("pads", [0] * 2 * dims)
    if rounded_up(w, op):
        a, pads = {**a, "ceil_mode": 1}, [0] * 2 * dims
    if a.get("auto_pad", "NOTSET") != "NOTSET" or len(op.outputs) > 1:
        raise CannotWrite(f"a {op.type} with auto_pad or two outputs has no form in PyTorch here")
    if pads[:dims] != pads[dims:]:
        unevenly(w, op)
        return
    options = [w.value(op.inputs[0], False), one(a["kernel_shape"]), f"stride={one(a.get('strides', [1] * dims))}"]
    if set(pads) != {0}:
        options.append(f"padding={one(pads[:dims])}")
    if set(a.get("dilations", [1])) != {1}:
        if op.type == "AveragePool":
            raise CannotWrite("an AveragePool with dilations has no form in PyTorch")
        options.append(f"dilation={one(a['dilations'])}")
    if a.get("ceil_mode"):
        options.append("ceil_mode=True")
    if op.type == "AveragePool" and not a.get("count_include_pad", 0) and set(pads) != {0}:
        options.append("count_include_pad=False")
    name = "max_pool" if op.type == "MaxPool" else "avg_pool"
    w.assign(op, "pooled", f"F.{name}{dims}d({', '.join(options)})")


def unevenly(w: Writer, op: Op) -> None:
    """Pooling whose pads at the end are others than those before: torch pads first, and an average counts what is there."""
    a, x = op.attributes, w.value(op.inputs[0], False)
    dims = len(a["kernel_shape"])
    before, after = a["pads"][:dims], a["pads"][dims:]
    if a.get("ceil_mode") or set(a.get("dilations", [1])) != {1}:
        raise CannotWrite(f"a {op.type} with uneven pads and dilations or ceil_mode has no form in PyTorch here")
    window = f"{one(a['kernel_shape'])}, stride={one(a.get('strides', [1] * dims))}"
    if op.type == "MaxPool":
        filled = padded(x, before, after).removesuffix(")") + ', value=float("-inf"))'
        expression = f"F.max_pool{dims}d({filled}, {window})"
    else:
        expression = f"F.avg_pool{dims}d({padded(x, before, after)}, {window})"
        if not a.get("count_include_pad", 0):
            there = padded(f"torch.ones_like({x})", before, after)
            expression = f"{expression} / F.avg_pool{dims}d({there}, {window})"
    as_operator(w, op, "pooled", expression, ("kernel_shape", "strides", "pads", "count_include_pad"))


def rounded_up(w: Writer, op: Op) -> bool:
    """Whether a MaxPool is padded at the end alone, and has as many windows as with `ceil_mode`, where each begins inside."""
    a = op.attributes
    dims = len(a["kernel_shape"])
    pads, one_each = a.get("pads", [0] * 2 * dims), [1] * dims
    if op.type != "MaxPool" or any(pads[:dims]) or not any(pads[dims:]) or len(op.outputs) > 1:
        return False
    sizes = zip(w.shape(op.inputs[0])[2:], w.shape(op.outputs[0])[2:], a["kernel_shape"], a.get("strides", one_each), strict=True)
    # -(-n // s) is n / s rounded up; the last window has to begin inside.
    return set(a.get("dilations", one_each)) == {1} and all(
        out == -(-(extent - kernel) // stride) + 1 and (out - 1) * stride < extent for extent, out, kernel, stride in sizes
    )


def whole(w: Writer, op: Op) -> None:
    """GlobalAveragePool and GlobalMaxPool."""
    method, hint = ("mean", "mean") if op.type == "GlobalAveragePool" else ("amax", "peak")
    over = tuple(range(2, len(w.shape(op.inputs[0]))))
    w.assign(op, hint, f"{receiver(w.value(op.inputs[0], False))}.{method}({over}, keepdim=True)")


def resize(w: Writer, op: Op) -> None:
    """Resize of maps in a mode that F.interpolate has."""
    a = op.attributes
    mode, coordinates = a.get("mode", "nearest"), a.get("coordinate_transformation_mode", "half_pixel")
    form = MODES.get((mode, coordinates))
    shape, size = w.shape(op.inputs[0]), w.shape(op.outputs[0])
    if form is None or len(shape) != 4 or shape[:2] != size[:2] or a.get("antialias"):
        raise CannotWrite(f"a Resize with mode {mode} and {coordinates} has no form in PyTorch here")
    corners = f", align_corners={coordinates == 'align_corners'}" if form.startswith("bi") else ""
    w.assign(op, "resized", f'F.interpolate({w.value(op.inputs[0], False)}, size={size[2:]}, mode="{form}"{corners})')


WRITERS: dict[str, Write] = {
    "Conv": convolution, "ConvTranspose": convolution, "MaxPool": pool, "AveragePool": pool, "GlobalAveragePool": whole,
    "GlobalMaxPool": whole, "Resize": resize,
}  # fmt: skip
