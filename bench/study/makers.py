"""Operators from knobs (kernel, stride, axes ...), and dials that turn a value of a metric into knobs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import single as m

Knobs = dict[str, Any]
Dial = Callable[[Any], Iterable[Knobs]]


class Maker:
    """Writes an operator from knobs, in several bases, with dials by metric."""

    def __init__(self, write: Callable[..., str], dials: Mapping[str, Dial], bases: Mapping[str, Knobs] | None = None) -> None:
        self.write = write
        self.dials = dials
        self.bases = bases or {"": {}}

    def turn(self, metric: str, value: Any) -> Iterable[Knobs]:
        """Knobs that give the metric the value; none where nobody knows how."""
        name, _, argument = metric.partition(".")
        dial = self.dials.get(metric) or self.dials.get(name if name in ("rank", "dtype", "extent") else "")
        if dial is not None:
            return dial(value)
        return [{argument: value}] if name == "attr" else [{}] if name == "constant" else []


def _axes(name: str) -> dict[str, Dial]:
    """Dials of a knob with two axes: kernel, stride, dilation, spatial."""
    rest = {"kernel": 1, "stride": 1, "dilation": 1}.get(name, 16)
    knob = "space" if name == "spatial" else name

    def both(value: Any) -> Iterable[Knobs]:
        if isinstance(value, tuple):
            return [{knob: value}]
        return [{knob: (value, rest)}, {knob: (rest, value)}]

    return {
        name: both,
        f"{name}.h": lambda v: [{knob: (v, rest)}],
        f"{name}.w": lambda v: [{knob: (rest, v)}],
        f"{name}.product": lambda v: [{knob: factors(v)}],
    }


def factors(value: int) -> tuple[int, int]:
    """The most square way to write a number as a product."""
    first = next(d for d in range(math.isqrt(value), 0, -1) if value % d == 0)
    return first, value // first


def _reach(value: int, axis: int) -> Knobs:
    """A kernel of 3 (or 2) taps that reaches over so many pixels."""
    taps = 3 if value % 2 else 2
    kernel, dilation = [1, 1], [1, 1]
    kernel[axis], dilation[axis] = taps, (value - 1) // (taps - 1)
    return {"kernel": tuple(kernel), "dilation": tuple(dilation)}


_WINDOW: dict[str, Dial] = {
    **_axes("kernel"), **_axes("stride"), **_axes("dilation"), **_axes("spatial"),
    "dilated_kernel": lambda v: [_reach(v, 0), _reach(v, 1)],
    "dilated_kernel.h": lambda v: [_reach(v, 0)],
    "dilated_kernel.w": lambda v: [_reach(v, 1)],
    "dilated_kernel.product": lambda v: [{"kernel": factors(v)}],
    "pads": lambda v: [{"pads": (v,) * 4}],
    "channels_in": lambda v: [{"channels": v}],
    "batch": lambda v: [{"batch": v}],
    "padded": lambda v: [{"pads": (1,) * 4 if v else (0,) * 4}],
    "dilated": lambda v: [{"dilation": (2, 2) if v else (1, 1)}],
    "rank": lambda v: [{"kernel": (2,) * (v - 2), "space": (8,) * (v - 2), "stride": (), "pads": ()}],
}  # fmt: skip
_CONV: dict[str, Dial] = {
    **_WINDOW,
    "group": lambda v: [{"group": v, "channels": 2 * v, "out": 2 * v}],
    "channels_out": lambda v: [{"out": v}],
    "channels": lambda v: [{"channels": v, "out": v}],
    "depthwise": lambda v: [{"group": 8} if v else {"group": 1}],
    "constant.W": lambda v: [{"dynamic": not v}],
    "dtype": lambda v: [{"dtype": _TYPES[v]}] if v in _TYPES else [],
}
_TYPES = {
    "float32": "float",
    "float16": "float16",
    "float64": "double",
    "int32": "int32",
    "int64": "int64",
    "int8": "int8",
    "uint8": "uint8",
}
_PADDED: Mapping[str, Knobs] = {
    "": {},
    "bias": {"bias": True},
    "unpadded": {"pads": (0, 0, 0, 0)},
    "depthwise": {"group": 8},
    "depthwise unpadded": {"group": 8, "pads": (0,) * 4},
}
_ANY: dict[str, Dial] = {
    "rank": lambda v: [{"shape": (1, *(2,) * (v - 1))}],
    "extent": lambda v: [{"shape": (1, v, 1, 1)}, {"shape": (1, 1, 1, v)}],
    "batch": lambda v: [{"shape": (v, 8, 4, 4)}],
    "spatial.product": lambda v: [{"shape": (1, 4, *factors(v))}],
    "spatial.h": lambda v: [{"shape": (1, 4, v, 2)}],
    "spatial.w": lambda v: [{"shape": (1, 4, 2, v)}],
    "channels_in": lambda v: [{"shape": (1, v, 2, 2)}],
    "elements": lambda v: [{"shape": (1, 1, *factors(v))}],
    "kernel": lambda v: [{"shape": (1, 8, v, 2)}, {"shape": (1, 8, 2, v)}],
    "kernel.product": lambda v: [{"shape": (1, 8, *factors(v))}],
    "dtype": lambda v: [{"dtype": _TYPES[v]}] if v in _TYPES else [],
}
_OVER = {
    **_ANY,
    "axes": lambda v: [{"axes": v if isinstance(v, tuple) else (v,)}],
    "reduce_size": lambda v: [{"shape": (1, v, 1, 2), "axes": (1,)}, {"shape": (1, 2, 2, v), "axes": (3,)}],
    "reduce_size.product": lambda v: [{"shape": (1, 2, *factors(v)), "axes": (2, 3)}],
}  # fmt: skip


def _pooling(op: str) -> Maker:
    def write(*, dilation: Sequence[int] = (), pads: Sequence[int] = (), kernel: Sequence[int] = (2, 2), **knobs: Any) -> str:
        kernel = tuple(max(k, 2 * p + 1) for k, p in zip(kernel, pads, strict=False)) or kernel  # padding stays inside the window
        return m.pool(op, kernel, pads=pads, **({"dilations": dilation} if dilation else {}), **knobs)

    return Maker(write, {**_WINDOW, "channels": _WINDOW["channels_in"]}, {"": {}, "padded": {"auto_pad": "SAME_UPPER"}})


def _one(op: str, **fixed: Any) -> Maker:
    return Maker(lambda *, shape=(1, 8, 4, 4), **knobs: m.unary(op, shape, **fixed, **knobs), _ANY)


def _reducing(op: str) -> Maker:
    def write(*, axes: Sequence[int] = (1,), shape: Sequence[int] = (1, 16, 8, 8), keepdims: int = 1) -> str:
        return m.reduce(op, axes, shape, keepdims)

    return Maker(write, _OVER, {"": {}, "over space": {"axes": (2, 3)}})


def _single_axis(op: str) -> Maker:
    def write(*, axes: Sequence[int] = (1,), shape: Sequence[int] = (1, 16, 4, 4), **knobs: Any) -> str:
        (axis,) = axes
        return m.arg(op, shape, axis=axis, **knobs) if op.startswith("Arg") else m.unary(op, shape, axis=axis, **knobs)

    return Maker(write, _OVER)


def _resizing() -> Maker:
    def write(*, scales: Sequence[float] = (1, 1, 2, 2), shape: Sequence[int] = (1, 8, 8, 8), **knobs: Any) -> str:
        return m.resize(scales, shape, **knobs)

    dials: dict[str, Dial] = {
        "scale": lambda v: [{"scales": (1, 1, *v)}] if isinstance(v, tuple) else [{"scales": (1, 1, v, v)}],
        "scale.h": lambda v: [{"scales": (1, 1, v, 1)}],
        "scale.w": lambda v: [{"scales": (1, 1, 1, v)}],
        "scale.product": lambda v: [{"scales": (1, 1, *factors(v))}],
        "axes": lambda v: [{"scales": tuple(2 if a == v else 1 for a in range(4))}] if isinstance(v, int) else [],
        "rank": lambda v: [{"scales": (1, 1, *(2,) * (v - 2)), "shape": (1, 8, *(4,) * (v - 2))}],
        "spatial": lambda v: [{"shape": (1, 8, v, v)}],
        "batch": lambda v: [{"shape": (v, 8, 4, 4)}],
    }
    floor = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    bases = {
        "nearest": {"mode": "nearest", **floor},
        "linear": {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
        "linear half_pixel": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
        "linear align_corners": {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    }
    return Maker(write, dials, bases)


def _padding() -> Maker:
    def write(*, axes: Sequence[int] = (2, 3), shape: Sequence[int] = (1, 8, 8, 8), size: int = 1, **knobs: Any) -> str:
        return m.pad([size * (a in axes) for a in range(len(shape))] * 2, shape, **knobs)

    bases: dict[str, Knobs] = {"": {}, "reflect": {"mode": "reflect"}}
    return Maker(write, {**_ANY, "axes": _OVER["axes"], "pads": lambda v: [{"size": v, "shape": (1, 8, v + 2, v + 2)}]}, bases)


def _cutting() -> Maker:
    def write(*, axis: int = 3, step: int = 1, shape: Sequence[int] = (1, 8, 16, 16)) -> str:
        return m.cut((0,), (8,), (axis,), (step,), shape)

    dials: dict[str, Dial] = {
        "axes": lambda v: [{"axis": v}],
        "value.axes": lambda v: [{"axis": v}],
        "value.steps": lambda v: [{"step": v}],
    }
    dials["rank"] = lambda v: [{"shape": (*(1,) * (v - 1), 16), "axis": v - 1}]
    return Maker(write, {**_ANY, **dials, "value.steps.largest": dials["value.steps"]}, {"": {}, "step 2": {"step": 2}})


def _product() -> Maker:
    def write(*, rows: int = 4, length: int = 16, columns: int = 8, held: bool = False, rank: int = 3, batch: int = 1) -> str:
        outer = (batch, *(1,) * (rank - 3)) if rank > 2 else ()
        right = (length, columns) if held else (*outer, length, columns)
        return m.matmul((*outer, rows, length), right, held=held)

    dials: dict[str, Dial] = {
        "reduce_size": lambda v: [{"length": v}],
        "channels_out": lambda v: [{"columns": v}],
        "rank": lambda v: [{"rank": v}],
        "batch": lambda v: [{"batch": v}],
        "constant.B": lambda v: [{"held": v}],
    }
    return Maker(write, dials, {"": {}, "by weights": {"held": True}})


def _joining() -> Maker:
    def write(*, axes: Sequence[int] = (1,), shape: Sequence[int] = (1, 8, 4, 4), parts: int = 2) -> str:
        return m.concat(axes[0], shape, parts)

    return Maker(write, {**_OVER, "inputs": lambda v: [{"parts": v}]})


def _transpose(*, shape: Sequence[int] = (1, 8, 4, 4), perm: Sequence[int] = ()) -> str:
    return m.unary("Transpose", shape, perm=tuple(perm) or tuple(range(len(shape)))[::-1])


def _normalising(op: str) -> Maker:
    return Maker(lambda **knobs: m.normalised(op, **knobs), {"rank": lambda v: [{"shape": (1, 8, *(4,) * (v - 2))}]})


MAKERS: Mapping[str, Maker] = {
    "Conv": Maker(m.conv, _CONV, _PADDED),
    "ConvTranspose": Maker(m.conv_transpose, _CONV),
    "Resize": _resizing(), "Pad": _padding(), "Slice": _cutting(), "MatMul": _product(), "Concat": _joining(),
    "Transpose": Maker(_transpose, {**_ANY, "perm": lambda v: [{"perm": v}]}),
    "Gemm": Maker(m.gemm, {
        "reduce_size": lambda v: [{"width": v}], "channels_out": lambda v: [{"out": v}], "batch": lambda v: [{"rows": v}],
    }),
    "Add": Maker(lambda *, shape=(1, 8, 4, 4): m.binary("Add", shape), _ANY),
    "Reshape": Maker(lambda *, shape=(1, 8, 4, 4), **attrs: m.reshape(shape, (math.prod(shape),), **attrs), _ANY),
    "LRN": Maker(lambda *, size=3: m.unary("LRN", size=size), {}), "LpNormalization": _one("LpNormalization", axis=1),
    "DepthToSpace": _one("DepthToSpace", blocksize=2), "SpaceToDepth": _one("SpaceToDepth", blocksize=2),
    "GridSample": Maker(m.grid_sample, {}), "RoiAlign": Maker(m.roi_align, {}), "CumSum": Maker(m.cumulated, {}),
    "TopK": Maker(lambda: m.graph("y, i = TopK(x, k)", ["float[1,16] x"], ["int64[1] k = {4}"], ["float[] y", "int64[] i"]), {}),
    "Gather": Maker(lambda: m.graph("y = Gather<axis = 1>(x, i)", ["float[1,8,4,4] x"], ["int64[2] i = {0,2}"]), {}),
    "BatchNormalization": _normalising("BatchNormalization"), "InstanceNormalization": _normalising("InstanceNormalization"),
    "GlobalAveragePool": _one("GlobalAveragePool"), "GlobalMaxPool": _one("GlobalMaxPool"),
    **{op: _pooling(op) for op in ("MaxPool", "AveragePool")},
    **{op: _reducing(op) for op in ("ReduceMax", "ReduceMin", "ReduceMean", "ReduceSum", "ReduceProd", "ReduceL1", "ReduceL2")},
    **{op: _single_axis(op) for op in ("ArgMax", "ArgMin", "Softmax", "LogSoftmax")},
    **{op: _one(op) for op in ("Relu", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Exp", "Abs", "Sqrt", "HardSwish")},
}  # fmt: skip
