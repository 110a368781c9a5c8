"""The JSON Schema of device files, for editors that complete and check TOML. Made from the structures that read them."""

from __future__ import annotations

import ast
import functools
import inspect
import json
from typing import Any

import msgspec

from npu_guard.device import file, predicate
from npu_guard.device.keys import LIMITS, ResizeForm
from npu_guard.device.vocabulary import METRICS, VIEWS

_VALUES: dict[str, dict[str, Any]] = {
    "conv.rank": {"type": "array", "items": {"type": "integer"}},
    "reduce.axes": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
    "resize": {"type": "array", "items": {"$ref": "#/$defs/ResizeForm"}},
}
_TYPES: dict[Any, dict[str, Any]] = {
    int: {"type": "integer", "minimum": 1}, bool: {"type": "boolean"}, list: {"type": "array", "items": {"type": "string"}},
}  # fmt: skip


def profile_schema() -> str:
    """The schema as JSON text (draft 2020-12)."""
    _, definitions = msgspec.json.schema_components([file.ProfileFile, ResizeForm], ref_template="#/$defs/{name}")
    for name, definition in definitions.items():
        kind = getattr(file, name, None) or getattr(predicate, name, None) or ResizeForm
        for field, words in _words(kind).items():
            if field in definition.get("properties", {}):
                definition["properties"][field] = {**definition["properties"][field], "description": words}
    profile = definitions["ProfileFile"]
    profile["properties"]["limits"] = _limits(definitions["LimitEntry"])
    requirement = definitions["RequirementEntry"]["properties"]
    requirement["metric"] = {
        "type": "string", "description": "what the limit bounds: " + "; ".join(f"{n}: {b.meaning}" for n, b in METRICS.items()),
        "examples": [*METRICS, *(f"kernel.{view}" for view in VIEWS if view not in ("begin", "end"))],
    }  # fmt: skip
    conditions = {"type": "object", "properties": {name: {"description": base.meaning} for name, base in METRICS.items()}}
    requirement["when"] = {**conditions, "description": requirement["when"]["description"]}
    pattern = definitions["PatternEntry"]["properties"]
    pattern["where"] = {"type": "object", "additionalProperties": conditions, "description": pattern["where"]["description"]}
    requirement["any_of"] = {"type": "array", "items": conditions, "description": requirement["any_of"]["description"]}
    whole = {
        **profile, "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Device file of npu-guard",
        "$defs": {name: d for name, d in sorted(definitions.items()) if name != "ProfileFile"},
    }  # fmt: skip
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _limits(entry: dict[str, Any]) -> dict[str, Any]:
    """Both spellings of each key: `[limits.conv] kernel_max` and `"conv.kernel_max"`."""
    properties: dict[str, Any] = {}
    for key, (kind, meaning) in LIMITS.items():
        value = _VALUES.get(key) or _TYPES[kind]
        one = {**entry, "properties": {**entry["properties"], "value": value}, "description": meaning}
        properties[key] = one
        first, _, rest = key.partition(".")
        if rest:
            group = properties.setdefault(first, {"type": "object", "properties": {}, "additionalProperties": False})
            group["properties"][rest] = one
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "description": "limits of the whole device",
    }


def _words(kind: type[msgspec.Struct]) -> dict[str, str]:
    """What the docstrings below the fields of a structure say, those of its bases included."""
    found: dict[str, str] = {}
    names = {f.name: f.encode_name for f in msgspec.structs.fields(kind)}
    for base in reversed(kind.__mro__):
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            found |= {names[name]: words for name, words in _docstrings(base).items() if name in names}
    return found


@functools.cache
def _docstrings(kind: type) -> dict[str, str]:
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for before, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and isinstance(after, ast.Expr):
            value = after.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[before.target.id] = inspect.cleandoc(value.value).replace("\n", " ")
    return found
