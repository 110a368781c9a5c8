"""What a serialized model takes in memory once protobuf has parsed it, by an estimate, before that happens.

An empty message of two bytes takes two hundred, so a file of 60 MB may become gigabytes.
"""

from __future__ import annotations

import functools

from npu_guard.base.errors import ModelError
from npu_guard.base.limits import Limits, exceeded

_ENTRY = "StringStringEntryProto"
_Inside = dict[int, tuple[int, "_Inside | None"]]
_COSTS: dict[str, tuple[int, dict[int, str] | None]] = {
    "ModelProto": (0, {7: "GraphProto", 8: "small", 14: _ENTRY, 20: "TrainingInfoProto", 25: "FunctionProto",
                       26: "DeviceConfigurationProto"}),
    "TrainingInfoProto": (100, {1: "GraphProto", 2: "GraphProto", 3: _ENTRY, 4: _ENTRY}),
    "FunctionProto": (240, {4: "string", 5: "string", 6: "string", 7: "NodeProto", 9: "small", 11: "AttributeProto",
                            12: "ValueInfoProto", 14: _ENTRY}),
    "GraphProto": (180, {1: "NodeProto", 5: "TensorProto", 11: "ValueInfoProto", 12: "ValueInfoProto", 13: "ValueInfoProto",
                         14: "TensorAnnotation", 15: "SparseTensorProto", 16: _ENTRY}),
    "NodeProto": (240, {1: "string", 2: "output", 5: "AttributeProto", 9: _ENTRY, 10: "NodeDeviceConfigurationProto"}),
    "AttributeProto": (240, {5: "TensorProto", 6: "GraphProto", 8: "numbers", 9: "string", 10: "TensorProto", 11: "GraphProto",
                             14: "TypeProto", 15: "TypeProto", 22: "SparseTensorProto", 23: "SparseTensorProto"}),
    "TensorProto": (220, {1: "numbers", 3: _ENTRY, 5: "numbers", 6: "string", 7: "numbers", 11: "numbers", 13: _ENTRY,
                          16: _ENTRY}),
    "SparseTensorProto": (100, {1: "TensorProto", 2: "TensorProto", 3: "numbers"}),
    "ValueInfoProto": (64, {2: "TypeProto", 4: _ENTRY}),
    "TensorAnnotation": (100, {2: _ENTRY}),
    "TypeProto": (48, {1: "Tensor", 4: "Sequence", 5: "Map", 7: _ENTRY, 8: "Tensor", 9: "Sequence"}),
    "Tensor": (40, {2: "TensorShapeProto"}),
    "Sequence": (40, {1: "TypeProto"}),
    "Map": (40, {2: "TypeProto"}),
    "TensorShapeProto": (100, {1: "small"}),
    "DeviceConfigurationProto": (100, {3: "string"}),
    "NodeDeviceConfigurationProto": (100, {2: "ShardingSpecProto"}),
    "ShardingSpecProto": (100, {2: "numbers", 3: "Numbers", 4: "ShardedDimProto"}),
    "Numbers": (100, {2: "numbers"}),
    "ShardedDimProto": (100, {2: "small"}),
    _ENTRY: (110, {}),
    "small": (48, {}),  # Dimension, OperatorSetIdProto
    "string": (16, None),
    "output": (300, None),  # a value of ours, and of ONNX's inference
    "numbers": (0, None),
}  # fmt: skip
"""What each message costs in memory beside its text, as measured, and what is in it: {field number: message}."""
_FIELD, _NUMBER, _WORST = 16, 16, 160
"""What a field costs in memory, and a packed number while its list grows; none becomes larger than so many times its bytes."""
_FIXED = {1: 8, 5: 4}
_HIGH = bytes(range(128, 256))


def bound(data: bytes, path: str, limits: Limits) -> None:
    """Raise ModelError where protobuf would make too much of a serialized ModelProto.

    A small model is not looked at, whatever is in it.
    """
    most = limits.parsed_bytes
    if len(data) * _WORST <= most:
        return
    try:
        have = _parsed(data, most)
    except (IndexError, KeyError):  # past the end; or a group, which has no length to skip it by and is in no ONNX file
        raise ModelError("not-onnx", f"{path}: not an ONNX file (malformed protobuf)") from None
    if have > most:
        raise exceeded(path, "bytes that its nodes, attributes and all else take in memory:", have, "parsed-bytes", most)


def _parsed(data: bytes, most: int) -> int:
    """Bytes that a ModelProto takes once it is parsed; counts little further than `most`."""
    inside = _by_tag()
    outer: list[tuple[int, _Inside]] = []
    pos = 0
    have = end = len(data)
    while have <= most:
        if pos >= end:
            if pos > end:
                raise IndexError
            if not outer:
                break
            end, inside = outer.pop()
            continue
        tag = data[pos]
        pos += 1
        if tag >= 0x80:
            tag, pos = _varint(data, pos - 1)
        if (known := inside.get(tag)) is not None:
            length = data[pos]
            pos += 1
            if length >= 0x80:
                length, pos = _varint(data, pos - 1)
            if pos + length > end:
                raise IndexError
            cost, within = known
            have += cost
            if within is not None:
                outer.append((end, inside))
                end, inside = pos + length, within
                continue
            if cost == _FIELD:
                have += _NUMBER * len(data[pos : pos + length].translate(None, _HIGH))
            pos += length
            continue
        have += _FIELD
        wire = tag & 7
        if wire == 0:
            _, pos = _varint(data, pos)
        elif wire == 2:
            length, pos = _varint(data, pos)
            pos += length
        else:
            pos += _FIXED[wire]
    return have


@functools.cache
def _by_tag() -> _Inside:
    """What a ModelProto holds: {tag: (cost of a field, what is in that)}."""
    tables: dict[str, _Inside] = {kind: {} for kind in _COSTS}
    for kind, (_, fields) in _COSTS.items():
        for number, name in (fields or {}).items():
            cost, within = _COSTS[name]
            tables[kind][number << 3 | 2] = (_FIELD + cost, None if within is None else tables[name])
    return tables["ModelProto"]


def _varint(data: bytes, pos: int) -> tuple[int, int]:
    """(value, position behind it)."""
    value = shift = 0
    while (byte := data[pos]) >= 0x80 and shift < 70:
        value |= (byte & 0x7F) << shift
        shift += 7
        pos += 1
    return value | byte << shift, pos + 1
