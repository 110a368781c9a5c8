"""The operators that can be learned, each with its knobs: what a compiler may limit, from plain and small values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

from npu_guard.learning.form import Choice, Form, Knob, Range, call, graph, tensor, vector
from npu_guard.learning.window_forms import MAP, SIZES, WINDOW_FORMS, Knobs

_SUMS = ("reduce_size", "reduce_size.product", "axes.count", "channels_out", *SIZES)


def _shape(k: Knobs) -> tuple[int, ...]:
    """An activation of the rank that a knob says: extents of 2 between the channels and the map, none of the map below rank 3."""
    whole = (k["batch"], k["channels"], *(2,) * max(0, k["rank"] - 4), k["h"], k["w"])
    return whole if k["rank"] > 3 else whole[: k["rank"]]


_SHAPE: Mapping[str, Knob] = {"channels": Range(8, 16384), **MAP, "rank": Range(4, 6, 2)}


_TYPES = Choice(("float", "float16", "double", "int8", "uint8", "int32", "int64"))


def _one(op: str) -> Form:
    operand = "input" if op in ("Tanh", "Exp", "Log", "Erf") else "X"

    def write(k: Knobs) -> str:
        return graph(call(op, ["x"]), [tensor("x", _shape(k), k["type"])], outputs=[f"{k['type']}[] y"])

    return Form(op, {**_SHAPE, "type": _TYPES}, write, SIZES, (f"dtype.{operand}",))


def _global(op: str) -> Form:
    def write(k: Knobs) -> str:
        if k["rank"] < 3:
            raise ValueError("no map")
        return graph(call(op, ["x"]), [tensor("x", _shape(k))])

    return Form(op, _SHAPE, write, ("kernel", "kernel.h", "kernel.w", "kernel.product", *SIZES))


def _two(op: str) -> Form:
    sides = Choice(("same", "channel", "scalar", "weights"))

    def write(k: Knobs) -> str:
        shape = _shape(k)
        right = {"channel": (1, shape[1], *(1,) * (len(shape) - 2)), "scalar": (1,)}.get(k["right"], shape)
        other, held = tensor("z", right), k["right"] == "weights"
        inputs = [tensor("x", shape), *([] if held else [other])]
        return graph(call(op, ["x", "z"]), inputs, [other] if held else [])

    return Form(op, {**_SHAPE, "right": sides}, write, SIZES, ("constant.B", "varies.B"))


_AXES = tuple(c for n in (1, 2, 3) for c in itertools.combinations(range(4), n))


def _reduction(op: str) -> Form:
    def write(k: Knobs) -> str:
        shape, axes = _shape(k), k["axes"]
        if axes and max(axes) >= len(shape):
            raise ValueError("no such axis")
        if op == "ReduceSum":  # of opset 13 already; the others follow in 18
            line = call(op, ["x", "a"], keepdims=k["keepdims"])
            if k["held"]:
                return graph(line, [tensor("x", shape)], [vector("a", axes)])
            return graph(line, [tensor("x", shape), f"int64[{len(axes)}] a"])
        return graph(call(op, ["x"], axes=axes, keepdims=k["keepdims"]), [tensor("x", shape)])

    first = (2, 3)
    axes = Choice((first, *(a for a in _AXES if a != first)))
    knobs: dict[str, Knob] = {**_SHAPE, "axes": axes, "keepdims": Choice((1, 0))}
    if op == "ReduceSum":
        knobs["held"] = Choice((True, False))
    return Form(op, knobs, write, _SUMS, ("axes", "attr.keepdims", "constant.axes"))


def _along(op: str, result: str = "float", **knobs: Knob) -> Form:
    """Operators over one axis."""

    def write(k: Knobs) -> str:
        shape = _shape(k)
        if k["axis"] >= len(shape):
            raise ValueError("no such axis")
        words = {name: k[name] for name in knobs}
        return graph(call(op, ["x"], axis=k["axis"], **words), [tensor("x", shape)], outputs=[f"{result}[] y"])

    kinds = ("axes", "attr.keepdims", "attr.select_last_index")
    return Form(op, {**_SHAPE, "axis": Choice((1, 2, 3)), **knobs}, write, _SUMS, kinds)


def _resize(k: Knobs) -> str:
    if k["mode"] != "nearest" and k["nearest_mode"] != "floor":
        raise ValueError("no rounding")
    if k["up_h"] == k["up_w"] == 1 and not k["part"] and k["also"] == "map":
        raise ValueError("a Resize that changes nothing, which compilers drop")
    scales = [k["up_h"] + k["part"], k["up_w"] + k["part"]]
    if k["down"]:
        scales = [1 / scale for scale in scales]
    outer = {"map": (1, 1), "batch": (2, 1), "channels": (1, 2)}[k["also"]]
    scales = [*outer, *(1,) * (k["rank"] - 4), *scales] if k["rank"] > 3 else [*outer, scales[1]]
    words = {"mode": k["mode"], "coordinate_transformation_mode": k["transform"]}
    if k["mode"] == "nearest":
        words["nearest_mode"] = k["nearest_mode"]
    space = [max(k[name], k[up] if k["down"] else 1) for name, up in (("h", "up_h"), ("w", "up_w"))]
    line = call("Resize", ["x", "", "s"], **words)
    space = [*(2,) * (k["rank"] - 4), *space] if k["rank"] > 3 else space[1:]
    x = tensor("x", [k["batch"], k["channels"], *space])
    return graph(line, [x], [vector("s", [float(s) for s in scales], "float")])


def _matmul(k: Knobs) -> str:
    outer = {2: (), 3: (k["batch"],), 4: (k["batch"], 2)}[k["rank"]]
    right = (k["length"], k["columns"]) if k["held"] else (*outer, k["length"], k["columns"])
    other = tensor("z", right)
    inputs = [tensor("x", (*outer, k["rows"], k["length"])), *([] if k["held"] else [other])]
    return graph(call("MatMul", ["x", "z"]), inputs, [other] if k["held"] else [])


def _gemm(k: Knobs) -> str:
    weight = (k["columns"], k["length"]) if k["transB"] else (k["length"], k["columns"])
    left = (k["length"], k["rows"]) if k["transA"] else (k["rows"], k["length"])
    held = [tensor("w", weight), tensor("b", [k["columns"]])]
    return graph(call("Gemm", ["x", "w", "b"], transA=k["transA"], transB=k["transB"]), [tensor("x", left)], held)


def _transpose(k: Knobs) -> str:
    perm = k["perm"]
    shape = (k["batch"], k["channels"], *(2,) * max(0, len(perm) - 4), k["h"], k["w"])[: max(len(perm), 2)]
    return graph(call("Transpose", ["x"], perm=perm), [tensor("x", shape)])


_PERMS: list[tuple[int, ...]] = [(0, 2, 3, 1)]
_PERMS += [p for n in (4, 3, 2) for p in itertools.permutations(range(n)) if p != (0, 2, 3, 1) and p != tuple(range(n))]
_PERMS += [(0, 1, 2, 4, 3), (0, 2, 1, 3, 4), (0, 4, 1, 2, 3), (0, 1, 3, 5, 2, 4)]
_PERMS += [(5, 4, 3, 2, 1, 0), (0, 1, 2, 3, 5, 4), (0, 2, 1, 3, 4, 5), (0, 1, 4, 2, 5, 3)]


def _reshape(k: Knobs) -> str:
    shape = _shape(k)
    count = math.prod(shape[1:])
    after: Sequence[int] = {
        "flat": (shape[0], count),
        "tokens": (shape[0], shape[1], count // shape[1]),
        "groups": (shape[0], 2, shape[1] // 2, *shape[2:]),
        "map": (shape[0], count, 1, 1),
    }[k["into"]]
    if math.prod(after) != math.prod(shape):
        raise ValueError("an odd number of channels")
    return graph(call("Reshape", ["x", "s"]), [tensor("x", shape)], [vector("s", after)])


def _concat(k: Knobs) -> str:
    shape = _shape(k)
    if k["axis"] >= len(shape):
        raise ValueError("no such axis")
    names = [f"x{i}" for i in range(k["parts"])]
    return graph(call("Concat", names, axis=k["axis"]), [tensor(n, shape) for n in names])


def _split(k: Knobs) -> str:
    shape, axis, parts = list(_shape(k)), k["axis"], k["parts"]
    if axis >= len(shape):
        raise ValueError("no such axis")
    size = max(1, shape[axis] // parts)
    sizes = [size] * (parts - 1) + [size + (1 if k["uneven"] else 0)]
    shape[axis] = sum(sizes)
    names = [f"y{i}" for i in range(parts)]
    line = call("Split", ["x", "s"], names, axis=axis)
    return graph(line, [tensor("x", shape)], [vector("s", sizes)], [f"float[] {n}" for n in names])


def _slice(k: Knobs) -> str:
    shape, axis, step = _shape(k), k["axis"], k["step"]
    if axis >= len(shape):
        raise ValueError("no such axis")
    start, end = (0, max(1, shape[axis] - 1)) if step > 0 else (shape[axis] - 1, -shape[axis] - 1)
    held = [vector(name, [value]) for name, value in (("s", start), ("e", end), ("a", axis), ("t", step))]
    return graph(call("Slice", ["x", "s", "e", "a", "t"]), [tensor("x", shape)], held)


def _pad(k: Knobs) -> str:
    shape, axes = _shape(k), k["axes"]
    if axes and max(axes) >= len(shape):
        raise ValueError("no such axis")
    if k["mode"] == "reflect":
        shape = tuple(max(s, k["size"] + 1) if a in axes else s for a, s in enumerate(shape))
    pads = [k["size"] if a in axes else 0 for a in range(len(shape))] * 2
    return graph(call("Pad", ["x", "p"], mode=k["mode"]), [tensor("x", shape)], [vector("p", pads)])


def _prelu(k: Knobs) -> str:
    shape = _shape(k)
    slope = {"channel": (shape[1], *(1,) * (len(shape) - 2)), "scalar": (1,), "all": shape[1:]}[k["slope"]]
    return graph(call("PRelu", ["x", "slope"]), [tensor("x", shape)], [tensor("slope", slope)])


_BLOCKS: Mapping[str, Callable[[Knobs], str]] = {
    "DepthToSpace": lambda k: graph(
        call("DepthToSpace", ["x"], blocksize=k["size"], mode=k["mode"]),
        [tensor("x", [k["batch"], k["channels"] * k["size"] ** 2, k["h"], k["w"]])],
    ),
    "SpaceToDepth": lambda k: graph(
        call("SpaceToDepth", ["x"], blocksize=k["size"]),
        [tensor("x", [k["batch"], k["channels"], k["h"] * k["size"], k["w"] * k["size"]])],
    ),
}
_MODES = Choice(("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners"))

FORMS: Mapping[str, Form] = {
    form.op: form
    for form in (
        *WINDOW_FORMS,
        *map(_global, ("GlobalAveragePool", "GlobalMaxPool")),
        *map(_reduction, ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd")),
        _along("ArgMax", "int64", keepdims=Choice((1, 0)), select_last_index=Choice((0, 1))),
        *map(_along, ("Softmax", "LogSoftmax")),
        Form("Resize", {
            "mode": Choice(("nearest", "linear", "cubic")), "transform": _MODES,
            "nearest_mode": Choice(("floor", "round_prefer_floor", "round_prefer_ceil", "ceil")),
            "up_h": Range(2, 32), "up_w": Range(2, 32), "down": Choice((False, True)), "channels": Range(8, 4096), **MAP,
            "part": Choice((0, 0.5)), "also": Choice(("map", "batch", "channels")), "rank": Range(4, 6, 3),
        }, _resize, ("scale", "scale.h", "scale.w", *SIZES),
            ("attr.mode", "attr.coordinate_transformation_mode", "attr.nearest_mode", "axes")),
        *map(_one, ("Relu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu", "Exp", "Log", "Abs", "Neg", "Sqrt", "Erf",
                    "Softplus", "Reciprocal", "Floor", "LeakyRelu")),
        Form("PRelu", {**_SHAPE, "slope": Choice(("channel", "scalar", "all"))}, _prelu, SIZES, ("varies.slope",)),
        *map(_two, ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow")),
        Form("MatMul", {
            "rows": Range(8, 8192), "length": Range(8, 131072), "columns": Range(8, 131072), "batch": Range(1, 16),
            "rank": Choice((3, 2, 4)), "held": Choice((False, True)),
        }, _matmul, ("rank", "batch", "reduce_size", "channels_out", "spatial.w", "elements"), ("constant.B",)),
        Form("Gemm", {
            "rows": Range(1, 1024), "length": Range(16, 131072), "columns": Range(8, 131072),
            "transA": Choice((0, 1)), "transB": Choice((1, 0)),
        }, _gemm, ("batch", "reduce_size", "channels_out", "elements"), ("attr.transA", "attr.transB")),
        Form("Transpose", {"perm": Choice(tuple(_PERMS)), "channels": Range(8, 16384), **MAP}, _transpose,
             SIZES, ("perm",)),
        Form("Reshape", {**_SHAPE, "into": Choice(("flat", "tokens", "groups", "map"))}, _reshape,
             ("output_rank", *SIZES)),
        Form("Concat", {**_SHAPE, "axis": Choice((1, 2, 3, 0)), "parts": Range(2, 32)}, _concat,
             ("inputs", "channels_out", *SIZES), ("axes",)),
        Form("Split", {**_SHAPE, "axis": Choice((1, 2, 3, 0)), "parts": Range(2, 16), "uneven": Choice((False, True))}, _split,
             ("parts", "outputs", "channels_out", *SIZES), ("axes",)),
        Form("Slice", {**_SHAPE, "axis": Choice((3, 2, 1, 0)), "step": Choice((1, 2, 3, 4, -1))}, _slice,
             ("channels_out", *SIZES), ("axes", "strided_axes", "value.steps", "value.axes")),
        Form("Pad", {
            **_SHAPE, "size": Range(1, 256), "mode": Choice(("constant", "reflect", "edge")),
            "axes": Choice(((2, 3), (2,), (3,), (1,), (0,), (1, 2), (1, 2, 3))),
        }, _pad, ("pads", "channels_out", *SIZES), ("axes", "attr.mode")),
        Form("DepthToSpace", {"size": Range(2, 16), "mode": Choice(("DCR", "CRD")), "channels": Range(4, 1024), **MAP},
             _BLOCKS["DepthToSpace"], ("attr.blocksize", "channels_out", *SIZES), ("attr.mode",)),
        Form("SpaceToDepth", {"size": Range(2, 16), "channels": Range(4, 1024), **MAP}, _BLOCKS["SpaceToDepth"],
             ("attr.blocksize", "channels_out", *SIZES)),
    )
}  # fmt: skip
"""By operator, in the order in which they are asked about."""
