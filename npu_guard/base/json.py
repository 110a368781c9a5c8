"""JSON as every command writes it: indented, all ASCII, and nothing that another parser refuses."""

from __future__ import annotations

from typing import Any

import msgspec

from npu_guard.base.text import json_ascii


def json_text(document: Any) -> str:
    """A document of Structs, dicts and lists, with a final newline. Infinite numbers are null, as JSON has none.

    A lone surrogate, which a file name that is not UTF-8 brings along, becomes its escape as text: no JSON carries it.
    """
    try:
        content = msgspec.json.encode(document)
    except UnicodeEncodeError:
        content = msgspec.json.encode(_carried(msgspec.to_builtins(document)))
    return json_ascii(msgspec.json.format(content, indent=2).decode()) + "\n"


def _carried(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_carried(key): _carried(entry) for key, entry in value.items()}
    return [_carried(entry) for entry in value] if isinstance(value, list | tuple) else value
