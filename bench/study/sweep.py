"""The operators that every compiler is asked about, whatever the profile says: where limits usually are, and past them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import single as m
import sweep_rest as r
from single import Case, by, titled

SQUARES = (1, 2, 3, 5, 7, 9, 11, 15, 17, 31, 32)
LINES = (16, 33, 64, 65)
STRIDES = (2, 3, 4, 5, 7, 8, 9, 16)
DILATIONS = (2, 3, 8, 16, 31, 32)


def cases() -> tuple[Case, ...]:
    """All of them, in a fixed order; keys are unique."""
    first = (_conv, _conv_transpose, _pools, _global_pools, _reductions)
    rest = (r.elementwise, r.softmax, r.resize, r.layout, r.products, r.tensors, r.other)
    found = tuple(itertools.chain.from_iterable(part() for part in (*first, *rest)))
    assert len({c.key for c in found}) == len(found), "two cases with one key"
    return found


def _conv() -> Iterator[Case]:
    for k in SQUARES:
        yield titled("Conv kernel", by((k, k)), m.conv((k, k)))
        yield titled("Conv depthwise kernel", by((k, k)), m.depthwise((k, k)))
    for k in LINES:
        yield titled("Conv kernel", by((k, 1)), m.conv((k, 1)))
        yield titled("Conv kernel", by((1, k)), m.conv((1, k)))
        yield titled("Conv depthwise kernel", by((k, 1)), m.depthwise((k, 1)))
    yield titled("Conv kernel", "33x3", m.conv((33, 3)))
    for s in STRIDES:
        yield titled("Conv stride", by((s, s)), m.conv(stride=(s, s), space=(32, 32)))
        yield titled("Conv stride", f"{s}x{s} unpadded", m.conv(stride=(s, s), pads=(0, 0, 0, 0), space=(2 * s + 3, 2 * s + 3)))
        yield titled("Conv depthwise stride", by((s, s)), m.depthwise(stride=(s, s), space=(32, 32)))
    for s in ((1, 2), (2, 1), (1, 4), (4, 1)):
        yield titled("Conv stride", by(s), m.conv(stride=s, space=(32, 32)))
    for d in DILATIONS:
        yield titled("Conv dilation", str(d), m.conv(dilation=(d, d)))
        yield titled("Conv depthwise dilation", str(d), m.depthwise(dilation=(d, d)))
    yield titled("Conv dilation", "2 with stride 2", m.conv(dilation=(2, 2), stride=(2, 2)))
    yield titled("Conv dilation", "1x2", m.conv(dilation=(1, 2)))
    for group, channels in ((2, 8), (4, 32), (4, 8), (3, 9)):
        yield titled("Conv group", f"{group} of {channels}", m.conv(group=group, channels=channels, out=channels))
    yield titled("Conv group", "8 of 8 to 16", m.conv(group=8, channels=8, out=16))
    for channels, out in ((1, 1), (3, 5), (3, 16), (7, 9), (512, 8), (8, 512)):
        yield titled("Conv channels", f"{channels} to {out}", m.conv(channels=channels, out=out))
    for batch in (2, 4):
        yield titled("Conv batch", str(batch), m.conv(batch=batch))
    for p in (2, 7, 8, 15, 16, 17):
        yield titled("Conv padding", str(p), m.conv(pads=(p, p, p, p)))
    yield titled("Conv padding", "1,0,0,1", m.conv(pads=(1, 0, 0, 1)))
    for auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        yield titled("Conv attributes", f"auto_pad={auto}", m.conv(auto_pad=auto))
    yield titled("Conv attributes", "auto_pad=SAME_UPPER dilated", m.conv(dilation=(2, 2), auto_pad="SAME_UPPER"))
    yield titled("Conv inputs", "bias", m.conv(bias=True))
    yield titled("Conv inputs", "weights not constant", m.conv(dynamic=True))
    for k in (1, 3, 7):
        yield titled("Conv rank", f"3 kernel {k}", m.conv((k,)))
    yield titled("Conv rank", "5", m.conv((3, 3, 3), space=(8, 8, 8)))


def _conv_transpose() -> Iterator[Case]:
    f = "ConvTranspose"
    for k, s in ((1, 1), (2, 2), (3, 1), (4, 2), (3, 2), (4, 4), (3, 3), (8, 8), (5, 5), (6, 6), (9, 9), (16, 16)):
        yield titled(f, f"{k}x{k} stride {s}", m.conv_transpose((k, k), stride=(s, s)))
    yield titled(f, "4x4 stride 2 padding 1", m.conv_transpose((4, 4), pads=(1, 1, 1, 1)))
    yield titled(f, "3x3 stride 2 output_padding 1", m.conv_transpose((3, 3), pads=(1, 1, 1, 1), output_padding=(1, 1)))
    yield titled(f, "3x3 dilation 2", m.conv_transpose((3, 3), stride=(1, 1), dilation=(2, 2)))
    yield titled(f, "1x1 dilation 2", m.conv_transpose((1, 1), stride=(1, 1), dilation=(2, 2)))
    yield titled(f, "group 2", m.conv_transpose(group=2))
    yield titled(f, "depthwise", m.conv_transpose(group=8))
    yield titled(f, "stride 2x1", m.conv_transpose((2, 1), stride=(2, 1)))
    yield titled(f, "rank 3", m.conv_transpose((2,), stride=(2,), space=(8,)))


def _pools() -> Iterator[Case]:
    for op in ("MaxPool", "AveragePool"):
        for k in (1, 2, 3, 5, 7, 8, 9, 13, 16, 64):
            yield titled(f"{op} window", by((k, k)), m.pool(op, (k, k)))
        for k in (255, 256, 257):
            yield titled(f"{op} window", by((k, 1)), m.pool(op, (k, 1), space=(300, 4)))
            yield titled(f"{op} window", by((1, k)), m.pool(op, (1, k), space=(4, 300)))
        for s in (2, 3, 4, 7, 8, 9):
            yield titled(f"{op} stride", by((s, s)), m.pool(op, stride=(s, s), space=(24, 24)))
        yield titled(f"{op} stride", "1x4", m.pool(op, stride=(1, 4), space=(24, 24)))
        for k, p in ((3, 1), (5, 2), (9, 4), (15, 7), (17, 8)):
            yield titled(f"{op} padding", f"{k}x{k} padding {p}", m.pool(op, (k, k), pads=(p,) * 4, **_counted(op)))
        yield titled(f"{op} attributes", "ceil_mode", m.pool(op, (3, 3), stride=(2, 2), ceil_mode=1))
        yield titled(f"{op} attributes", "auto_pad=SAME_UPPER", m.pool(op, (3, 3), auto_pad="SAME_UPPER"))
        yield titled(f"{op} attributes", "auto_pad=SAME_UPPER 8x8", m.pool(op, (8, 8), auto_pad="SAME_UPPER"))
        yield titled(f"{op} attributes", "auto_pad=SAME_UPPER 9x9", m.pool(op, (9, 9), auto_pad="SAME_UPPER"))
        yield titled(f"{op} rank", "3", m.pool(op, (2,), space=(16,)))
        yield titled(f"{op} rank", "5", m.pool(op, (2, 2, 2), space=(8, 8, 8)))
        yield titled(f"{op} batch", "2", m.pool(op, batch=2))
        yield titled(f"{op} extents", "channels 8193", m.pool(op, channels=8193, space=(4, 4)))
        yield titled(f"{op} extents", "width 8193", m.pool(op, space=(4, 8193)))
    yield titled("MaxPool dilation", "2", m.pool("MaxPool", (3, 3), dilations=(2, 2)))
    yield titled("MaxPool attributes", "storage_order", m.pool("MaxPool", storage_order=1))
    indices = "y, i = MaxPool<kernel_shape = [2,2], strides = [2,2]>(x)"
    yield titled("MaxPool attributes", "indices", m.graph(indices, ["float[1,8,16,16] x"], (), ["float[] y", "int64[] i"]))
    yield titled("AveragePool attributes", "count_include_pad=0 padding 1", m.pool("AveragePool", (3, 3), pads=(1,) * 4))


def _counted(op: str) -> dict[str, int]:
    return {"count_include_pad": 1} if op == "AveragePool" else {}


def _global_pools() -> Iterator[Case]:
    for op in ("GlobalAveragePool", "GlobalMaxPool"):
        for h, w in ((1, 1), (7, 7), (8, 8), (7, 8), (16, 16), (64, 64), (97, 101), (128, 128)):
            yield titled(op, by((h, w)), m.unary(op, (1, 8, h, w)))
        yield titled(op, "rank 3", m.unary(op, (1, 8, 16)))
        yield titled(op, "rank 5", m.unary(op, (1, 8, 4, 4, 4)))
        yield titled(op, "batch 2", m.unary(op, (2, 8, 8, 8)))


def _reductions() -> Iterator[Case]:
    kinds = (
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceSum",
        "ReduceProd",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
        "ReduceLogSumExp",
    )
    for op in kinds:
        for axes in ((0,), (1,), (2,), (3,), (2, 3), (1, 2, 3), (1, 2)):
            yield titled(op, f"axes {','.join(map(str, axes))}", m.reduce(op, axes))
    for op in ("ReduceMax", "ReduceMean", "ReduceSum"):
        yield titled(op, "axes 1 without keepdims", m.reduce(op, (1,), keepdims=0))
        yield titled(op, "axes 2,3 without keepdims", m.reduce(op, (2, 3), keepdims=0))
        yield titled(op, "batch 2", m.reduce(op, (2, 3), (2, 16, 8, 8)))
        yield titled(op, "rank 3 last axis", m.reduce(op, (2,), (1, 16, 32)))
        for c in (127, 128, 256, 257, 512, 4096, 4097):
            yield titled(f"{op} size", f"{c} channels of one pixel", m.reduce(op, (1,), (1, c, 1, 1)))
        for w in (250, 255, 256, 257, 260, 264, 4096, 4097):
            yield titled(f"{op} size", f"width {w}", m.reduce(op, (3,), (1, 4, 2, w)))
            yield titled(f"{op} size", f"space 2x{w}", m.reduce(op, (2, 3), (1, 4, 2, w)))
        yield titled(f"{op} size", "space 64x64", m.reduce(op, (2, 3), (1, 8, 64, 64)))
        yield titled(f"{op} size", "512 channels of 8x8", m.reduce(op, (1,), (1, 512, 8, 8)))
        for h, w in ((1, 8), (3, 3), (6, 6)):
            yield titled(f"{op} size", f"16 channels of {h}x{w}", m.reduce(op, (1,), (1, 16, h, w)))
    for op in ("ArgMax", "ArgMin"):
        for axis in (1, 2, 3):
            yield titled(op, f"axis {axis}", m.arg(op, axis=axis))
    for c in (64, 127, 128, 8191, 8192):
        yield titled("ArgMax", f"{c} channels", m.arg(shape=(1, c, 4, 4), axis=1))
    yield titled("ArgMax", "without keepdims", m.arg(axis=1, keepdims=0))
    yield titled("ArgMax", "select_last_index", m.arg(axis=1, select_last_index=1))
