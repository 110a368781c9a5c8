"""A model file without its weights: before and after parsing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from npu_guard.base.limits import DEFAULT, Limits
from npu_guard.file import wire

if TYPE_CHECKING:
    import onnx


class Content(Struct, frozen=True):
    """What a model file says but for large payloads, not parsed yet: all that decides what is found in it."""

    path: str
    data: bytes
    payloads: Mapping[int, wire.Payload]
    text: bool
    """Whether it is in ONNX's text format."""

    @property
    def key(self) -> str:
        """Hash of the structure: of two models with the same key, every rule says the same."""
        import hashlib  # only the cache asks

        cut = sorted(self.payloads.values(), key=lambda p: p.offset)
        head = f"{self.text} {len(cut)}\n" + "".join(f"{p.offset} {p.length} {p.field}\n" for p in cut)
        digest = hashlib.sha256(head.encode())
        digest.update(self.data)
        return digest.hexdigest()


class Skeleton(Struct, frozen=True):
    """A parsed model whose large payloads stayed in the file."""

    path: str
    proto: onnx.ModelProto
    payloads: Mapping[int, wire.Payload]
    opset: int
    """Version of the default operator set."""
    limits: Limits = DEFAULT
    """What the model may claim, for those who look further."""
    key: str = ""
    """That of its `Content`, where it was asked for."""
