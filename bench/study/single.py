"""Models of one operator in ONNX text, from a few words each; what is not said has a plain, small value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx.defs

Ints = Sequence[int]


@dataclass(frozen=True)
class Case:
    """A question for a compiler. The text is the whole question, so answers are filed under it."""

    key: str
    family: str
    text: str
    opset: int = 17


def titled(family: str, what: str, text: str, opset: int = 17) -> Case:
    return Case(f"{family} {what}", family, text, opset)


def by(sizes: Iterable[Any]) -> str:
    """`3x5`."""
    return "x".join(map(str, sizes))


def tensor(name: str, shape: Sequence[int | str], dtype: str = "float") -> str:
    return f"{dtype}[{','.join(map(str, shape))}] {name}"


def numbers(name: str, values: Sequence[float], dtype: str = "int64") -> str:
    return f"{dtype}[{len(values)}] {name} = {{{','.join(map(str, values))}}}"


def attributes(values: Mapping[str, Any]) -> str:
    """`<k = [1,2], mode = "x">`, or nothing."""
    shown = {k: f'"{v}"' if isinstance(v, str) else list(v) if isinstance(v, tuple | list) else v for k, v in values.items()}
    return f"<{', '.join(f'{k} = {v}' for k, v in shown.items())}>" if shown else ""


def graph(call: str, inputs: Sequence[str], held: Sequence[str] = (), outputs: Sequence[str] = ("float[] y",)) -> str:
    """A graph of one call. What an operator's output looks like is left to shape inference."""
    between = f" <{', '.join(held)}>" if held else ""
    return f"g ({', '.join(inputs)}) => ({', '.join(outputs)}){between} {{ {call} }}"


def conv(
    kernel: Ints = (3, 3), *, stride: Ints = (), dilation: Ints = (), pads: Ints | None = None, group: int = 1, channels: int = 8,
    out: int = 8, space: Ints = (), batch: int | str = 1, bias: bool = False, dynamic: bool = False, dtype: str = "float",
    **attrs: Any,
) -> str:  # fmt: skip
    """Padded to keep the map, unless said otherwise."""
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation or [1] * len(kernel), strict=True)]
    space = space or [max(16, r + 1) for r in reach]
    if pads is None and "auto_pad" not in attrs:
        pads = [r // 2 for r in reach] * 2
    given = {
        "kernel_shape": kernel,
        "strides": stride,
        "dilations": dilation,
        "pads": pads,
        "group": group if group > 1 else None,
    }
    call = f"y = Conv{attributes({k: v for k, v in given.items() if v} | attrs)}(x, w{', b' if bias else ''})"
    weight = tensor("w", [out, channels // group, *kernel], dtype)
    held = [] if dynamic else [weight]
    inputs = [tensor("x", [batch, channels, *space], dtype)] + ([weight] if dynamic else [])
    return graph(call, inputs, held + ([tensor("b", [out], dtype)] if bias else []), [f"{dtype}[] y"])


def depthwise(kernel: Ints = (3, 3), *, channels: int = 8, **words: Any) -> str:
    return conv(kernel, group=channels, channels=channels, out=channels, **words)


def conv_transpose(
    kernel: Ints = (2, 2), *, stride: Ints = (2, 2), dilation: Ints = (), pads: Ints = (), group: int = 1, channels: int = 8,
    out: int = 8, space: Ints = (8, 8), **attrs: Any,
) -> str:  # fmt: skip
    given = {
        "kernel_shape": kernel,
        "strides": stride,
        "dilations": dilation,
        "pads": pads,
        "group": group if group > 1 else None,
    }
    call = f"y = ConvTranspose{attributes({k: v for k, v in given.items() if v} | attrs)}(x, w)"
    return graph(call, [tensor("x", [1, channels, *space])], [tensor("w", [channels, out // group, *kernel])])


def pool(
    op: str, kernel: Ints = (2, 2), *, stride: Ints = (1, 1), pads: Ints = (), channels: int = 8, space: Ints = (),
    batch: int = 1, **attrs: Any,
) -> str:  # fmt: skip
    space = space or [max(16, 2 * k) for k in kernel]
    given = {"kernel_shape": kernel, "strides": stride if len(stride) == len(kernel) else [1] * len(kernel), "pads": pads}
    return graph(
        f"y = {op}{attributes({k: v for k, v in given.items() if v} | attrs)}(x)", [tensor("x", [batch, channels, *space])]
    )


def unary(op: str, shape: Sequence[int | str] = (1, 8, 16, 16), *, dtype: str = "float", **attrs: Any) -> str:
    return graph(f"y = {op}{attributes(attrs)}(x)", [tensor("x", shape, dtype)], outputs=[f"{dtype}[] y"])


def binary(
    op: str, left: Ints = (1, 8, 16, 16), right: Ints | None = None, *, held: bool = False, result: str = "float", **attrs: Any
) -> str:
    z = tensor("z", left if right is None else right)
    call = f"y = {op}{attributes(attrs)}(x, z)"
    return graph(call, [tensor("x", left)] + ([] if held else [z]), [z] if held else [], [f"{result}[] y"])


def reduce(op: str, axes: Ints, shape: Ints = (1, 16, 8, 8), keepdims: int = 1) -> str:
    if op == "ReduceSum":  # of opset 13 already, the others follow in 18
        return graph(f"y = {op}<keepdims = {keepdims}>(x, a)", [tensor("x", shape)], [numbers("a", axes)])
    return unary(op, shape, axes=list(axes), keepdims=keepdims)


def arg(op: str = "ArgMax", shape: Ints = (1, 16, 4, 4), **attrs: Any) -> str:
    return graph(f"y = {op}{attributes(attrs)}(x)", [tensor("x", shape)], outputs=["int64[] y"])


def resize(scales: Sequence[float], shape: Ints = (1, 8, 8, 8), **attrs: Any) -> str:
    values = ",".join(f"{float(s)}" for s in scales)
    return graph(f"y = Resize{attributes(attrs)}(x, , s)", [tensor("x", shape)], [f"float[{len(scales)}] s = {{{values}}}"])


def pad(pads: Ints, shape: Ints = (1, 8, 8, 8), **attrs: Any) -> str:
    return graph(f"y = Pad{attributes(attrs)}(x, p)", [tensor("x", shape)], [numbers("p", pads)])


def cut(starts: Ints, ends: Ints, axes: Ints, steps: Ints, shape: Ints = (1, 8, 16, 16)) -> str:
    held = [numbers(n, v) for n, v in (("s", starts), ("e", ends), ("a", axes), ("t", steps))]
    return graph("y = Slice(x, s, e, a, t)", [tensor("x", shape)], held)


def reshape(shape: Ints, after: Ints, **attrs: Any) -> str:
    return graph(f"y = Reshape{attributes(attrs)}(x, s)", [tensor("x", shape)], [numbers("s", after)])


def axes_op(op: str, axes: Ints, shape: Ints) -> str:
    """Squeeze and Unsqueeze."""
    return graph(f"y = {op}(x, a)", [tensor("x", shape)], [numbers("a", axes)])


def concat(axis: int, shape: Ints = (1, 8, 4, 4), parts: int = 2) -> str:
    names = [f"x{i}" for i in range(parts)]
    return graph(f"y = Concat<axis = {axis}>({', '.join(names)})", [tensor(n, shape) for n in names])


def split(axis: int, sizes: Ints, shape: Ints = (1, 8, 4, 4)) -> str:
    names = [f"y{i}" for i in range(len(sizes))]
    return graph(
        f"{', '.join(names)} = Split<axis = {axis}>(x, s)",
        [tensor("x", shape)],
        [numbers("s", sizes)],
        [f"float[] {n}" for n in names],
    )


def matmul(left: Ints, right: Ints, *, held: bool = False) -> str:
    return binary("MatMul", left, right, held=held)


def gemm(rows: int = 1, width: int = 16, out: int = 8, **attrs: Any) -> str:
    weight = [out, width] if attrs.get("transB") else [width, out]
    return graph(f"y = Gemm{attributes(attrs)}(x, w, b)", [tensor("x", [rows, width])], [tensor("w", weight), tensor("b", [out])])


def grid_sample(**attrs: Any) -> str:
    return graph(f"y = GridSample{attributes(attrs)}(x, z)", ["float[1,8,8,8] x", "float[1,4,4,2] z"])


def cumulated(**attrs: Any) -> str:
    return graph(f"y = CumSum{attributes(attrs)}(x, a)", ["float[1,8,4,4] x"], ["int64 a = {1}"])


def roi_align(mode: str = "avg", **attrs: Any) -> str:
    call = f"y = RoiAlign{attributes({'output_height': 2, 'output_width': 2, 'mode': mode} | attrs)}(x, r, b)"
    return graph(call, ["float[1,8,8,8] x", "float[2,4] r"], ["int64[2] b = {0,0}"])


def normalised(op: str = "BatchNormalization", shape: Ints = (1, 8, 4, 4)) -> str:
    names = "sbmv" if op == "BatchNormalization" else "sb"
    return graph(f"y = {op}(x, {', '.join(names)})", [tensor("x", shape)], [f"float[{shape[1]}] {n}" for n in names])


def loosened(text: str, op: str, name: str) -> str:
    """The graph with one constant input, by its ONNX name, made an input of the graph. Raises LookupError where it has none."""
    head, _, rest = text.partition(" => ")
    outputs, _, after = rest.partition(" <")
    held, _, call = after.partition("> { ")
    schema = onnx.defs.get_schema(op, 17)
    position = [formal.name for formal in schema.inputs].index(name)
    argument = call[call.rindex("(") + 1 : call.rindex(")")].split(", ")[position]
    declared = held.split(", ")
    chosen = next(entry for entry in declared if entry.split(" = ")[0].endswith(f" {argument}"))
    left = [entry for entry in declared if entry != chosen]
    return f"{head[:-1]}, {chosen.split(' = ')[0]}) => {outputs}{' <' + ', '.join(left) + '>' if left else ''} {{ {call}"
