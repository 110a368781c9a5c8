"""ONNX protobuf on the wire: cut large tensor payloads out of a mapped file without reading them.

Only the layout of messages is known here (field numbers of onnx.proto, which never change); what the fields
mean is `load.py`'s business. Cost: one step per field of the messages that hold tensors, whatever the payloads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, overload

from npu_guard.errors import ModelError

KEEP_BYTES = 4096
"""Tensors with a payload up to this size stay in the skeleton: Reshape targets, axes, scales, pads."""

MAX_DEPTH = 32
"""Nesting of graphs in nodes; ONNX Runtime has the same limit."""

INLINE = "npu-guard:inline"
"""`external_data` location of a payload that was cut out: it is still in the model file itself."""


class Buffer(Protocol):
    """What is read: bytes, a mapped file, or an object in a store that is fetched where it is touched."""

    def __len__(self) -> int: ...

    @overload
    def __getitem__(self, at: int, /) -> int: ...
    @overload
    def __getitem__(self, at: slice, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Payload:
    """Bytes of a cut tensor: `offset` and `length` in the model file, `field` of TensorProto that they came from.

    `field` 9 (raw_data) is little-endian memory; 0 stands for a payload in several pieces, then the extent is
    that of the whole TensorProto.
    """

    offset: int
    length: int
    field: int


TENSOR = "TensorProto"
LEADS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: TENSOR, 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {5: TENSOR, 6: "GraphProto", 10: TENSOR, 11: "GraphProto", 22: "SparseTensorProto",
                       23: "SparseTensorProto"},
    "SparseTensorProto": {1: TENSOR, 2: TENSOR},
}  # fmt: skip
"""Which fields of which message lead to tensors: {message: {field number: message in that field}}."""
_PAYLOAD_FIELDS = frozenset({4, 5, 6, 7, 9, 10, 11})
_FIXED = {1: 8, 5: 4}


def strip(data: Buffer, name: str, keep: int = KEEP_BYTES) -> tuple[bytes, Mapping[int, Payload]]:
    """Serialized ModelProto without payloads over `keep` bytes, and what was cut, by offset.

    Raises ModelError (`truncated` or `not-onnx`) where the bytes are no protobuf message; `name` is for the message.
    """
    cut: dict[int, Payload] = {}
    chunks, _ = _message(_Reader(data, name, keep, cut), 0, len(data), "ModelProto", 0)
    return b"".join(chunks), cut


@dataclass(slots=True)
class _Reader:
    data: Buffer
    name: str
    keep: int
    cut: dict[int, Payload]

    def varint(self, pos: int, end: int) -> tuple[int, int]:
        """(value, position behind it)."""
        value = shift = 0
        while pos < end and shift < 70:
            byte = self.data[pos]
            pos += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, pos
            shift += 7
        raise self.broken(pos, end)

    def broken(self, pos: int, end: int) -> ModelError:
        if pos >= end >= len(self.data):
            return ModelError(
                "truncated", f"{self.name}: the file ends in the middle of a field (byte {len(self.data)}); copy it again"
            )
        return ModelError("not-onnx", f"{self.name}: not an ONNX file (malformed protobuf at byte {pos})")


def _message(r: _Reader, pos: int, end: int, kind: str, depth: int) -> tuple[list[bytes], int]:
    """Chunks of the message at [pos, end) after cutting, and their total length."""
    if depth > 4 * MAX_DEPTH:  # graph -> node -> attribute -> graph: up to four messages per level
        raise ModelError("limit", f"{r.name}: graphs are nested deeper than {MAX_DEPTH} levels")
    data, keep, leads = r.data, r.keep, LEADS[kind]
    chunks: list[bytes] = []
    size = 0
    run = pos  # start of the bytes that are copied as they are
    while pos < end:
        start = pos
        tag = data[pos]
        pos += 1
        if tag >= 0x80:
            tag, pos = r.varint(start, end)
        wire = tag & 7
        if wire == 2:
            if pos >= end:
                raise r.broken(pos, end)
            length = data[pos]
            pos += 1
            if length >= 0x80:
                length, pos = r.varint(pos - 1, end)
            body = pos
            pos += length
            if pos > end:
                raise r.broken(pos, end)
            if length > keep and (child := leads.get(tag >> 3)) is not None:
                parts, n = _tensor(r, body, pos) if child is TENSOR else _message(r, body, pos, child, depth + 1)
                if n != length:
                    head = data[run:start] + varint(tag) + varint(n)
                    chunks.append(head)
                    chunks.extend(parts)
                    size += len(head) + n
                    run = pos
        elif wire == 0:
            _, pos = r.varint(pos, end)
        elif wire in _FIXED:
            pos += _FIXED[wire]
        else:  # groups (3, 4) do not occur in ONNX, 6 and 7 do not exist
            raise r.broken(start, end)
        if tag < 8:  # field 0 does not exist: a file of zeros ends here and not after a walk over all of it
            raise r.broken(start, end)
        if pos > end:
            raise r.broken(pos, end)
    if run < end:
        chunks.append(data[run:end])
        size += end - run
    return chunks, size


def _tensor(r: _Reader, start: int, end: int) -> tuple[list[bytes], int]:
    """A TensorProto at [start, end): as it is, or without payload and marked as external to the skeleton."""
    rest: list[bytes] = []
    pieces: list[Payload] = []
    payload = 0
    pos = start
    while pos < end:
        field_start = pos
        tag, pos = r.varint(pos, end)
        wire, field = tag & 7, tag >> 3
        body, length = pos, 0
        if wire == 2:
            length, body = r.varint(pos, end)
            pos = body + length
        elif wire == 0:
            _, pos = r.varint(pos, end)
        elif wire in _FIXED:
            pos += _FIXED[wire]
        else:
            raise r.broken(field_start, end)
        if pos > end:
            raise r.broken(pos, end)
        if field in _PAYLOAD_FIELDS:
            payload += pos - body
            pieces = [Payload(body, length, field) if wire == 2 and not pieces else Payload(start, end - start, 0)]
        else:
            rest.append(r.data[field_start:pos])
    if payload <= r.keep:
        return [], end - start
    piece = pieces[0]
    r.cut[piece.offset] = piece
    rest += [_entry("location", INLINE), _entry("offset", str(piece.offset)), _entry("length", str(piece.length))]
    rest.append(b"\x70\x01")  # data_location = EXTERNAL
    return rest, sum(map(len, rest))


def _entry(key: str, value: str) -> bytes:
    """A StringStringEntryProto in TensorProto.external_data (field 13)."""
    k, v = key.encode(), value.encode()
    body = b"\x0a" + varint(len(k)) + k + b"\x12" + varint(len(v)) + v
    return b"\x6a" + varint(len(body)) + body


def fields(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Fields of a message that protobuf itself has written: (tag, start, start of the body, end)."""
    reader = _Reader(data, "", 0, {})
    pos = 0
    while pos < len(data):
        start = pos
        tag, pos = reader.varint(pos, len(data))
        body = pos
        if tag & 7 == 2:
            length, body = reader.varint(pos, len(data))
            pos = body + length
        elif tag & 7 == 0:
            _, pos = reader.varint(pos, len(data))
        else:
            pos += _FIXED[tag & 7]
        yield tag, start, body, pos


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
