"""ONNX protobuf on the wire: cut large tensor payloads out of a mapped file without reading them.

Only the layout of messages is known here (field numbers of onnx.proto, which never change); what the fields
mean is `load.py`'s business. Cost: one step per field of the messages that hold tensors, whatever the payloads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, overload

from msgspec import Struct

from npu_guard.base.errors import ModelError
from npu_guard.base.limits import DEFAULT, Limits, exceeded
from npu_guard.file.parsed_size import bound

KEEP_BYTES = 4096
"""Tensors with a payload up to this size stay in the skeleton: Reshape targets, axes, scales, pads."""
KEEP_INDICES = 8 * KEEP_BYTES
"""The same for int64, which no weight is: as many as `analysis/constants.py` looks at."""

KEEP_VECTORS = 4 * KEEP_BYTES
"""The same for tensors of at most one axis in a model that names quantizing operators: a scale for each of 4,096 channels."""
_QUANTIZING = (b"QuantizeLinear", b"DequantizeLinear", b"QLinear", b"ConvInteger", b"MatMulInteger", b"MatMulNBits")

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


class Payload(Struct, frozen=True):
    """Bytes of a cut tensor: `offset` and `length` in the model file, `field` of TensorProto that they came from.

    `field` 9 (raw_data) is little-endian memory; 0 stands for a payload in several pieces, then the extent is
    that of the whole TensorProto.
    """

    offset: int
    length: int
    field: int
    holds: int = 0
    """The field that all pieces come from."""
    size: int = 0
    """Bytes of all pieces together, or how many strings there are."""


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
_PAYLOAD_FIELDS: dict[int, tuple[int, ...]] = {4: (2, 5), 5: (2, 0), 6: (2,), 7: (2, 0), 9: (2,), 10: (2, 1), 11: (2, 0)}
"""Fields of TensorProto that hold its data, with the wire types that they may have; protobuf skips one of another type."""
_STRINGS, _RAW = 6, 9
_NAMES = {
    4: "float_data",
    5: "int32_data",
    6: "string_data",
    7: "int64_data",
    9: "raw_data",
    10: "double_data",
    11: "uint64_data",
}
_EXTERNAL_DATA, _LOCATION = 13, 14
_ONCE = {"AttributeProto": frozenset({5, 6, 22}), "SparseTensorProto": frozenset({1, 2})}
"""Fields that occur once and hold tensors. Protobuf would merge several, but pieces of two tensors make none."""
_INTS, _LISTED = 8, 1 << 24
"""Bytes of large lists of integers in attributes; in memory they take eight times that. A forest of a million nodes has 13."""
_DIMS, _DATA_TYPE, _INT64 = 1, 2, 7
_FIXED = {1: 8, 5: 4}


def strip(
    data: Buffer, name: str, keep: int = KEEP_BYTES, indices: int = 0, limits: Limits = DEFAULT
) -> tuple[bytes, Mapping[int, Payload]]:
    """Serialized ModelProto without payloads over `keep` bytes (of int64: `indices`, if more), and what was cut, by offset.

    Raises ModelError (`truncated` or `not-onnx`) where the bytes are no protobuf message; `name` is for the message.
    """
    cut: dict[int, Payload] = {}
    chunks, _ = _message(_Reader(data, name, keep, cut, max(keep, indices), limits), 0, len(data), "ModelProto", 0)
    rest = b"".join(chunks)
    if cut and indices and any(name in rest for name in _QUANTIZING):  # scales are structure: read once more, with longer vectors
        cut.clear()
        reader = _Reader(data, name, keep, cut, max(keep, indices), limits, vectors=KEEP_VECTORS)
        rest = b"".join(_message(reader, 0, len(data), "ModelProto", 0)[0])
    if cut and rest.count(INLINE.encode()) != len(cut):
        raise ModelError("invalid", f"{name}: it names {INLINE!r}, a place that only npu-guard uses")
    bound(rest, name, limits)
    return rest, cut


class _Reader(Struct):
    data: Buffer
    name: str
    keep: int
    cut: dict[int, Payload]
    indices: int = 0
    limits: Limits = DEFAULT
    vectors: int = 0
    """Bytes up to which tensors of one axis are kept, where that is more."""
    listed: int = 0
    steps: int = 0
    """Fields that were looked at, in the whole file."""

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


def _too_long(r: _Reader, have: int) -> ModelError:
    return exceeded(r.name, "bytes of the model without its weights:", have, "structure-bytes", r.limits.structure_bytes)


def _message(r: _Reader, pos: int, end: int, kind: str, depth: int) -> tuple[list[bytes], int]:
    """Chunks of the message at [pos, end) after cutting, and their total length."""
    if depth > 4 * MAX_DEPTH:  # graph -> node -> attribute -> graph: up to four messages per level
        raise ModelError("limit", f"{r.name}: graphs are nested deeper than {MAX_DEPTH} levels")
    data, keep, leads = r.data, r.keep, LEADS[kind]
    chunks: list[bytes] = []
    size, steps = 0, r.steps
    run = pos  # start of the bytes that are copied as they are
    once, seen = _ONCE.get(kind), set()
    most, longest = r.limits.fields, r.limits.structure_bytes
    while pos < end:
        start = pos
        steps += 1
        if steps > most:
            raise exceeded(r.name, "fields:", steps, "fields", most)
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
            if once is not None and (field := tag >> 3) in once:
                if field in seen:
                    raise ModelError("invalid", f"{r.name}: field {field} of a {kind} occurs twice (byte {start})")
                seen.add(field)
            if length > keep and tag >> 3 == _INTS and kind == "AttributeProto":
                r.listed += length
                if r.listed > _LISTED:
                    raise ModelError(
                        "limit", f"{r.name}: lists of integers in attributes take more than {_LISTED} bytes, the limit"
                    )
            if length > keep and (child := leads.get(tag >> 3)) is not None:
                r.steps = steps
                parts, n = _tensor(r, body, pos) if child is TENSOR else _message(r, body, pos, child, depth + 1)
                steps = r.steps
                if n != length:
                    if start - run + size + n > longest:
                        raise _too_long(r, start - run + size + n)
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
        if end - run + size > longest and (chunks or kind == "ModelProto"):
            raise _too_long(r, end - run + size)
        chunks.append(data[run:end])
        size += end - run
    r.steps = steps
    return chunks, size


def _axes(fields: list[bytes]) -> int:
    """How many extents a tensor's fields state; packed, the last byte of each has no mark. Of many, that they are several."""
    packed = [f[2:18] for f in fields if f[0] == _DIMS << 3 | 2]
    return sum(f[0] == _DIMS << 3 for f in fields) + sum(byte < 0x80 for extents in packed for byte in extents)


def _tensor(r: _Reader, start: int, end: int) -> tuple[list[bytes], int]:
    """A TensorProto at [start, end): as it is, or without payload and marked as external to the skeleton."""
    rest: list[bytes] = []
    held: dict[int, int] = {}
    pieces = payload = 0
    at = Payload(start, end - start, 0)
    beside = False
    keep = r.keep
    pos = start
    while pos < end:
        field_start = pos
        r.steps += 1
        if r.steps > r.limits.fields:
            raise exceeded(r.name, "fields:", r.steps, "fields", r.limits.fields)
        tag, pos = r.varint(pos, end)
        wire, field = tag & 7, tag >> 3
        body, length = pos, 0
        if wire == 2:
            length, body = r.varint(pos, end)
            pos = body + length
        elif wire == 0:
            value, pos = r.varint(pos, end)
            if field == _DATA_TYPE:
                keep = r.indices if value == _INT64 else r.keep
            beside |= field == _LOCATION and value == 1
        elif wire in _FIXED:
            pos += _FIXED[wire]
        else:
            raise r.broken(field_start, end)
        if pos > end:
            raise r.broken(pos, end)
        if wire in _PAYLOAD_FIELDS.get(field, ()):
            payload += pos - body
            pieces += 1
            held[field] = held.get(field, 0) + (1 if field == _STRINGS else pos - body)
            at = Payload(body, length, field) if wire == 2 and pieces == 1 else Payload(start, end - start, 0)
        elif pos - field_start > r.limits.structure_bytes:
            raise _too_long(r, pos - field_start)
        else:
            beside |= field == _EXTERNAL_DATA
            rest.append(r.data[field_start:pos])
    if payload <= keep or (payload <= r.vectors and _axes(rest) < 2):
        return [], end - start
    if len(held) > 1 or beside or (_RAW in held and pieces > 1):
        places = [_NAMES[field] for field in sorted(held)] + ["external_data"] * beside
        where = " and ".join(places) if len(places) > 1 else f"two pieces of {places[0]}"
        raise ModelError("invalid", f"{r.name}: the tensor at byte {start} keeps its data in {where}; there must be one place")
    ((holds, size),) = held.items()
    piece = Payload(at.offset, at.length, at.field, holds, size)
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
