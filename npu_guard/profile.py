"""A device's limits as data: TOML files in `rules/profiles/`, or of the user's own.

Every limit has a source and every key a reader: the table LIMITS is the whole vocabulary.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from npu_guard.errors import UsageError
from npu_guard.results import Severity

LIMITS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "conv.kernel_max": (int, "longest axis of a convolution kernel, in taps, dilation not counted"),
    "conv.dilated_extent_max": (int, "longest reach of a convolution kernel, (k-1)d+1 pixels"),
    "conv.stride_max": (int, "largest stride of a convolution"),
    "conv.group_max": (int, "largest group count of a convolution that is not depthwise"),
    "conv.group_channels_multiple": (int, "channels per group, in and out, of a convolution that is not depthwise"),
    "conv.rank": (list, "ranks of a convolution's input tensor"),
    "conv.constant_weights": (bool, "whether a convolution's weights must be constant"),
    "pool.window_max": (int, "longest axis of a pooling window that is not global"),
    "pool.stride_max": (int, "largest stride of a pooling window"),
    "pad.max": (int, "largest padding at one side of a convolution or pooling window"),
    "pad.modes": (list, "modes of the Pad operator"),
    "reduce.axes": (list, "sets of axes that may be reduced together; an extent of 1 does not count"),
    "reduce.max_channels": (int, "channels that ReduceMax may reduce"),
    "channels.multiple_of": (int, "output channels of Conv, ConvTranspose and Gemm"),
    "tensor.rank_max": (int, "rank of an activation"),
    "tensor.static_shape": (bool, "whether every extent but the batch must be known at compile time"),
    "tensor.dtypes": (list, "element types of activations"),
    "tensor.bytes_max": (int, "size of one activation in bytes, in the element type of the model"),
    "layout.rearrange": (bool, "whether the device can move data between channels and space (Reshape, Transpose)"),
    "layout.vectors": (bool, "whether the device runs [B, C] vectors (Flatten and Gemm at the tail)"),
    "matmul.spatial": (bool, "whether the device multiplies activations, or tokens by weights"),
    "attention.node_budget": (int, "operators that may take the place of one attention where it is written out exactly"),
    "resize": (list, "forms of Resize: mode, scales (a list, or 'integer'), coordinate transformations"),
}
"""Key: (type of the value, what it limits). A limit that a profile does not set is no limit."""

Scope = Literal["channels"]


class ResizeForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One form of Resize that a device has. `scales` are the same in height and width."""

    mode: str
    scales: tuple[float, ...] | Literal["integer"]
    transforms: tuple[str, ...] = ()


class _Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    value: Any
    source: str = ""
    note: str = ""


class _Operators(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    status: Literal["supported", "refused", "judged"]
    names: tuple[str, ...]
    source: str = ""
    reason: str = ""
    only: Scope | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    name: str
    title: str
    source: str
    extends: str = ""
    notes: tuple[str, ...] = ()
    limits: dict[str, _Limit] = {}
    operators: tuple[_Operators, ...] = ()
    severity: dict[str, Literal["error", "warning", "note"]] = {}


class Limit(msgspec.Struct, frozen=True):
    """A device's limit with its source."""

    key: str
    value: Any
    source: str
    note: str = ""


class Operator(msgspec.Struct, frozen=True):
    """What a device's documents say of an operator: `supported`, `refused`, or `judged` by a rule of its own."""

    status: str
    source: str
    reason: str = ""
    only: Scope | None = None


class Profile(msgspec.Struct, frozen=True):
    """One device."""

    name: str
    title: str
    source: str
    notes: tuple[str, ...]
    limits: Mapping[str, Limit]
    operators: Mapping[str, Operator]
    severity: Mapping[str, Severity]

    def limit(self, key: str) -> Any:
        """The value of a limit, None where the device sets none."""
        assert key in LIMITS, key  # no rule reads a key that no profile could set
        found = self.limits.get(key)
        return None if found is None else found.value


def load_profile(path: Path, known: Mapping[str, Path]) -> Profile:
    """Read a profile and those that it extends; `known` maps names to files. Raises UsageError."""
    return _resolve(path, known, ())


def _resolve(path: Path, known: Mapping[str, Path], above: tuple[str, ...]) -> Profile:
    file = _read(path)
    if file.name in above:
        raise UsageError(f"profile {path.name}: extends itself by way of {' -> '.join(above)}")
    base = Profile(file.name, file.title, file.source, (), {}, {}, {})
    if file.extends:
        if file.extends not in known:
            raise UsageError(f"profile {path.name}: extends {file.extends!r}, which is no profile{suggest(file.extends, known)}")
        base = _resolve(known[file.extends], known, (*above, file.name))
    limits = dict(base.limits)
    for key, entry in file.limits.items():
        limits[key] = Limit(key, limit_value(f"profile {path.name}", key, entry.value), entry.source or file.source, entry.note)
    operators = dict(base.operators)
    for group in file.operators:
        for op in group.names:
            operators[op] = Operator(group.status, group.source or file.source, group.reason, group.only)
    severity = dict(base.severity) | {code: Severity(word) for code, word in file.severity.items()}
    return Profile(file.name, file.title, file.source, (*base.notes, *file.notes), limits, operators, severity)


def _read(path: Path) -> _File:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"profile {path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"profile {path}: cannot be read ({error})") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"profile {path.name}: not valid TOML: {error}") from None
    # [limits.conv] kernel_max = ... is easier to write than dotted keys; both mean "conv.kernel_max".
    data["limits"] = _flatten(data.get("limits", {}))
    file: _File = convert(data, _File, f"profile {path.name}")
    return file


def _flatten(tree: Any, prefix: str = "") -> Any:
    if not isinstance(tree, dict) or prefix in LIMITS or "value" in tree:
        return tree
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        dotted = f"{prefix}.{key}" if prefix else key
        if isinstance(value, dict) and "value" not in value and dotted not in LIMITS:
            inner = _flatten(value, dotted)
            flat.update(inner if inner else {dotted: value})
        else:
            flat[dotted] = value
    return flat


def limit_value(where: str, key: str, value: Any) -> Any:
    """A limit as rules read it, from what TOML or an example says; `where` is for messages. Raises UsageError."""
    if key not in LIMITS:
        raise UsageError(f"{where}: unknown limit {key!r}{suggest(key, LIMITS)}")
    wanted: Any = LIMITS[key][0]
    if not isinstance(value, wanted) or (wanted is int and (isinstance(value, bool) or value < 1)):
        words = {int: "a whole number of at least 1", list: "a list", bool: "true or false"}
        raise UsageError(f"{where}: limit {key!r} is {value!r}; it must be {words[wanted]}")
    if key == "resize":
        return tuple(convert(v, ResizeForm, f"{where}, limit 'resize'") for v in value)
    if key == "reduce.axes":
        return tuple(tuple(convert(v, list[int], f"{where}, limit {key!r}")) for v in value)
    if wanted is list:
        return tuple(convert(value, list[int] if key == "conv.rank" else list[str], f"{where}, limit {key!r}"))
    return value


def convert(data: Any, kind: type, where: str) -> Any:
    """msgspec's validation with our one-sentence errors and a suggestion for unknown keys."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        message = str(error).replace("Object contains unknown field ", "unknown key ")
        message = message.replace("`", "'").replace(" - at '$", " at '")
        if message.startswith("unknown key") and issubclass(kind, msgspec.Struct):
            unknown = message.split("'")[1]
            message += suggest(unknown, [f.encode_name for f in msgspec.structs.fields(kind)])
        raise UsageError(f"{where}: {message}") from None


def suggest(word: str, known: Any) -> str:
    """`; did you mean 'x'?` or nothing."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""
