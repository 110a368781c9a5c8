"""What a TensorProto in a file must be: dimensions in range, a known type, exactly the data that the dimensions ask for.

Nothing outside the file is opened: of external data only the entries are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx
from msgspec import Struct, field

from npu_guard.base.errors import ModelError
from npu_guard.base.limits import DEFAULT, Limits, exceeded
from npu_guard.base.text import text
from npu_guard.file import external_data
from npu_guard.file.wire import INLINE, Payload

MAX_DIM = 2**31 - 1
MAX_RANK = 64

_T = onnx.TensorProto
BITS: dict[int, int] = {
    _T.FLOAT: 32, _T.UINT8: 8, _T.INT8: 8, _T.UINT16: 16, _T.INT16: 16, _T.INT32: 32, _T.INT64: 64, _T.BOOL: 8,
    _T.FLOAT16: 16, _T.DOUBLE: 64, _T.UINT32: 32, _T.UINT64: 64, _T.COMPLEX64: 64, _T.COMPLEX128: 128,
    _T.BFLOAT16: 16, _T.FLOAT8E4M3FN: 8, _T.FLOAT8E4M3FNUZ: 8, _T.FLOAT8E5M2: 8, _T.FLOAT8E5M2FNUZ: 8,
    _T.UINT4: 4, _T.INT4: 4, _T.FLOAT4E2M1: 4,
}  # fmt: skip
"""Bits of an element; strings and types of later onnx releases are missing."""

# Where elements that are not in raw_data stand, and how many entries an element takes (complex numbers take two).
_F, _I, _L, _D, _U = "float_data", "int32_data", "int64_data", "double_data", "uint64_data"
_FIELDS: dict[int, str] = {
    _T.FLOAT: _F, _T.COMPLEX64: _F, _T.DOUBLE: _D, _T.COMPLEX128: _D, _T.INT64: _L, _T.UINT32: _U, _T.UINT64: _U,
    _T.STRING: "string_data",
}  # fmt: skip
_FIELDS |= dict.fromkeys(
    (_T.INT32, _T.INT16, _T.INT8, _T.INT4, _T.UINT16, _T.UINT8, _T.UINT4, _T.BOOL, _T.FLOAT16, _T.BFLOAT16, _T.FLOAT8E4M3FN,
     _T.FLOAT8E4M3FNUZ, _T.FLOAT8E5M2, _T.FLOAT8E5M2FNUZ, _T.FLOAT4E2M1), _I
)  # fmt: skip
_NUMBERS = {4: _F, 5: _I, 6: "string_data", 7: _L, 9: "raw_data", 10: _D, 11: _U}
_MEMORY = frozenset({4, 9, 10})
"""Fields of TensorProto that hold elements as they lie in memory: float_data, raw_data, double_data."""
_TYPES = (frozenset(_T.DataType.values()), frozenset(_T.DataType.values()) - {_T.UNDEFINED})
"""Types that an element may have, those of later onnx releases included; the second where one has to be known."""
_DATA = (_F, _I, _L, _D, _U, "string_data")


class TensorSource(Struct, frozen=True):
    """Where tensors come from: the model's path for messages, what was cut out of it, and what it may claim."""

    path: str
    payloads: Mapping[int, Payload] = field(default_factory=dict)
    limits: Limits = DEFAULT
    sizes: dict[str, int] = field(default_factory=dict)
    """Sizes of the files of weights that were looked at, by location."""


Where = Callable[[], str]
"""What to call a tensor in a message; asked only where one is needed."""


def dims(source: TensorSource, where: Where, extents: Sequence[int]) -> None:
    """Raise ModelError where extents are negative or ask for more than any device has."""
    if len(extents) > MAX_RANK:
        raise _rank(source, where, len(extents))
    for extent in extents:
        if not 0 <= extent <= MAX_DIM:
            raise ModelError("invalid", f"{source.path}: {where()} has an axis of extent {extent}, outside 0 to 2^31-1")
    if (count := math.prod(extents)) > source.limits.elements:
        raise exceeded(source.path, f"the elements of {where()} are", count, "elements", source.limits.elements)


def _rank(source: TensorSource, where: Where, rank: int) -> ModelError:
    return ModelError("limit", f"{source.path}: {where()} has rank {rank}; the limit is {MAX_RANK}")


def kind(source: TensorSource, where: Where, proto: onnx.TypeProto, needed: bool = False) -> None:
    """Raise ModelError where a type, or what it is a sequence, map or option of, is none that a tensor can have.

    With `needed` it must tell the type of elements: nothing else does for an input.
    """
    while True:
        which = proto.WhichOneof("value")
        if which in ("tensor_type", "sparse_tensor_type"):
            inner = getattr(proto, which)
            axes = inner.shape.dim
            if len(axes) > MAX_RANK:
                raise _rank(source, where, len(axes))
            dims(source, where, [d.dim_value for d in axes if d.HasField("dim_value")])
            if inner.elem_type not in _TYPES[needed]:
                raise ModelError("invalid", f"{source.path}: {where()} has the unknown element type {inner.elem_type}")
            return
        if which in ("sequence_type", "optional_type"):
            proto = getattr(proto, which).elem_type
        elif which == "map_type":
            proto = proto.map_type.value_type
        elif which is None and needed:
            raise ModelError("invalid", f"{source.path}: {where()} has no type")
        else:
            return


def tensor(source: TensorSource, where: Where, proto: onnx.TensorProto) -> None:
    """Raise ModelError where the tensor does not hold what its dimensions and type say."""
    dims(source, where, proto.dims)
    extents = proto.dims[:]  # not before that: there may be millions
    kind = proto.data_type
    if kind not in _FIELDS:
        if kind == _T.UNDEFINED or kind not in _T.DataType.values():
            raise ModelError("invalid", f"{source.path}: {where()} has the unknown element type {kind}")
        return
    want = math.prod(extents)
    bits = BITS.get(kind)
    if proto.data_location == _T.EXTERNAL:
        have = _external(source, where, proto)
    elif proto.HasField("raw_data"):
        have = len(proto.raw_data)
        if bits is None:
            raise ModelError(
                "invalid", f"{source.path}: {where()} holds strings and keeps them in raw_data, which ONNX does not allow"
            )
    else:
        _entries(source.path, where, proto, want, bits)
        return
    if proto.data_location != _T.EXTERNAL and (other := next((f for f in _DATA if len(getattr(proto, f))), None)):
        raise ModelError("invalid", f"{source.path}: {where()} keeps its data in raw_data and {other}; there must be one place")
    if have is not None and bits is not None and have != (size := (want * bits + 7) // 8):
        raise ModelError(
            "invalid",
            f"{source.path}: {where()} of shape {extents} needs {size} bytes of data and has {have}; the file is damaged",
        )


def _entries(path: str, where: Where, proto: onnx.TensorProto, want: int, bits: int | None) -> None:
    """Data in a field of its own instead of raw_data: the right one, and as many entries as elements."""
    kind = proto.data_type
    field = _FIELDS[kind]
    if kind in (_T.COMPLEX64, _T.COMPLEX128):
        want *= 2
    elif bits is not None and bits < 8:
        want = (want * bits + 7) // 8
    have = len(getattr(proto, field))
    if have != want:
        other = next((f" and {len(getattr(proto, f))} in {f}" for f in _DATA if f != field and len(getattr(proto, f))), "")
        raise ModelError(
            "invalid", f"{path}: {where()} of shape {proto.dims[:]} needs {want} entries in {field} and has {have}{other}"
        )
    if others := [f for f in _DATA if f != field and len(getattr(proto, f))]:
        raise ModelError("invalid", f"{path}: {where()} keeps data in {others[0]}; ONNX wants it in {field}")


def _external(source: TensorSource, where: Where, proto: onnx.TensorProto) -> int | None:
    """Bytes of the data where the file tells. Cut payloads are external to the skeleton only."""
    path = source.path
    entries = {text(e.key): text(e.value) for e in proto.external_data}
    location = entries.get("location", "")
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", "-1"))
    except ValueError:
        raise ModelError("invalid", f"{path}: {where()}: offset and length of external data must be numbers") from None
    if location == INLINE:
        if offset not in source.payloads:
            raise ModelError("invalid", f"{path}: {where()} keeps its data at {INLINE!r}, a place that only npu-guard uses")
        return _cut(source, where, proto, source.payloads[offset])
    if proto.HasField("raw_data") or any(len(getattr(proto, name)) for name in _DATA):
        raise ModelError("invalid", f"{path}: {where()} keeps data in the file and beside it; there must be one place")
    if len(entries) != len(proto.external_data):
        raise ModelError("invalid", f"{path}: {where()} names its external data twice")
    name = f"{path}: {where()}"
    external_data.well_formed(location, name)
    if offset < 0 or ("length" in entries and length < 0):
        raise ModelError("invalid", f"{path}: {where()}: offset and length of external data must not be negative")
    bits = BITS.get(proto.data_type)
    wanted = (math.prod(proto.dims) * bits + 7) // 8 if bits is not None else 0
    if source.limits.external_data == "checked":
        if location not in source.sizes:
            source.sizes[location] = external_data.locate(Path(path).parent, location, name)[1]
        external_data.inside(offset, length if "length" in entries else wanted, source.sizes[location], location, name)
    return length if "length" in entries else None


def _cut(source: TensorSource, where: Where, proto: onnx.TensorProto, payload: Payload) -> int | None:
    """Bytes of data that stayed in the file. Numbers of variable length are not counted, as that would be to read them."""
    kind, held = proto.data_type, _NUMBERS[payload.holds]
    if held not in ("raw_data", _FIELDS[kind]) or (held == "raw_data" and kind == _T.STRING):
        raise ModelError("invalid", f"{source.path}: {where()} keeps its data in {held}; ONNX wants {_FIELDS[kind]}")
    if payload.holds in _MEMORY:
        return payload.size
    want, bits = math.prod(proto.dims), BITS.get(kind) or 8
    want = (want * bits + 7) // 8 if bits < 8 else want
    least = payload.size if held == "string_data" else -(-payload.size // 10)
    if not least <= want <= payload.size:
        have = f"{payload.size} entries" if held == "string_data" else f"{payload.size} bytes"
        raise ModelError(
            "invalid", f"{source.path}: {where()} of shape {proto.dims[:]} needs {want} entries in {held}, which has {have}"
        )
    return None


def sparse(source: TensorSource, where: Where, proto: onnx.SparseTensorProto) -> None:
    """Raise ModelError where values and indices of a sparse tensor do not go together."""
    dims(source, where, proto.dims)
    for part, name in ((proto.values, "values"), (proto.indices, "indices")):
        tensor(source, lambda name=name: f"{where()} ({name})", part)  # type: ignore[misc]
    count = math.prod(proto.values.dims)
    rows, rank = proto.indices.dims[:], len(proto.dims)
    if rows not in ([count], [count, rank]) or proto.indices.data_type != _T.INT64:
        raise ModelError("invalid", f"{source.path}: {where()} has {count} values and int64 indices of shape {rows}")
    if proto.indices.data_location != _T.EXTERNAL:
        found = onnx.numpy_helper.to_array(proto.indices)
        inside = found < (math.prod(proto.dims) if len(rows) == 1 else proto.dims[:])
        if not ((found >= 0) & inside).all():
            raise ModelError("invalid", f"{source.path}: {where()} of shape {proto.dims[:]} has an index outside")
        steps = [math.prod(proto.dims[axis + 1 :]) for axis in range(rank)]
        places = found if len(rows) == 1 else (found * steps).sum(axis=1)
        if not (places[1:] > places[:-1]).all():
            raise ModelError("invalid", f"{source.path}: {where()} has indices that are not in ascending order, each once")
