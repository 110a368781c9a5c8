"""Every word that a device file may use: one number beyond the limit, the nearest that fits, and a graph that does not tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from npu_guard.analysis.analyze import Analysis
from npu_guard.base.errors import UsageError
from npu_guard.checking import registry
from npu_guard.checking.engine import check
from npu_guard.device import CONSEQUENCES, Limit, Profile, requirements
from npu_guard.device.metric import metric
from npu_guard.device.predicate import PREDICATES
from npu_guard.device.vocabulary import METRICS, VIEWS
from npu_guard.project.config import Config
from npu_guard.results.findings import Finding, Number, Outcome, Severity


@dataclass(frozen=True)
class Row:
    """A limit with graphs for and against it. `unsure` is empty where every valid node tells."""

    limit: dict[str, Any]
    code: str
    beyond: str
    measured: Number
    fits: str
    unsure: str = ""


def conv(attributes: str = "", weight: str = "8,8,3,3", x: str = "1,8,32,32") -> str:
    return f"g (float[{x}] x) => (y) <float[{weight}] w> {{ y = Conv{f'<{attributes}>' if attributes else ''}(x, w) }}"


def unknown(attributes: str = "", weight: str = '8,8,"k",3') -> str:
    return f"g (float[1,8,32,32] x, float[{weight}] w) => (y) {{ y = Conv{f'<{attributes}>' if attributes else ''}(x, w) }}"


def unary(call: str, x: str = "1,8,4,4", more: str = "") -> str:
    return f"g (float[{x}] x) => (y) {more} {{ y = {call} }}"


def pool(attributes: str, x: str = "1,8,32,32") -> str:
    return unary(f"MaxPool<{attributes}>(x)", x)


def resize(scales: str, attributes: str = "", x: str = "1,8,4,4") -> str:
    return unary(f"Resize{f'<{attributes}>' if attributes else ''}(x, , s)", x, f"<float[4] s = {{{scales}}}>")


NO_SHAPE = "g (float[] x) => (y) { y = Relu(x) }"
NO_WEIGHT = "g (float[1,8,32,32] x, float[] w) => (y) { y = Conv<group = 2>(x, w) }"
SPLIT = "float[4,4,1,1] w, int64[6] s = {1,4,2,3,2,5}"
RESIZED = "g (float[1,8,4,4] x, float[4] s) => (y) { y = Resize(x, , s) }"
CONV, POOL, RELU = {"ops": ["Conv"]}, {"ops": ["MaxPool"]}, {"ops": ["Relu"]}

ROWS = [
    Row({**CONV, "metric": "kernel", "max": 3}, "NPU201", conv(weight="8,8,1,4"), 4, conv(), unknown()),
    Row({**POOL, "metric": "kernel", "max": 3}, "NPU204", pool("kernel_shape = [4,1]"), 4, pool("kernel_shape = [3,3]")),
    Row(
        {"ops": ["GlobalAveragePool"], "metric": "kernel.product", "max": 16},
        "NPU204",
        unary("GlobalAveragePool(x)", "1,8,1,17"),
        17,
        unary("GlobalAveragePool(x)"),
        unary("GlobalAveragePool(x)", '1,8,4,"W"'),
    ),
    Row({**CONV, "metric": "kernel.h", "max": 3}, "NPU201", conv(weight="8,8,4,1"), 4, conv(weight="8,8,1,9"), unknown()),
    Row(
        {**CONV, "metric": "kernel.w", "is": 1},
        "NPU201",
        conv(weight="8,8,1,2"),
        2,
        conv(weight="8,8,9,1"),
        unknown(weight='8,8,3,"k"'),
    ),
    Row({**CONV, "metric": "kernel.smallest", "min": 2}, "NPU201", conv(weight="8,8,1,4"), 1, conv(weight="8,8,2,2"), unknown()),
    Row({**CONV, "metric": "kernel", "equal": True}, "NPU201", conv(weight="8,8,1,3"), "1x3", conv(), unknown()),
    Row(
        {**CONV, "metric": "kernel.product * channels_in / 16", "max": 18},
        "NPU201",
        conv(weight="8,33,3,3", x="1,33,8,8"),
        27,
        conv(weight="8,32,3,3", x="1,32,8,8"),
        unknown(),
    ),
    Row(
        {**CONV, "metric": "dilated_kernel", "max": 5},
        "NPU202",
        conv("dilations = [3,1]"),
        7,
        conv("dilations = [2,2]"),
        unknown(),
    ),
    Row({**CONV, "metric": "stride", "in": [1, 2]}, "NPU203", conv("strides = [1,3]"), 3, conv("strides = [1,2]")),
    Row({**CONV, "metric": "stride", "in": [[1, 2]]}, "NPU203", conv("strides = [2,1]"), "2x1", conv("strides = [1,2]")),
    Row({**CONV, "metric": "stride", "not_in": [3]}, "NPU203", conv("strides = [3,1]"), 3, conv("strides = [4,2]")),
    Row(
        {**POOL, "metric": "stride", "max": "kernel"},
        "NPU203",
        pool("kernel_shape = [2,3], strides = [3,3]"),
        3,
        pool("kernel_shape = [3,3], strides = [3,3]"),
    ),
    Row({**CONV, "metric": "dilation", "power_of_two": True}, "NPU202", conv("dilations = [1,3]"), 3, conv("dilations = [1,4]")),
    Row(
        {**CONV, "metric": "pads", "below": "kernel"},
        "NPU205",
        conv("pads = [0,0,0,3]"),
        3,
        conv("pads = [2,2,2,2]"),
        unknown("pads = [1,1,1,1]"),
    ),
    Row(
        {**CONV, "metric": "pads.begin", "max": 1},
        "NPU205",
        conv("pads = [2,0,0,0]"),
        2,
        conv("pads = [1,1,3,3]"),
        unknown('auto_pad = "SAME_UPPER"'),
    ),
    Row(
        {**CONV, "metric": "pads.end", "max": 1},
        "NPU205",
        conv('auto_pad = "SAME_UPPER"', "8,8,4,1"),
        2,
        conv('auto_pad = "SAME_LOWER"', "8,8,4,1"),
        unknown('auto_pad = "SAME_UPPER"'),
    ),
    Row(
        {"ops": ["Pad"], "metric": "pads", "max": 1},
        "NPU205",
        unary("Pad(x, p)", more="<int64[8] p = {0,0,0,0,0,0,0,2}>"),
        2,
        unary("Pad(x, p)", more="<int64[8] p = {0,0,1,1,0,0,1,1}>"),
        "g (float[1,8,4,4] x, int64[8] p) => (y) { y = Pad(x, p) }",
    ),
    Row({**CONV, "metric": "group", "max": 2}, "NPU206", conv("group = 4", "8,2,3,3"), 4, conv("group = 2", "8,4,3,3")),
    Row(
        {**CONV, "metric": "group_channels", "multiple_of": 4},
        "NPU206",
        conv("group = 4", "16,2,3,3"),
        2,
        conv("group = 2", "8,4,3,3"),
        NO_WEIGHT,
    ),
    Row(
        {**CONV, "metric": "filter_channels", "max": 4},
        "NPU206",
        conv(),
        8,
        conv("group = 2", "8,4,3,3"),
        unknown(weight='8,"c",3,3'),
    ),
    Row(
        {**CONV, "metric": "depthwise", "is": False},
        "NPU206",
        conv("group = 8", "8,1,3,3"),
        "yes",
        conv("group = 4", "8,2,3,3"),
        unknown("group = 8", '8,"c",3,3'),
    ),
    Row(
        {**CONV, "metric": "grouped", "is": False},
        "NPU206",
        conv("group = 4", "8,2,3,3"),
        "yes",
        conv("group = 8", "8,1,3,3"),
        unknown("group = 8", '8,"c",3,3'),
    ),
    Row({**CONV, "metric": "pointwise", "is": True}, "NPU201", conv(weight="8,8,1,2"), "no", conv(weight="8,8,1,1"), unknown()),
    Row({**CONV, "metric": "dilated", "is": False}, "NPU202", conv("dilations = [1,2]"), "yes", conv()),
    Row(
        {**CONV, "metric": "padded", "is": False},
        "NPU205",
        conv("pads = [0,0,0,1]"),
        "yes",
        conv('auto_pad = "VALID"'),
        unknown('auto_pad = "SAME_UPPER"'),
    ),
    Row({**CONV, "metric": "channels", "max": 8}, "NPU405", conv(weight="9,8,3,3"), 9, conv(), NO_WEIGHT),
    Row(
        {**CONV, "metric": "channels_in", "multiple_of": 8},
        "NPU401",
        conv(weight="8,9,3,3", x="1,9,8,8"),
        9,
        conv(),
        unknown(weight='8,"c",3,3'),
    ),
    Row({**CONV, "metric": "channels_out", "max": 8}, "NPU405", conv(weight="9,8,3,3"), 9, conv(), NO_WEIGHT),
    Row({**CONV, "metric": "spatial.w", "max": 32}, "NPU405", conv(x="1,8,8,33"), 33, conv(x="1,8,33,32"), conv(x='1,8,8,"W"')),
    Row(
        {**CONV, "metric": "output_spatial.h", "max": 30},
        "NPU405",
        conv(x="1,8,33,8"),
        31,
        conv(x="1,8,32,99"),
        conv(x='1,8,"H",8'),
    ),
    Row(
        {**CONV, "metric": "spatial", "multiple_of": "dilation"},
        "NPU405",
        conv("dilations = [1,3]"),
        32,
        conv("dilations = [2,4]"),
        conv("dilations = [2,2]", x='1,8,32,"W"'),
    ),
    Row(
        {**CONV, "metric": "batch", "max": 1},
        "NPU405",
        conv(x="2,8,8,8"),
        2,
        conv(x='"N",8,8,8'),
        NO_SHAPE.replace("Relu(x)", "Conv(x, x)"),
    ),
    Row(
        {**RELU, "metric": "extent", "max": 4},
        "NPU405",
        unary("Relu(x)", "9,4,5"),
        5,
        unary("Relu(x)", "9,4,4"),
        unary("Relu(x)", '1,4,"W"'),
    ),
    Row(
        {"ops": ["MatMul"], "metric": "extent.B", "max": 4},
        "NPU405",
        "g (float[9,9] a, float[9,4] b) => (y) { y = MatMul(a, b) }",
        9,
        "g (float[9,4] a, float[4,4] b) => (y) { y = MatMul(a, b) }",
        'g (float[9,4] a, float[4,"n"] b) => (y) { y = MatMul(a, b) }',
    ),
    Row(
        {**RELU, "metric": "elements", "max": 16},
        "NPU405",
        unary("Relu(x)", "3,17"),
        17,
        unary("Relu(x)", "3,16"),
        unary("Relu(x)", '1,4,"W"'),
    ),
    Row(
        {"ops": ["PRelu"], "metric": "elements.slope", "is": 1},
        "NPU405",
        "g (float[1,8,4,4] x) => (y) <float[8,1,1] s> { y = PRelu(x, s) }",
        8,
        "g (float[1,8,4,4] x) => (y) <float[1] s> { y = PRelu(x, s) }",
        'g (float[1,8,4,4] x, float[1,"C",1,1] s) => (y) { y = PRelu(x, s) }',
    ),
    Row({**RELU, "metric": "rank", "max": 4}, "NPU402", unary("Relu(x)", "1,1,1,1,1"), 5, unary("Relu(x)"), NO_SHAPE),
    Row(
        {"ops": ["Gather"], "metric": "rank.indices", "is": 1},
        "NPU402",
        unary("Gather<axis = 1>(x, i)", more="<int64[1,2] i = {0, 1}>"),
        2,
        unary("Gather<axis = 1>(x, i)", more="<int64[2] i = {0, 1}>"),
        "g (float[1,8,4,4] x, int64[] i) => (y) { y = Gather(x, i) }",
    ),
    Row(
        {"ops": ["Unsqueeze"], "metric": "output_rank", "max": 4},
        "NPU402",
        unary("Unsqueeze(x, a)", more="<int64[1] a = {0}>"),
        5,
        unary("Unsqueeze(x, a)", "8,4,4", "<int64[1] a = {0}>"),
        "g (float[] x) => (y) <int64[1] a = {0}> { y = Unsqueeze(x, a) }",
    ),
    Row(
        {**RELU, "metric": "nonsingleton_rank", "max": 3},
        "NPU402",
        unary("Relu(x)", "2,8,4,4"),
        4,
        unary("Relu(x)", "1,8,4,1,4"),
        unary("Relu(x)", '2,8,4,"W"'),
    ),
    Row(
        {**RELU, "metric": "dtype", "in": ["float32"]},
        "NPU404",
        "g (double[1,8] x) => (y) { y = Relu(x) }",
        "float64",
        unary("Relu(x)"),
        "g (float[1,8] x) => (y) { z = com.example.Op(x)  y = Relu(z) }",
    ),
    Row(
        {"ops": ["ReduceMax"], "metric": "reduce_size", "max": 8},
        "NPU302",
        unary("ReduceMax(x, a)", "1,9,4,4", "<int64[1] a = {1}>"),
        9,
        unary("ReduceMax(x, a)", "1,8,9,9", "<int64[1] a = {1}>"),
        unary("ReduceMax(x, a)", '1,"C",4,4', "<int64[1] a = {1}>"),
    ),
    Row(
        {"ops": ["MatMul"], "metric": "reduce_size", "max": 8},
        "NPU405",
        "g (float[4,9] a, float[9,4] b) => (y) { y = MatMul(a, b) }",
        9,
        "g (float[9,8] a, float[8,9] b) => (y) { y = MatMul(a, b) }",
        'g (float[4,"k"] a, float[] b) => (y) { y = MatMul(a, b) }',
    ),
    Row(
        {"ops": ["ReduceMean"], "metric": "axes", "in": [[2, 3], [1]]},
        "NPU301",
        unary("ReduceMean(x, a)", more="<int64[2] a = {1, -1}>"),
        "1, 3",
        unary("ReduceMean(x, a)", more="<int64[2] a = {-1, 2}>"),
        "g (float[1,8,4,4] x, int64[1] a) => (y) { y = ReduceMean(x, a) }",
    ),
    Row(
        {"ops": ["ReduceMax"], "metric": "axes.count", "is": 1},
        "NPU301",
        unary("ReduceMax(x, a)", more="<int64[2] a = {1, 2}>"),
        2,
        unary("ReduceMax(x, a)", more="<int64[1] a = {2}>"),
        "g (float[1,8,4,4] x, int64[1] a) => (y) { y = ReduceMax(x, a) }",
    ),
    Row(
        {"ops": ["Concat"], "metric": "axes", "in": [-3]},
        "NPU702",
        unary("Concat<axis = 2>(x, x)"),
        2,
        unary("Concat<axis = 1>(x, x)"),
        "g (float[] x) => (y) { y = Concat<axis = 1>(x, x) }",
    ),
    Row(
        {"ops": ["Slice"], "metric": "axes", "not_in": [0]},
        "NPU702",
        unary("Slice(x, s, e, a)", "2,8,4,4", "<int64[1] s = {0}, int64[1] e = {1}, int64[1] a = {0}>"),
        0,
        unary("Slice(x, s, e, a)", "2,8,4,4", "<int64[1] s = {0}, int64[1] e = {1}, int64[1] a = {1}>"),
        "g (float[2,8,4,4] x, int64[1] s, int64[1] e) => (y) { y = Slice(x, s, e) }",
    ),
    Row(
        {"ops": ["Pad"], "metric": "axes", "in": [-1, -2]},
        "NPU702",
        unary("Pad(x, p)", more="<int64[8] p = {0,1,0,0,0,0,0,0}>"),
        1,
        unary("Pad(x, p)", more="<int64[8] p = {0,0,1,1,0,0,1,1}>"),
        "g (float[1,8,4,4] x, int64[8] p) => (y) { y = Pad(x, p) }",
    ),
    Row(
        {"ops": ["Resize"], "metric": "axes", "not_in": [0, 1]},
        "NPU501",
        resize("1.0, 2.0, 2.0, 2.0"),
        1,
        resize("1.0, 1.0, 2.0, 2.0"),
        RESIZED,
    ),
    Row(
        {"ops": ["LayerNormalization"], "metric": "axes", "in": [-1]},
        "NPU702",
        "g (float[1,8,4,4] x) => (y) <float[4,4] s> { y = LayerNormalization<axis = 2>(x, s) }",
        2,
        "g (float[1,8,4,4] x) => (y) <float[4] s> { y = LayerNormalization(x, s) }",
        "g (float[] x) => (y) <float[4] s> { y = LayerNormalization(x, s) }",
    ),
    Row(
        {"ops": ["LayerNormalization"], "metric": "axes", "in": [-1]},
        "NPU702",
        "g (float[1,8,4,4] x) => (y) <int64[1] w = {3}, float[8,4] s>"
        " { v = ReduceMean<keepdims = 0>(x, w) y = LayerNormalization<axis = 1>(v, s) }",
        1,
        "g (float[1,8,4,4] x) => (y) <int64[2] w = {2, 3}, float[8] s>"
        " { v = ReduceMean<keepdims = 0>(x, w) y = LayerNormalization(v, s) }",
        "g (float[] x) => (y) <float[4] s> { y = LayerNormalization<axis = 1>(x, s) }",
    ),
    Row(
        {"ops": ["Transpose"], "metric": "perm", "in": [[0, 2, 3, 1]]},
        "NPU702",
        unary("Transpose<perm = [0,3,1,2]>(x)"),
        "0, 3, 1, 2",
        unary("Transpose<perm = [0,2,3,1]>(x)"),
        "g (float[] x) => (y) { y = Transpose(x) }",
    ),
    Row(
        {"ops": ["Split"], "metric": "parts", "equal": True},
        "NPU702",
        "g (float[1,8,4] x) => (y, z) <int64[2] s = {3, 5}> { y, z = Split<axis = 1>(x, s) }",
        "3, 5",
        "g (float[1,8,4] x) => (y, z) <int64[2] s = {4, 4}> { y, z = Split<axis = 1>(x, s) }",
        "g (float[1,8,4] x, int64[2] s) => (y, z) { y, z = Split<axis = 1>(x, s) }",
    ),
    Row(
        {"ops": ["Resize"], "metric": "scale", "max": 2},
        "NPU501",
        resize("1.0, 1.0, 2.0, 2.5"),
        "2x2.5",
        resize("1.0, 1.0, 2.0, 0.5"),
        RESIZED,
    ),
    Row(
        {"ops": ["Resize"], "metric": "scale", "integer": True},
        "NPU501",
        resize("1.0, 1.0, 2.0, 2.5"),
        "2x2.5",
        resize("1.0, 1.0, 2.0, 3.0"),
        RESIZED,
    ),
    Row(
        {"ops": ["Resize"], "metric": "scale.largest", "max": 4},
        "NPU501",
        resize("1.0, 1.0, 2.0, 5.0"),
        "5",
        resize("1.0, 1.0, 4.0, 1.0"),
        RESIZED,
    ),
    Row(
        {"ops": ["Resize"], "metric": "shrinking", "integer": True},
        "NPU501",
        resize("1.0, 1.0, 0.5, 0.3"),
        "2x3.333",
        resize("1.0, 1.0, 0.5, 0.25"),
        RESIZED,
    ),
    Row(
        {"ops": ["Conv"], "constant": ["B"]},
        "NPU601",
        "g (float[1,8,4,4] x, float[8] b) => (y) <float[8,8,1,1] w> { y = Conv(x, w, b) }",
        "no",
        conv(),
        "g (float[1,8,4,4] x, float[8] b = {1,1,1,1,1,1,1,1}) => (y) <float[8,8,1,1] w> { y = Conv(x, w, b) }",
    ),
    Row(
        {**CONV, "metric": "kernel.two_largest", "max": 8},
        "NPU201",
        conv(weight="8,8,3,3"),
        9,
        conv(weight="8,8,2,4"),
        unknown(),
    ),
    Row(
        {**RELU, "metric": "quantized", "not_in": ["int8"]},
        "NPU404",
        "g (float[8] x, float s, int8 z) => (y) { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Relu(d) }",
        "int8",
        "g (float[8] x, float s, uint8 z) => (y) { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Relu(d) }",
    ),
    Row(
        {**RELU, "metric": "leaves", "is": False},
        "NPU701",
        unary("Relu(x)"),
        "yes",
        "g (float[1,8] x) => (y) { r = Relu(x) y = Abs(r) }",
    ),
    Row(
        {**RELU, "metric": "leaves_as_is", "is": False},
        "NPU701",
        "g (float[1,8] x) => (y) { r = Relu(x) a = Softmax(r) y = Neg(a) }",
        "yes",
        "g (float[1,8] x) => (y) { r = Relu(x) y = ReduceMean(r) }",
    ),
    Row(
        {**RELU, "metric": "enters", "is": False},
        "NPU701",
        unary("Relu(x)"),
        "yes",
        "g (float[1,8] x) => (y) { a = Abs(x) y = Relu(a) }",
    ),
    Row(
        {**RELU, "metric": "shared", "is": False},
        "NPU701",
        "g (float[1,8] x) => (y, z) { a = Abs(x) y = Relu(a) z = Neg(a) }",
        "yes",
        "g (float[1,8] x) => (y) { a = Abs(x) y = Relu(a) }",
    ),
    Row(
        {"ops": ["LayerNormalization"], "metric": "written.epsilon", "is": True},
        "NPU701",
        unary("LayerNormalization(x, s)", "1,4,8", "<float[8] s = {1,1,1,1,1,1,1,1}>"),
        "no",
        unary("LayerNormalization<epsilon = 0.00001>(x, s)", "1,4,8", "<float[8] s = {1,1,1,1,1,1,1,1}>"),
    ),
    Row(
        {"ops": ["Expand"], "metric": "output_batch", "max": "batch"},
        "NPU405",
        unary("Expand(x, s)", "1,8,4", "<int64[3] s = {3,8,4}>"),
        3,
        unary("Expand(x, s)", "1,1,4", "<int64[3] s = {1,8,4}>"),
    ),
    Row(
        {"ops": ["Resize"], "metric": "corner_scale", "integer": True},
        "NPU501",
        unary("Resize(x, , , s)", "1,8,12,16", "<int64[4] s = {1, 8, 24, 31}>"),
        "2.091x2",
        unary("Resize(x, , , s)", "1,8,12,16", "<int64[4] s = {1, 8, 23, 31}>"),  # 22 / 11 and 30 / 15
    ),
    Row(
        {"ops": ["Max"], "metric": "elements.data_1", "min": 2},
        "NPU405",
        unary("Max(x, m)", more="<float m = {5.0}>"),
        1,
        unary("Max(x, m)", more="<float[8,1,1] m = {1,2,3,4,5,6,7,8}>"),
    ),
    Row(
        {"ops": ["Resize"], "metric": "given.sizes", "is": False},
        "NPU701",
        unary("Resize(x, , , s)", "1,8,4,4", "<int64[4] s = {1, 8, 8, 8}>"),
        "yes",
        "g (float[1,8,4,4] x) => (y) <float[4] s = {1, 1, 2, 2}, int64[0] n = {}> { y = Resize(x, , s) }",
    ),
    Row(
        {"ops": ["Clip"], "metric": "value.max", "in": [1, 6]},
        "NPU701",
        unary("Clip(x, , m)", more="<float m = {5.0}>"),
        "5",
        unary("Clip(x, , m)", more="<float m = {6.0}>"),
        "g (float[1,8] x, float m) => (y) { y = Clip(x, , m) }",
    ),
    Row(
        {"ops": ["Resize"], "metric": "attr.mode", "is": "nearest"},
        "NPU501",
        resize("1.0, 1.0, 2.0, 2.0", 'mode = "linear"'),
        "linear",
        resize("1.0, 1.0, 2.0, 2.0"),
    ),
    Row(
        {"ops": ["Flatten"], "metric": "attr.axis", "is": 1},
        "NPU701",
        unary("Flatten<axis = -2>(x)"),
        2,
        unary("Flatten<axis = -3>(x)"),
    ),
    Row(
        {"ops": ["Elu", "Softmax"], "metric": "attr.axis", "is": -1},
        "NPU701",
        unary("Softmax<axis = 1>(x)"),
        1,
        unary("Softmax(x)"),
    ),
    Row(
        {"ops": ["Pad"], "metric": "attr.mode", "is": "constant"},
        "NPU205",
        unary('Pad<mode = "reflect">(x, p)', more="<int64[8] p = {0,0,1,1,0,0,1,1}>"),
        "reflect",
        unary("Pad(x, p)", more="<int64[8] p = {0,0,1,1,0,0,1,1}>"),
    ),
    Row(
        {**POOL, "metric": "attr.ceil_mode", "is": 0},
        "NPU701",
        pool("kernel_shape = [2,2], strides = [2,2], ceil_mode = 1", "1,8,33,33"),
        1,
        pool("kernel_shape = [2,2]"),
    ),
    Row({"ops": ["Add", "Max"], "metric": "inputs", "max": 2}, "NPU701", unary("Max(x, x, x)"), 3, unary("Max(x, x)")),
    Row(
        {"ops": ["PRelu"], "metric": "varies.slope", "is": 1},
        "NPU701",
        unary("PRelu(x, s)", more="<float[1,4,1] s>"),
        2,
        unary("PRelu(x, s)", more="<float[8,1,1] s>"),
    ),
    Row(
        {"ops": ["Einsum"], "metric": "equation", "in": ["abc,adc->abd", "ab,bc->ac"]},
        "NPU701",
        'g (float[2,3,4] x, float[2,4,5] z) => (y) { y = Einsum<equation = "hid,hdj->hij">(x, z) }',
        "abc,acd->abd",
        'g (float[2,3,4] x, float[2,5,4] z) => (y) { y = Einsum<equation = "...id, ...jd -> ...ij">(x, z) }',
        'g (float[] x, float[2,5,4] z) => (y) { y = Einsum<equation = "...id,...jd->...ij">(x, z) }',
    ),
    Row(
        {"ops": ["Transpose"], "metric": "kept_units", "min": 1},
        "NPU702",
        unary("Transpose<perm = [1,0,2,3]>(x)"),
        0,
        unary("Transpose<perm = [0,2,1,3]>(x)"),
        'g (float[2,"h",4] x) => (y) { y = Transpose<perm = [2,1,0]>(x) }',
    ),
    Row(
        {"ops": ["Transpose"], "metric": "perm_in_memory", "in": [[0, 4, 2, 1, 3, 5], [0, 1, 2, 3, 5, 4], [0, 2, 1]]},
        "NPU702",
        # In memory the axes of a convolution's result lie in the order 0, 2, 3, 4, 5, 1: rows, columns, channels.
        f"g (float[1,4,6,10] x) => (y) <{SPLIT}> {{ c = Conv(x, w) r = Reshape(c, s) y = Transpose<perm = [0,1,3,5,2,4]>(r) }}",
        "0, 5, 2, 4, 1, 3",
        f"g (float[1,4,6,10] x) => (y) <{SPLIT}> {{ c = Conv(x, w) a = Relu(c) b = Add(x, a) p = Concat<axis = 1>(b) "
        "r = Reshape(p, s) y = Transpose<perm = [0,5,3,2,4,1]>(r) }",
        f'g (float[1,4,"h",10] x) => (y) <{SPLIT}> {{ c = Conv(x, w) r = Reshape(c, s) y = Transpose<perm = [0,1,3,5,2,4]>(r) }}',
    ),
    Row(
        {"ops": ["Transpose"], "metric": "perm_in_memory", "in": [[0, 1, 2, 3, 5, 4]]},
        "NPU702",
        # Of an input of the model the permutation counts as it stands; so it does where one part comes from no convolution.
        f"g (float[1,4,6,10] x) => (y) <{SPLIT}> {{ a = Relu(x) r = Reshape(a, s) y = Transpose<perm = [0,5,3,2,4,1]>(r) }}",
        "0, 5, 3, 2, 4, 1",
        "g (float[1,4,6,10] x, float[1,2,6,10] z) => (y) <float[2,4,1,1] w, int64[6] s = {1,4,2,3,2,5}> { c = Conv(x, w) "
        "p = Concat<axis = 1>(c, z) r = Reshape(p, s) y = Transpose<perm = [0,1,2,3,5,4]>(r) }",
    ),
    Row(
        {"ops": ["Gather"], "metric": "tiles", "is": True},
        "NPU701",
        unary("Gather<axis = -1>(x, i)", more="<int64[2,3] i = {0,1,2,1,2,3}>"),
        "no",
        unary("Gather<axis = -1>(x, i)", "1,8,4,6", more="<int64[2,3] i = {0,2,4,1,3,5}>"),
        "g (float[1,8,4,6] x, int64[2,3] i) => (y) { y = Gather<axis = 3>(x, i) }",
    ),
    Row(
        {"ops": ["Slice"], "metric": "strided_axes", "in": [2, 3]},
        "NPU701",
        unary("Slice(x, b, e, , s)", more="<int64[2] b = {0,0}, int64[2] e = {1,8}, int64[2] s = {1,2}>"),
        1,
        unary("Slice(x, b, e, a, s)", more="<int64[2] b = {0,0}, int64[2] e = {4,4}, int64[2] a = {1,-1}, int64[2] s = {1,2}>"),
        "g (float[1,8,4,4] x, int64[1] s) => (y) <int64[1] b = {0}, int64[1] e = {8}> { y = Slice(x, b, e, , s) }",
    ),
    Row(
        {"ops": ["Slice"], "metric": "kept", "max": 1},
        "NPU701",
        unary("Slice(x, b, e, a)", more="<int64[2] b = {1,0}, int64[2] e = {2,3}, int64[2] a = {2,-1}>"),
        3,
        unary("Slice(x, b, e, a)", more="<int64[2] b = {1,0}, int64[2] e = {2,8}, int64[2] a = {2,1}>"),
        "g (float[1,8,4,4] x, int64[1] e) => (y) <int64[1] b = {0}, int64[1] a = {2}> { y = Slice(x, b, e, a) }",
    ),
    Row(
        {"ops": ["Pad"], "metric": "channel_pads.begin", "is": 0},
        "NPU205",
        unary("Pad(x, p)", more="<int64[8] p = {0,2,1,1,0,0,1,1}>"),
        2,
        unary("Pad(x, p)", more="<int64[8] p = {0,0,1,1,0,3,1,1}>"),
        "g (float[1,8,4,4] x, int64[8] p) => (y) { y = Pad(x, p) }",
    ),
    Row(
        {**POOL, "metric": "outputs", "is": 1},
        "NPU701",
        "g (float[1,8,8,8] x) => (y, i) { y, i = MaxPool<kernel_shape = [2,2]>(x) }",
        2,
        pool("kernel_shape = [2,2]"),
    ),
]


def ask(graph: str, limit: dict[str, Any], analysis: Callable[..., Analysis]) -> list[Finding]:
    profile = Profile("test", "Test", "test", (), {}, {}, {}, requirements("test", limit, "test"))
    checked = check(analysis(graph), profile, registry.rules(), Config())
    assert not checked.crashes
    return [f for f in checked.findings if f.rule != "NPU101"]


def row_id(row: Row) -> str:
    return f"{row.limit['ops'][0]}-{row.limit.get('metric', 'constant')}".replace(" ", "")


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_beyond_the_limit(row: Row, analysis: Callable[..., Analysis]) -> None:
    (found,) = ask(row.beyond, row.limit, analysis)
    assert (found.rule, found.outcome, found.severity) == (row.code, Outcome.FAIL, Severity.ERROR)
    assert found.evidence is not None
    assert found.evidence.measured == row.measured
    assert "it does not compile" in found.message


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_nearest_that_fits(row: Row, analysis: Callable[..., Analysis]) -> None:
    assert ask(row.fits, row.limit, analysis) == []


@pytest.mark.parametrize("row", [row for row in ROWS if row.unsure], ids=row_id)
def test_a_graph_that_does_not_tell(row: Row, analysis: Callable[..., Analysis]) -> None:
    found = ask(row.unsure, row.limit, analysis)
    assert [(f.rule, f.outcome) for f in found] == [(row.code, Outcome.UNDECIDED)]
    assert len(found[0].message) > len("cannot tell: ")


def test_every_word_has_a_row() -> None:
    used = {row.limit.get("metric", "constant").split()[0] for row in ROWS}
    assert {name.split(".")[0] for name in used} == set(METRICS)
    assert {name.split(".")[1] for name in used if "." in name} >= set(VIEWS)
    assert {key for row in ROWS for key in row.limit} >= set(PREDICATES)


# --- guards, alternatives, consequences ---

SMALL, LARGE = conv("strides = [2,2]"), conv("strides = [2,2]", "8,8,5,5")


def test_a_guard(analysis: Callable[..., Analysis]) -> None:
    limit = {**CONV, "when": {"stride": 2}, "metric": "kernel", "max": 3}
    assert ask(SMALL, limit, analysis) == []
    assert ask(conv(weight="8,8,5,5"), limit, analysis) == []
    (found,) = ask(LARGE, limit, analysis)
    assert found.message == "kernel 5x5 is more than 3 (where stride = 2); it does not compile"


def test_a_guard_that_does_not_tell(analysis: Callable[..., Analysis]) -> None:
    limit = {**CONV, "when": {"spatial": {"w": {"max": 16}}}, "metric": "kernel", "max": 3}
    assert ask(conv(x='1,8,32,"W"'), limit, analysis) == []  # fits, whatever the width is
    assert [f.outcome for f in ask(conv(weight="8,8,5,5", x='1,8,32,"W"'), limit, analysis)] == [Outcome.UNDECIDED]
    assert ask(conv(weight="8,8,5,5", x="1,8,32,17"), limit, analysis) == []


def test_alternatives(analysis: Callable[..., Analysis]) -> None:
    limit = {**CONV, "metric": "kernel", "any_of": [{"kernel": 3}, {"kernel": 5, "stride": 2}]}
    assert ask(conv(), limit, analysis) == ask(LARGE, limit, analysis) == []
    (found,) = ask(conv(weight="8,8,5,5"), limit, analysis)
    assert found.evidence is not None
    assert (found.evidence.measured, found.evidence.allowed) == ("5x5", "kernel = 3; or kernel = 5 and stride = 2")
    assert [f.outcome for f in ask(unknown("strides = [2,2]", '8,8,"k","k"'), limit, analysis)] == [Outcome.UNDECIDED]
    assert ask(conv(weight="8,8,3,3", x='1,8,"H","W"'), limit, analysis) == []


@pytest.mark.parametrize("consequence", CONSEQUENCES)
def test_consequences(consequence: str, analysis: Callable[..., Analysis]) -> None:
    words, severity = CONSEQUENCES[consequence]
    limit = {**CONV, "metric": "kernel", "max": 3, "consequence": consequence}
    (found,) = ask(LARGE, limit, analysis)
    assert found.severity is severity
    assert found.message.endswith(words)
    (unsure,) = ask(unknown(), limit, analysis)
    assert (unsure.outcome, unsure.severity) == (Outcome.UNDECIDED, severity)


def test_what_is_uncertain_is_no_error(analysis: Callable[..., Analysis]) -> None:
    (found,) = ask(LARGE, {**CONV, "metric": "kernel", "max": 3, "certainty": "uncertain"}, analysis)
    assert found.severity is Severity.WARNING
    assert found.message.endswith("(uncertain)")


@pytest.mark.parametrize("metric", ["attr.mode", "attr.mode.largest", "attr.mode / 2"])
def test_a_bound_that_a_word_cannot_have(metric: str, analysis: Callable[..., Analysis]) -> None:
    (found,) = ask(resize("1.0, 1.0, 2.0, 2.0"), {"ops": ["Resize"], "metric": metric, "max": 3}, analysis)
    assert found.outcome is Outcome.UNDECIDED


@pytest.mark.parametrize("bound", ["integer", "power_of_two"])
def test_a_number_that_is_not_finite(bound: str, analysis: Callable[..., Analysis]) -> None:
    graph = "g (float[1,8] x) => (y) <float l = {0}> { m = Constant<value_float = inf>()  y = Clip(x, l, m) }"
    (found,) = ask(graph, {"ops": ["Clip"], "metric": "value.max", bound: True}, analysis)
    assert found.outcome is Outcome.UNDECIDED


def test_long_lists_are_cut(analysis: Callable[..., Analysis]) -> None:
    graph = "g (float[64,4] x) => (y) <int64[40] i = {" + ", ".join(map(str, range(40))) + "}> { y = Gather(x, i) }"
    (found,) = ask(graph, {"ops": ["Gather"], "metric": "value.indices", "max": 3}, analysis)
    assert found.evidence is not None
    assert found.evidence.measured == 39
    assert len(found.message) < 120


def test_keys_have_consequences_too(analysis: Callable[..., Analysis]) -> None:
    for limit, severity, words in (
        (Limit("conv.kernel_max", 3, "test"), Severity.ERROR, "kernel 5x5 is longer than 3"),
        (Limit("conv.kernel_max", 3, "test", "", "slow"), Severity.WARNING, "kernel 5x5 is longer than 3; it is slow"),
        (Limit("conv.kernel_max", 3, "test", "", "", False), Severity.WARNING, "kernel 5x5 is longer than 3 (uncertain)"),
    ):
        profile = Profile("test", "Test", "test", (), {limit.key: limit}, {}, {})
        (found,) = check(analysis(LARGE), profile, registry.rules(), Config()).findings
        assert (found.severity, found.message) == (severity, words)


def test_projects_set_severities(analysis: Callable[..., Analysis]) -> None:
    limit = {**CONV, "metric": "kernel", "max": 3, "consequence": "decomposed"}
    profile = Profile("test", "Test", "test", (), {}, {}, {}, requirements("test", limit, "test"))
    checked = check(analysis(LARGE), profile, registry.rules(), Config(severity={"NPU201": Severity.ERROR}))
    assert [f.severity for f in checked.findings] == [Severity.ERROR]
    assert checked.blocked


def test_what_is_not_selected_is_not_asked(analysis: Callable[..., Analysis]) -> None:
    limit = {**CONV, "metric": "kernel", "max": 3}
    profile = Profile("test", "Test", "test", (), {}, {}, {}, requirements("test", limit, "test"))
    checked = check(analysis(LARGE), profile, registry.rules(), Config(ignore=("NPU201",)))
    assert checked.findings == ()
    assert "NPU201" not in checked.asked


@pytest.mark.parametrize("name", [name for name, base in METRICS.items() if base.named in ("input", "attribute")])
def test_a_metric_that_needs_a_name_says_so_with_an_example(name: str) -> None:
    with pytest.raises(UsageError, match=rf"needs the name of an (input|attribute), as in '{name}\.\w+'"):
        metric(name)
