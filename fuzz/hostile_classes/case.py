"""What a case is, and the few ways to write one down: as ONNX text, as a built model, as bytes on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.parser

ACCEPT = "accept"
"""The model is analysed; the verdict is what the rules say."""
Make = Callable[[Path], Path]
"""Writes the case into an empty folder; gives the path to check."""


@dataclass(frozen=True)
class Case:
    """A file that ought to be refused, or to be read without harm."""

    name: str
    kind: str
    """The class of faults."""
    what: str
    """What is wrong, or odd."""
    expect: tuple[str, ...]
    """`accept`, or kinds of errors that fit; more than one where ONNX leaves room."""
    names: str = ""
    """What a refusal has to name."""
    make: Make | bytes = b""
    alone: bool = False
    """Whether it needs a process of its own: it is large, or would hang a reader that opens it."""

    def write(self, folder: Path) -> Path:
        """The path of the case in a folder of its own."""
        if not isinstance(self.make, bytes):
            return self.make(folder)
        path = folder / "m.onnx"
        path.write_bytes(self.make)
        return path


def later(build: Callable[[], bytes]) -> Make:
    """For bytes that are too many to keep: they are made where they are written."""

    def make(folder: Path) -> Path:
        path = folder / "m.onnx"
        path.write_bytes(build())
        return path

    return make


def header(opset: int = 20, ir: int = 10, more: str = "") -> str:
    """The head of a model in ONNX text."""
    return f'<ir_version: {ir}, opset_import: ["" : {opset}{more}]>'


def text(nodes: str, inputs: str = "float[1,4] x", outputs: str = "float[] y", values: str = "", **head: object) -> bytes:
    """A model by its nodes; `float[]` is a tensor of any shape."""
    names = f"<{values}>" if values else ""
    whole = f"{header(**head)} g ({inputs}) => ({outputs}) {names} {{ {nodes} }}"  # type: ignore[arg-type]
    return bytes(onnx.parser.parse_model(whole).SerializeToString())


def edited(change: Callable[[onnx.ModelProto], object], data: bytes | None = None) -> bytes:
    """A model after a change; a single Relu where none is given."""
    proto = onnx.ModelProto()
    proto.ParseFromString(data if data is not None else text("y = Relu(x)"))
    change(proto)
    return bytes(proto.SerializeToString())


def varint(value: int, size: int = 0) -> bytes:
    """A number on the wire; negative ones as 64 bits, `size` bytes at least."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F or len(out) + 1 < size:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """A varint field."""
    return varint(field << 3) + varint(value)


def block(field: int, body: bytes) -> bytes:
    """A length-delimited field."""
    return varint(field << 3 | 2) + varint(len(body)) + body


def node(op: bytes, inputs: Iterable[bytes], outputs: Iterable[bytes], more: bytes = b"") -> bytes:
    """A NodeProto in a GraphProto."""
    return block(1, b"".join(block(1, i) for i in inputs) + b"".join(block(2, o) for o in outputs) + block(4, op) + more)


def value(name: bytes, *extents: int, element: int = 1) -> bytes:
    """A ValueInfoProto of a tensor."""
    shape = b"".join(block(1, number(1, e)) for e in extents)
    return block(1, name) + block(2, block(1, number(1, element) + block(2, shape)))


def graph(nodes: bytes, more: bytes = b"", x: bytes | None = None, y: bytes | None = None, name: bytes = b"g") -> bytes:
    """A GraphProto with an input x and an output y."""
    x, y = value(b"x", 1, 4) if x is None else x, value(b"y", 1, 4) if y is None else y
    return nodes + block(2, name) + more + block(11, x) + block(12, y)


def model(body: bytes, more: bytes = b"", opset: int = 20, ir: int = 10) -> bytes:
    """A ModelProto around a GraphProto."""
    return number(1, ir) + block(7, body) + block(8, block(1, b"") + number(2, opset)) + more


RELU = node(b"Relu", [b"x"], [b"y"])
