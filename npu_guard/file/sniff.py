"""What a file is that is called a model and is none, by its first bytes, with what to do about it."""

from __future__ import annotations

import struct

from npu_guard.base.regex import regex
from npu_guard.file.wire import Buffer

_PICKLE = "a pickle, as torch.save writes; export the module to ONNX"
_PACKED = "{}-compressed; unpack it first"
_BEGINNINGS = (
    (b"PK\x03\x04", "a zip archive; unpack it and name the .onnx file"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", _PACKED.format("gzip")),
    (b"BZh", _PACKED.format("bzip2")),
    (b"\xfd7zXZ\0", _PACKED.format("xz")),
    (b"\x28\xb5\x2f\xfd", _PACKED.format("Zstandard")),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it and name the .onnx file"),
    (b"version https://git-lfs", "a Git LFS pointer; run 'git lfs pull' to fetch the model itself"),
    *((b"\x80" + bytes([protocol]), _PICKLE) for protocol in (2, 3, 4, 5)),
    (b"\x89HDF", "HDF5, as Keras writes; export the model to ONNX"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "an ELF program or library"),
    (b"MZ\x90\0", "a program or library of Windows"),
    (b"\x93NUMPY", "a numpy array; name an .onnx file"),
    (b"GGUF", "GGUF, as llama.cpp reads; export the model to ONNX"),
    (b"#!", "a script, as text"),
)
_TEXTS = (
    (b"<!doctype", "an HTML page; the download has probably failed"),
    (b"<html", "an HTML page; the download has probably failed"),
    (b"<?xml", "XML; name an .onnx file"),
    (b"{", "JSON; name an .onnx file"),
    (b"[{", "JSON; name an .onnx file"),
)
_NAMED = {
    b"ORTM": "ONNX Runtime's own .ort format; name the .onnx file",
    b"TFL3": "TensorFlow Lite; export the model to ONNX",
}
_TEXT_PROTOCOL = regex(rb"\s*(#[^\n]*\n\s*)*(ir_version\s*:|graph\s*\{|producer_name\s*:)")
_BOM = b"\xef\xbb\xbf"


def other_format(data: Buffer, head: bytes) -> str | None:
    """What else a file is, None where it may be ONNX; `head` are its first bytes."""
    for magic, what in _BEGINNINGS:
        if head.startswith(magic):
            return what
    for magic, what in _NAMED.items():
        if head[4:8] == magic:
            return what
    if len(head) > 8 and head[8:9] == b"{" and struct.unpack_from("<Q", head)[0] <= len(data) - 8:
        return "safetensors, weights without a graph; export the model to ONNX"
    if len(data) > 262 and data[257:262] == b"ustar":
        return "a tar archive; unpack it and name the .onnx file"
    if (head[:2] == b"\xff\xfe" and b"\0" in head[3:10:2]) or (head[:2] == b"\xfe\xff" and b"\0" in head[2:10:2]):
        return "text in UTF-16"
    start = head.removeprefix(_BOM).lstrip()[:16].lower()
    for magic, what in _TEXTS:
        if start.startswith(magic) and (start[:1] != b"{" or _is_text(head)):
            return what
    if start[:1] in (b"#", b"i", b"g", b"p") and _TEXT_PROTOCOL.match(head):
        return "protobuf's text format; write it as a binary .onnx file"
    return None


def _is_text(head: bytes) -> bool:
    return all(byte > 31 or byte in b"\t\r\n" for byte in head)
