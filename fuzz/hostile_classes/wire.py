"""Bytes that are no protobuf, or protobuf that no exporter writes."""

# ruff: noqa: E501 - a case is a line, so that the tables can be read
from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile
from collections.abc import Iterator

from hostile_classes.case import ACCEPT, RELU, Case, block, graph, later, model, node, number, text, value, varint

FORMATS = ("not-onnx",)
BROKEN = ("not-onnx", "truncated")
GOOD = text("y = Relu(x)")
BIG = text("y = Add(x, w)", "float[1,2000] x", values=f"float[2000] w = {{{','.join(['1'] * 2000)}}}")


def tensor(*fields: bytes, kind: int = 1, extents: tuple[int, ...] = (2000,)) -> bytes:
    """A model that adds a tensor of these fields."""
    body = b"".join(number(1, e) for e in extents) + number(2, kind) + block(8, b"w") + b"".join(fields)
    return model(
        graph(
            node(b"Add", [b"x", b"w"], [b"y"]), block(5, body), x=value(b"x", 1, 2000, element=kind), y=value(b"y", element=kind)
        )
    )


def attribute(body: bytes, op: bytes = b"Relu", opset: int = 20) -> bytes:
    """A model whose only node has an attribute of these bytes."""
    return model(graph(node(op, [b"x"], [b"y"], block(5, body))), opset=opset)


def chain(length: int, fields: bytes = b"", own: bool = False, more: bytes = b"") -> bytes:
    """A model of nodes in a row, each with these fields; foreign ones where they may have any attribute."""
    op, fields = (b"Op", block(7, b"own") + fields) if own else (b"Relu", fields)
    nodes = (node(op, [b"v%d" % i if i else b"x"], [b"v%d" % (i + 1) if i + 1 < length else b"y"], fields) for i in range(length))
    return model(graph(b"".join(nodes)), block(8, block(1, b"own") + number(2, 1)) * own + more)


def noted(shape: bytes) -> bytes:
    """A model that notes the type of a value with this shape."""
    return model(graph(RELU, block(13, block(1, b"z") + block(2, block(1, number(1, 1) + block(2, shape))))))


def archive(name: str) -> bytes:
    """A zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), GOOD)
    return stream.getvalue()


def cases() -> Iterator[Case]:
    """Files of other formats, then broken wires, then odd ones."""
    for name, named, data in (
        ("empty", "empty", b""),
        ("one-byte", "", b"\x08"),
        ("zeros", "", bytes(4096)),
        ("ones", "", b"\xff" * 4096),
        ("newlines", "", b"\n" * 100),
        ("spaces", "", b" " * 100),
        ("zip", "zip", archive("model.onnx")),
        ("zip-empty", "zip", b"PK\x05\x06" + bytes(18)),
        ("gzip", "gzip", gzip.compress(GOOD, mtime=0)),
        ("bzip2", "bzip2", b"BZh91AY&SY" + bytes(40)),
        ("xz", "xz", b"\xfd7zXZ\x00" + bytes(40)),
        ("zstd", "Zstandard", b"\x28\xb5\x2f\xfd" + bytes(40)),
        ("7z", "7z", b"7z\xbc\xaf\x27\x1c" + bytes(40)),
        ("tar", "tar", b"model.onnx".ljust(257, b"\0") + b"ustar\x0000" + bytes(248)),
        *((f"pickle-{p}", "pickle", pickle.dumps({"state_dict": [1.0]}, protocol=p)) for p in (2, 3, 4, 5)),
        ("hdf5", "HDF5", b"\x89HDF\r\n\x1a\n" + bytes(40)),
        ("png", "image", b"\x89PNG\r\n\x1a\n" + bytes(40)),
        ("jpeg", "image", b"\xff\xd8\xff\xe0" + bytes(40)),
        ("pdf", "PDF", b"%PDF-1.7\n" + bytes(40)),
        ("elf", "ELF", b"\x7fELF\x02\x01\x01" + bytes(40)),
        ("npy", "numpy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'}"),
        ("safetensors", "safetensors", struct.pack("<Q", 60) + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}      ' + bytes(4)),
        ("gguf", "GGUF", b"GGUF\x03\x00\x00\x00" + bytes(40)),
        ("tflite", "TensorFlow Lite", b"\x1c\x00\x00\x00TFL3" + bytes(40)),
        ("ort", ".ort", b"\x1c\x00\x00\x00ORTM" + bytes(40)),
        ("lfs", "git lfs pull", b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"),
        ("html", "HTML", b"<!DOCTYPE html><html><body>404</body></html>"),
        ("html-lower", "HTML", b"<!doctype html>\n<html></html>"),
        ("html-upper", "HTML", b"<HTML><HEAD></HEAD></HTML>"),
        ("html-space", "HTML", b"\r\n  <html></html>"),
        ("html-bom", "HTML", b"\xef\xbb\xbf<!DOCTYPE html>"),
        ("xml", "XML", b'<?xml version="1.0"?><net name="m" version="11"></net>'),
        ("json", "JSON", b'{"graph": {}}'),
        ("json-space", "JSON", b'\n  {"graph": {}}'),
        ("json-list", "JSON", b'[{"graph": {}}]'),
        ("textproto", "text", b'ir_version: 8\nproducer_name: "x"\ngraph {\n}\n'),
        ("python", "text", b"#!/usr/bin/env python\nimport os\nos.system('id')\n"),
        ("utf-16", "text", "\ufeffhello".encode("utf-16")),
    ):  # fmt: skip
        yield Case(f"format-{name}", "format", "a file of another format", BROKEN if not named else FORMATS, named, data)

    for cut in (1, 2, len(GOOD) // 3, len(GOOD) // 2, len(GOOD) - 1):
        yield Case(f"cut-{cut}", "wire", "a model that ends early", BROKEN, "", GOOD[:cut])
    for cut in (len(BIG) // 2, len(BIG) - 100, 40):
        yield Case(f"cut-in-weights-{cut}", "wire", "a model that ends in its weights", BROKEN, "", BIG[:cut])
    for name, what, data in (
        ("length-31", "a length of 2^31 - 1", number(1, 8) + varint(7 << 3 | 2) + varint(2**31 - 1)),
        ("length-63", "a length of 2^63 - 1", number(1, 8) + varint(7 << 3 | 2) + varint(2**63 - 1)),
        ("length-64", "a length of 2^64 - 1", number(1, 8) + varint(7 << 3 | 2) + varint(2**64 - 1)),
        ("length-inner", "a node longer than its graph", number(1, 8) + block(7, varint(1 << 3 | 2) + varint(10**6) + b"x")),
        (
            "length-attribute",
            "a tensor longer than its attribute",
            attribute(block(1, b"a") + varint(5 << 3 | 2) + varint(10**9)),
        ),
        ("varint-endless", "a number that does not end", b"\x08" + b"\xff" * 5000),
        ("varint-11", "a number of eleven bytes", b"\x08" + b"\x80" * 10 + b"\x01" + GOOD[2:]),
        ("tag-10", "a tag of ten bytes", varint(1 << 3, 10) + b"\x08" + GOOD[2:] + b"\xff" * 9 + b"\x7f\x00"),
        ("field-0", "a field of number 0", GOOD + b"\x00\x01"),
        ("wire-6", "a wire type that does not exist", GOOD + b"\x0e\x01"),
        ("wire-7", "a wire type that does not exist", GOOD + b"\x0f\x01"),
        ("group-open", "a group that does not end", GOOD + varint(1000 << 3 | 3)),
        ("group-end", "the end of no group", GOOD + varint(1000 << 3 | 4)),
        ("group-deep", "100,000 groups in each other", varint(1000 << 3 | 3) * 100_000 + GOOD),
        ("garbage-behind", "a model and rubbish", GOOD + b"\xde\xad\xbe\xef" * 20),
        ("graph-text", "text where the graph belongs", number(1, 8) + block(7, b"not a graph at all") + block(8, number(2, 20))),
        ("model-in-model", "a model where the graph belongs", number(1, 8) + block(7, GOOD) + block(8, number(2, 20))),
    ):
        yield Case(name, "wire", what, (*BROKEN, "invalid", "limit"), "", data)

    yield Case("ir-string", "wire", "ir_version as a string", ("not-onnx",), "ir_version", block(1, b"xx") + GOOD[2:])
    yield Case(
        "graph-number",
        "wire",
        "the graph as a number",
        ("not-onnx",),
        "graph",
        number(1, 8) + number(7, 5) + block(8, number(2, 20)),
    )
    yield Case("graph-missing", "wire", "no graph", ("not-onnx",), "graph", number(1, 8) + block(8, number(2, 20)))
    yield Case(
        "graph-empty",
        "wire",
        "a graph of no bytes",
        (ACCEPT, "invalid"),
        "",
        number(1, 8) + block(7, b"") + block(8, number(2, 20)),
    )
    yield Case(
        "graph-twice", "wire", "a graph in two pieces, which protobuf merges", (ACCEPT, "invalid"), "", GOOD + block(7, b"")
    )
    yield Case("graph-twice-other", "wire", "two graphs that make one value twice", ("invalid",), "y", GOOD + block(7, RELU))
    yield Case("varint-long", "wire", "ir_version in ten bytes", (ACCEPT, *FORMATS), "", b"\x08" + varint(8, 10) + GOOD[2:])
    yield Case("length-long", "wire", "a length in ten bytes", (ACCEPT, *FORMATS), "", GOOD + varint(14 << 3 | 2) + varint(0, 10))
    yield Case("ir-64", "wire", "ir_version 2^63 - 1", ("unsupported-version", *FORMATS), "", number(1, 2**63 - 1) + GOOD[2:])
    yield Case("unknown-fields", "wire", "200,000 unknown fields", (ACCEPT,), "", GOOD + number(1000, 1) * 200_000)
    yield Case("unknown-large", "wire", "an unknown field of 4 MB", (ACCEPT,), "", GOOD + block(1000, bytes(4 << 20)))
    yield Case(
        "unknown-in-graph",
        "wire",
        "100,000 unknown fields in the graph",
        (ACCEPT,),
        "",
        model(graph(RELU, number(1000, 1) * 100_000)),
    )
    yield Case(
        "unknown-in-node",
        "wire",
        "100,000 unknown fields in a node",
        (ACCEPT,),
        "",
        model(graph(node(b"Relu", [b"x"], [b"y"], number(1000, 1) * 100_000))),
    )
    yield Case(
        "unknown-in-tensor",
        "wire",
        "unknown fields among weights",
        (ACCEPT,),
        "",
        tensor(number(1000, 1) * 5000, block(9, bytes(8000))),
    )
    yield Case(
        "group-closed",
        "wire",
        "a group that ends",
        (ACCEPT, *FORMATS),
        "",
        GOOD + varint(1000 << 3 | 3) + number(1, 1) + varint(1000 << 3 | 4),
    )
    yield Case(
        "nothing-inside",
        "wire",
        "zero-length everything",
        (ACCEPT, "invalid"),
        "",
        number(1, 8) + block(7, block(1, b"") + block(2, b"")) + block(8, number(2, 20)),
    )
    for name, what, named, build in (
        ("fields-many", "nine million fields", "fields", lambda: GOOD + number(15, 0) * 9_000_000),
        ("structure-large", "a doc string of 200 MB", "bytes", lambda: GOOD + block(6, b"d" * (200 << 20))),
        ("names-large", "100 names of 2 MB", "bytes", lambda: model(graph(b"".join(node(b"Relu", [b"x"], [b"%d" % i + b"n" * (2 << 20)]) for i in range(100))))),
    ):  # fmt: skip
        yield Case(name, "wire", what, ("limit",), named, later(build), alone=True)

    # what protobuf makes 8 to 100 times as large as it is in the file; where `named` is empty it is just below the limit
    for name, what, named, build in (
        ("metadata", "11 nodes of 200,000 empty entries of metadata", "parsed-bytes", lambda: chain(11, b"\x4a\x00" * 200_000)),
        ("metadata-less", "11 nodes of 185,000", "", lambda: chain(11, b"\x4a\x00" * 185_000)),
        ("extents", "a type of 4.5 million empty extents", "parsed-bytes", lambda: noted(b"\x0a\x00" * 4_500_000)),
        ("extents-less", "a type of 3.9 million", "rank", lambda: noted(b"\x0a\x00" * 3_900_000)),
        ("rank", "a weight of 18 million dimensions", "parsed-bytes", lambda: tensor(block(1, b"\x01" * 18_000_000), extents=())),
        ("rank-less", "a weight of 15 million", "rank", lambda: tensor(block(1, b"\x01" * 15_000_000), extents=())),
        ("quantization", "6 annotations of 800,000 empty entries", "parsed-bytes", lambda: model(graph(RELU, block(14, block(1, b"x") + b"\x12\x00" * 800_000) * 6))),
        ("integers", "4,400 lists of 4,090 integers", "parsed-bytes", lambda: chain(440, b"".join(block(5, block(1, b"q%d" % i) + block(8, bytes(4090)) + number(20, 7)) for i in range(10)), own=True)),
        ("attributes", "1.2 million empty attributes", "parsed-bytes", lambda: chain(1, b"\x2a\x00" * 1_200_000, own=True)),
        ("tensors", "1.3 million empty tensors in an attribute", "parsed-bytes", lambda: attribute(block(1, b"q") + b"\x52\x00" * 1_300_000 + number(20, 9))),
        ("outputs", "a node of a million outputs", "parsed-bytes", lambda: model(graph(node(b"Split", [b"x"], [b"y", *(b"o%d" % i for i in range(1_000_000))])))),
        ("inputs", "5 nodes of 900,000 empty inputs", "fields", lambda: chain(5, b"\x0a\x00" * 900_000)),
        ("strings", "5 lists of 900,000 empty strings", "fields", lambda: chain(5, block(5, block(1, b"q") + b"\x4a\x00" * 900_000 + number(20, 8)), own=True)),
        ("integers-single", "5 lists of 900,000 integers one by one", "fields", lambda: chain(5, block(5, block(1, b"q") + b"\x40\x00" * 900_000 + number(20, 7)), own=True)),
        ("unknown", "5 nodes of 900,000 unknown fields", "fields", lambda: chain(5, number(1000, 0) * 900_000)),
        ("expanded", "50,000 calls of a function of 2,000 bytes", "structure-bytes", lambda: chain(50_000, own=True, more=block(25, block(1, b"Op") + block(4, b"a") + block(5, b"b") + node(b"Foo", [b"a"], [b"b"], block(7, b"own") + block(5, block(1, b"q") + block(4, b"s" * 2000) + number(20, 3))).replace(b"\x0a", b"\x3a", 1) + block(9, block(1, b"own") + number(2, 1)) + block(10, b"own")))),
    ):  # fmt: skip
        yield Case(f"parsed-{name}", "wire", what, ("limit",) if named else (ACCEPT,), named, later(build), alone=True)

    # where a tensor keeps its data
    raw, floats = block(9, bytes(8000)), block(4, bytes(8000))
    small, few = block(9, bytes(8)), block(4, bytes(8))
    single = struct.pack("<f", 1.0)
    for name, what, data in (
        ("raw-and-floats", "weights in raw_data and float_data", tensor(raw, floats)),
        ("raw-and-floats-small", "the same of two elements", tensor(small, few, extents=(2,))),
        ("raw-twice", "raw_data twice", tensor(raw, raw)),
        ("raw-and-ints", "raw_data and int64_data", tensor(raw, block(7, bytes(100)))),
        ("raw-short", "too few bytes", tensor(block(9, bytes(7999)))),
        ("raw-long", "too many bytes", tensor(block(9, bytes(8004)))),
        ("raw-none", "no data at all", tensor()),
        ("raw-empty", "raw_data of no bytes", tensor(block(9, b""))),
        ("raw-number", "raw_data as a number", tensor(number(9, 5))),
        ("raw-numbers", "raw_data as 5,000 numbers", tensor(number(9, 5) * 5000)),
        (
            "raw-external",
            "raw_data and a file beside the model",
            tensor(raw, block(13, block(1, b"location") + block(2, b"w.bin")), number(14, 1)),
        ),
        (
            "raw-external-small",
            "the same of two elements",
            tensor(small, block(13, block(1, b"location") + block(2, b"w.bin")), number(14, 1), extents=(2,)),
        ),
        ("floats-short", "too few floats, packed", tensor(block(4, bytes(7996)))),
        ("floats-pieces-short", "too few floats, one by one", tensor((varint(4 << 3 | 5) + single) * 1999)),
        ("floats-odd", "float_data of no whole number of floats", tensor(block(4, bytes(7998)))),
        ("ints-for-floats", "a float tensor in int32_data", tensor(block(5, b"\x01" * 8000), extents=(8000,))),
        ("floats-for-ints", "an int32 tensor in float_data", tensor(floats, kind=6)),
        ("doubles-for-floats", "a float tensor in double_data", tensor(block(10, bytes(8000)), extents=(2000,))),
        ("ints-few", "far too few integers", tensor(block(7, b"\x01" * 50_000), kind=7, extents=(100_000,))),
        ("ints-many", "far too many integers", tensor(block(7, b"\x01" * 50_000), kind=7, extents=(10,))),
        ("strings-few", "too few strings", tensor(block(6, b"word" * 20) * 99, kind=8, extents=(100,))),
        ("strings-raw", "strings in raw_data", tensor(raw, kind=8)),
        (
            "inline-forged",
            "weights at the place that only npu-guard uses",
            tensor(block(13, block(1, b"location") + block(2, b"npu-guard:inline")), number(14, 1), block(12, bytes(9000))),
        ),
    ):
        yield Case(f"data-{name}", "wire", what, ("invalid", "not-onnx"), "", data)
    yield Case(
        "data-pieces",
        "wire",
        "floats one by one, as old writers wrote them",
        (ACCEPT,),
        "",
        tensor((varint(4 << 3 | 5) + single) * 2000),
    )
    yield Case("data-packs", "wire", "floats in two packs", (ACCEPT,), "", tensor(block(4, bytes(4000)) * 2))
    yield Case(
        "data-mixed",
        "wire",
        "floats in a pack and one by one",
        (ACCEPT,),
        "",
        tensor(block(4, bytes(4000)), (varint(4 << 3 | 5) + single) * 1000),
    )
    yield Case("data-default", "wire", "data_location that says default", (ACCEPT,), "", tensor(raw, number(14, 0)))
    two = block(5, number(1, 1000) + number(2, 1) + block(9, bytes(4000))) + block(
        5, number(1, 2000) + number(2, 1) + block(9, bytes(8000))
    )
    yield Case(
        "attribute-merged",
        "wire",
        "a tensor attribute in two pieces",
        ("invalid",),
        "",
        attribute(block(1, b"value") + two + number(20, 4), b"Constant"),
    )
    forged = model(graph(
        node(b"Add", [b"x", b"w"], [b"t"]) + node(b"Add", [b"t", b"v"], [b"y"]),
        block(5, number(1, 2000) + number(2, 1) + block(8, b"w") + raw)
        + block(5, number(1, 2000) + number(2, 1) + block(8, b"v") + number(14, 1)
                + b"".join(block(13, block(1, k) + block(2, v)) for k, v in ((b"location", b"npu-guard:inline"), (b"offset", b"%d"), (b"length", b"8000")))),
        x=value(b"x", 1, 2000), y=value(b"y", 1, 2000),
    ))  # fmt: skip
    at = forged.index(bytes(8000))
    forged = forged.replace(b"%d", b"%02d" % at if at < 100 else b"99")
    yield Case("data-inline-shared", "wire", "a tensor that claims the bytes of another", ("invalid",), "npu-guard", forged)
