"""What a new constant is for somebody who goes on training: made from weights or fixed, and which of its elements are structure.

It is written into the metadata of the initializer, so that nobody has to guess it from the values: the ones of a fresh norm and
those of a kernel that adds up look alike.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from msgspec import Struct
from numpy.typing import NDArray

ROLE, SOURCES, PADDING, STRUCTURE = (f"npu_guard.{key}" for key in ("role", "from", "padding", "structure"))
TRAINED, FIXED = "trained", "fixed"
FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}


class Role(Struct, frozen=True):
    """The role of a constant."""

    kind: str
    """`trained`: computed from weights; `fixed`: the same whatever the weights are."""
    sources: tuple[str, ...] = ()
    """Names of the weights that were read for it."""
    padding: tuple[tuple[int, int, int], ...] = ()
    """Axis, first and end of indices at which no element depends on a weight: channels that were added."""
    structure: bytes = b""
    """Where fixed elements are no such indices: a bit for each element, 1 where it depends on no weight, compressed."""

    def fixed(self, shape: Sequence[int]) -> NDArray[np.bool_]:
        """True for elements of a constant of this shape that depend on no weight."""
        if self.kind == FIXED:
            return np.ones(shape, bool)
        if self.structure:
            bits = np.frombuffer(zlib.decompress(self.structure), np.uint8)
            return np.unpackbits(bits, count=int(np.prod(shape))).astype(bool).reshape(shape)
        mask = np.zeros(shape, bool)
        for axis, first, end in self.padding:
            mask[(slice(None),) * axis + (slice(first, end),)] = True
        return mask


def role_of(changed: NDArray[np.bool_], sources: Sequence[str]) -> Role:
    """The role of a constant of which these elements change when the weights do."""
    if not changed.any():
        return Role(FIXED)
    padding = tuple(_runs(changed))
    role = Role(TRAINED, tuple(sources), padding)
    if np.array_equal(role.fixed(changed.shape), ~changed):
        return role
    return Role(TRAINED, tuple(sources), structure=zlib.compress(np.packbits(~changed).tobytes(), 9))


def _runs(changed: NDArray[np.bool_]) -> Iterator[tuple[int, int, int]]:
    """Indices of each axis at which nothing changes, as runs."""
    for axis in range(changed.ndim):
        dead = ~changed.any(axis=tuple(a for a in range(changed.ndim) if a != axis))
        edges = np.flatnonzero(np.diff(np.concatenate([[False], dead, [False]]).astype(np.int8)))
        yield from ((axis, int(first), int(end)) for first, end in zip(edges[::2], edges[1::2], strict=True))


def may_be_one(a: onnx.TensorProto, b: onnx.TensorProto) -> bool:
    """Whether two initializers with the same content may become one: not where training would tell them apart."""
    if a.data_type not in FLOATS:
        return True
    first, second = read(a), read(b)
    if first is None or second is None:
        return first is second or any(
            told is not None and other.name in told.sources for told, other in ((first, b), (second, a))
        )
    return (first.kind, first.sources) == (second.kind, second.sources)


def write(tensor: onnx.TensorProto, role: Role) -> None:
    """Put the role into the initializer's metadata, in the place of one that is there."""
    entries = {
        ROLE: role.kind,
        SOURCES: "\n".join(role.sources),
        PADDING: ", ".join(f"{axis}:{first}-{end}" for axis, first, end in role.padding),
        STRUCTURE: base64.b64encode(role.structure).decode(),
    }
    kept = [p for p in tensor.metadata_props if p.key not in entries]
    del tensor.metadata_props[:]
    tensor.metadata_props.extend(kept)
    for key, value in entries.items():
        if value:
            tensor.metadata_props.add(key=key, value=value)


def read(tensor: onnx.TensorProto) -> Role | None:
    """The role that `fix` wrote; None for a constant of the original, and for one whose role could not be told."""
    entries: dict[str, Any] = {p.key: p.value for p in tensor.metadata_props}
    if entries.get(ROLE) not in (TRAINED, FIXED):
        return None
    runs = [part.split(":") for part in entries.get(PADDING, "").split(", ") if part]
    padding = tuple((int(axis), *(int(n) for n in run.split("-", 1))) for axis, run in runs)
    sources = tuple(filter(None, entries.get(SOURCES, "").split("\n")))
    return Role(entries[ROLE], sources, padding, base64.b64decode(entries.get(STRUCTURE, "")))  # type: ignore[arg-type]  # three numbers
