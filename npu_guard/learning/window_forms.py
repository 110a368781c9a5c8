"""Operators with a window, with their knobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from npu_guard.learning.form import Choice, Form, Knob, Range, call, graph, tensor

Knobs = Mapping[str, Any]
SIZES = (
    "rank", "batch", "channels_in", "spatial.h", "spatial.w", "spatial", "spatial.product", "output_spatial.h",
    "output_spatial.w", "output_spatial", "output_spatial.product", "extent", "elements",
)  # fmt: skip
_WINDOWS = (
    "kernel", "kernel.h", "kernel.w", "kernel.product", "stride", "stride.h", "stride.w", "stride.product", "dilation",
    "dilation.h", "dilation.w", "dilated_kernel", "dilated_kernel.h", "dilated_kernel.w", "dilated_kernel.product", "pads",
    "kernel.product * channels_in",
)  # fmt: skip
_CONVS = (*_WINDOWS, "group", "group_channels", "channels_out", "channels", *SIZES)
_CONV_KINDS = ("depthwise", "grouped", "pointwise", "dilated", "padded", "constant.W", "attr.auto_pad")
_POOL_KINDS = ("padded", "dilated", "attr.ceil_mode", "attr.count_include_pad", "attr.auto_pad")

MAP: Mapping[str, Knob] = {"h": Range(8, 16384), "w": Range(8, 16384), "batch": Range(1, 16)}


def _reach(k: Knobs) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Kernel, dilation, and how far they reach."""
    kernel, dilation = (k["kh"], k["kw"]), (k.get("dh", 1), k.get("dw", 1))
    return kernel, dilation, ((kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1)


def _same(reach: Sequence[int], k: Knobs, space: Sequence[int]) -> tuple[int, ...]:
    """Padding that keeps a map as it is, or what the stride leaves of it: that of SAME_UPPER, which all formats can state."""
    before, after = [], []
    for extent, step, size in zip(reach, (k["sh"], k["sw"]), space, strict=True):
        total = max((-(-size // step) - 1) * step + extent - size, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    return (*before, *after)


def _grouping(k: Knobs) -> tuple[int, int, int]:
    """Groups, channels in and channels out."""
    if k["kind"] == "depthwise":
        return k["channels"], k["channels"], k["channels"]
    groups = 2 if k["kind"] == "grouped" else 1
    return groups, groups * k["channels"], groups * k["out"]


def _at_rank(pair: Sequence[int], rank: int, front: int = 1) -> tuple[int, ...]:
    """What is said of height and width, for rows and volumes as well."""
    return tuple(pair[1:]) if rank == 3 else (*(front,) * (rank - 4), *pair)


def _written(k: Knobs, kernel: Sequence[int], space: Sequence[int], pads: Sequence[int] | None) -> tuple[tuple[int, ...], Knobs]:
    """The extents of a map, and the attributes of a window over it."""
    rank, automatic = k["rank"], k["auto_pad"]
    sides = None if pads is None or automatic else (*_at_rank(pads[:2], rank, 0), *_at_rank(pads[2:], rank, 0))
    words: dict[str, Any] = {"kernel_shape": _at_rank(kernel, rank), "strides": _at_rank((k["sh"], k["sw"]), rank), "pads": sides}
    words |= {"auto_pad": "SAME_UPPER"} if automatic else {}
    return _at_rank(space, rank, 2), words


def _conv(k: Knobs) -> str:
    kernel, dilation, reach = _reach(k)
    groups, channels, out = _grouping(k)
    space = [max(size, 1 if k["padded"] else r) for size, r in zip((k["h"], k["w"]), reach, strict=True)]
    pads = _same(reach, k, space) if k["padded"] else (0, 0, 0, 0)
    extents, words = _written(k, kernel, space, pads)
    line = call("Conv", ["x", "w", "b"], dilations=_at_rank(dilation, k["rank"]), group=groups, **words)
    weight = tensor("w", [out, channels // groups, *words["kernel_shape"]])
    inputs = [tensor("x", [k["batch"], channels, *extents]), *([] if k["held"] else [weight])]
    return graph(line, inputs, [*([weight] if k["held"] else []), tensor("b", [out])])


def _conv_transpose(k: Knobs) -> str:
    kernel, dilation, _ = _reach(k)
    groups, channels, out = _grouping(k)
    extents, words = _written(k, kernel, (k["h"], k["w"]), (1, 1, 1, 1) if k["padded"] else None)
    line = call("ConvTranspose", ["x", "w"], dilations=_at_rank(dilation, k["rank"]), group=groups, **words)
    weight = tensor("w", [channels, out // groups, *words["kernel_shape"]])
    return graph(line, [tensor("x", [k["batch"], channels, *extents])], [weight])


_WINDOW: Mapping[str, Knob] = {
    "kh": Range(3, 1024), "kw": Range(3, 1024), "sh": Range(1, 32), "sw": Range(1, 32), "dh": Range(1, 64), "dw": Range(1, 64),
    "channels": Range(8, 16384), "out": Range(8, 16384), **MAP, "rank": Range(4, 6, 3), "auto_pad": Choice((False, True)),
}  # fmt: skip
_GROUPS = Choice(("plain", "depthwise", "grouped"))


def _pool(op: str) -> Form:
    def write(k: Knobs) -> str:
        kernel, dilation, reach = _reach(k)
        space = [max(size, 1 if k["padded"] else r) for size, r in zip((k["h"], k["w"]), reach, strict=True)]
        pads = _same(reach, k, space) if k["padded"] else (0, 0, 0, 0)
        extents, words = _written(k, kernel, space, pads)
        words = {**words, **{name: k[name] for name in ("ceil_mode", "count_include_pad") if k.get(name)}}
        if op == "MaxPool":
            words["dilations"] = _at_rank(dilation, k["rank"])
        both = k.get("indices", False)
        line = call(op, ["x"], ("y", "i") if both else ("y",), **words)
        outputs = ("float[] y", "int64[] i") if both else ("float[] y",)
        return graph(line, [tensor("x", [k["batch"], k["channels"], *extents])], outputs=outputs)

    knobs: dict[str, Knob] = {name: knob for name, knob in _WINDOW.items() if name not in ("dh", "dw", "out")}
    knobs |= {"padded": Choice((False, True)), "ceil_mode": Choice((0, 1))}
    if op == "MaxPool":
        knobs |= {"dh": Range(1, 16), "dw": Range(1, 16), "indices": Choice((False, True))}
    else:
        knobs["count_include_pad"] = Choice((0, 1))
    return Form(op, knobs, write, (*_WINDOWS, "outputs", *SIZES), _POOL_KINDS)


WINDOW_FORMS = (
    Form("Conv", {**_WINDOW, "kind": _GROUPS, "padded": Choice((False, True)), "held": Choice((True, False))}, _conv,
         _CONVS, _CONV_KINDS),
    Form("ConvTranspose", {
        **_WINDOW, "kh": Range(2, 64), "kw": Range(2, 64), "kind": _GROUPS, "padded": Choice((False, True)),
    }, _conv_transpose, _CONVS, _CONV_KINDS),
    *map(_pool, ("MaxPool", "AveragePool")),
)  # fmt: skip
"""Convolutions and pools."""
