"""Save a document: weights are copied from where they lie, in pieces, and the file appears whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import onnx

from npu_guard.base.errors import ModelError
from npu_guard.base.files import write_atomic
from npu_guard.base.regex import regex
from npu_guard.base.text import text
from npu_guard.file import load
from npu_guard.file.document import RUNTIME_IR, Document
from npu_guard.file.wire import INLINE, LEADS, TENSOR, fields, varint

INLINE_LIMIT = (1 << 31) - (1 << 26)
"""Protobuf messages end at 2 GiB; larger models keep their weights in a file beside them."""
_CHUNK = 1 << 20
_KEPT_INLINE = 1024
_KEPT_NUMBERS = 1 << 20
"""Bytes of a tensor that stays in the model: of sizes, indices and the like more, as shape inference and ONNX Runtime read these
where a graph is loaded, and not out of another file."""
_SUFFIX = regex(r"\.[0-9a-f]{8}\.data")
_T = onnx.TensorProto

Piece = bytes | tuple[Path, int, int]
"""Bytes, or an extent of a file."""


def save_document(document: Document, path: Path) -> None:
    """Write the model; external data where the source had it or where it has to be. Raises UsageError.

    Once it is there, the data file of an earlier model in its place goes, if it was written here and nothing else names it.
    """
    before = _data_of(path)
    proto = document.copy()
    proto.proto.ir_version = min(proto.proto.ir_version, RUNTIME_IR)
    weights = sum(document.extent(t)[2] for t in document.tensors() if t.data_location == _T.EXTERNAL)
    outside = any(t.data_location == _T.EXTERNAL and not _is_inline(t) for t in document.tensors())
    content = b"" if outside else proto.proto.SerializeToString()
    if outside or weights + len(content) > INLINE_LIMIT:
        before.discard(_save_external(proto, path))
    else:
        pieces, _ = _message(proto, content, "ModelProto")
        write_atomic(path, _content(pieces))
    for old in sorted(before):
        with contextlib.suppress(OSError):
            if _is_ours(old) and not _is_named(old, path):
                old.unlink()


def _data_of(path: Path) -> set[Path]:
    """Files beside a model that it names, and that are called as `_save_external` calls them."""
    try:
        tensors = Document.of(load.load(str(path))).tensors() if os.path.isfile(path) else ()
        named = {text(e.value) for t in tensors for e in t.external_data if e.key == "location"}
    except (ModelError, OSError):  # whatever is there, it is to be replaced
        return set()
    return {path.with_name(n) for n in named if n.startswith(path.name) and _SUFFIX.fullmatch(n.removeprefix(path.name))}


def _is_ours(data: Path) -> bool:
    """Whether the content is what the name says."""
    try:
        if not stat.S_ISREG(data.lstat().st_mode):
            return False
        with data.open("rb") as file:
            return data.name.endswith(f".{hashlib.file_digest(file, 'sha256').hexdigest()[:8]}.data")
    except OSError:
        return False


def _is_named(data: Path, path: Path) -> bool:
    """Whether another model in the folder names the data, such as a copy of the old one. One that cannot be read may."""
    name = data.name.encode("utf-8", "surrogateescape")
    for other in data.parent.iterdir():
        if other.suffix not in (".onnx", path.suffix) or other.name == path.name or not os.path.isfile(other):
            continue
        try:
            with other.open("rb") as file:
                if file.seek(0, os.SEEK_END) and mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ).find(name) >= 0:
                    return True
        except OSError:
            return True
    return False


def _is_inline(tensor: onnx.TensorProto) -> bool:
    return any(e.key == "location" and e.value == INLINE for e in tensor.external_data)


def _save_external(document: Document, path: Path) -> Path:
    """The data file is named after its content, so that the switch from an old model to the new one is one rename."""
    digest = hashlib.sha256()
    pieces: list[Piece] = []
    position = 0
    plans: list[tuple[onnx.TensorProto, int, int]] = []
    for tensor in document.tensors():
        if tensor.data_location == _T.EXTERNAL:
            source, offset, length = document.extent(tensor)
            piece: Piece = (source, offset, length)
        elif tensor.HasField("raw_data") and len(tensor.raw_data) > (
            _KEPT_NUMBERS if tensor.data_type in (_T.INT32, _T.INT64) else _KEPT_INLINE
        ):
            piece, length = tensor.raw_data, len(tensor.raw_data)
        else:
            continue
        padding = -position % 64  # so that a reader can map the tensors
        pieces += [b"\0" * padding, piece]
        plans.append((tensor, position + padding, length))
        position += padding + length
    for chunk in _content(pieces):
        digest.update(chunk)
    data = path.with_name(f"{path.name}.{digest.hexdigest()[:8]}.data")
    for tensor, offset, length in plans:
        tensor.ClearField("raw_data")
        del tensor.external_data[:]
        for key, value in (("location", data.name), ("offset", str(offset)), ("length", str(length))):
            tensor.external_data.add(key=key, value=value)
        tensor.data_location = _T.EXTERNAL
    write_atomic(data, _content(pieces))
    write_atomic(path, [document.proto.SerializeToString()])
    return data


def _message(document: Document, data: bytes, kind: str) -> tuple[list[Piece], int]:
    """Pieces of a serialized message with the cut payloads back in their place, and their total length."""
    pieces: list[Piece] = []
    size = 0
    for tag, start, body, end in fields(data):
        child = LEADS[kind].get(tag >> 3) if tag & 7 == 2 else None
        if child is None or INLINE.encode() not in data[body:end]:
            pieces.append(data[start:end])
            size += end - start
            continue
        parts, length = _tensor(document, data[body:end]) if child == TENSOR else _message(document, data[body:end], child)
        head = varint(tag) + varint(length)
        pieces += [head, *parts]
        size += len(head) + length
    return pieces, size


def _tensor(document: Document, data: bytes) -> tuple[list[Piece], int]:
    tensor = _T()
    tensor.ParseFromString(data)
    if not _is_inline(tensor):
        return [data], len(data)
    payload = document.payload(tensor)
    assert payload is not None
    if payload.field == 0:
        whole = document.original(tensor, payload).SerializeToString()
        return [whole], len(whole)
    del tensor.external_data[:]
    tensor.ClearField("data_location")
    head = tensor.SerializeToString() + varint(payload.field << 3 | 2) + varint(payload.length)
    return [head, (document.source, payload.offset, payload.length)], len(head) + payload.length


def _content(pieces: list[Piece]) -> Iterator[bytes]:
    for piece in pieces:
        yield from _chunks(piece)


def _chunks(piece: Piece) -> Iterator[bytes]:
    if isinstance(piece, bytes):
        yield piece
        return
    source, offset, length = piece
    with source.open("rb") as file:
        file.seek(offset)
        while length:
            chunk = file.read(min(length, _CHUNK))
            if not chunk:
                raise OSError(f"{source.name} has become shorter")
            length -= len(chunk)
            yield chunk
