"""What msgspec refuses, in words for whoever writes settings, device files, plans and baselines."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args, get_origin

import msgspec

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_KINDS = {
    "int": "a whole number", "float": "a number", "str": "words in quotes", "bool": "true or false",
    "array": "a list", "object": "a table", "str | array": "words in quotes or a list",
}  # fmt: skip


class Refusal(NamedTuple):
    """One sentence, and the keys and positions that lead to what it is about."""

    message: str
    place: tuple[str | int, ...]


def explain(error: msgspec.ValidationError, data: Any, kind: Any, suggest: Callable[[str, list[str]], str]) -> Refusal:
    """The sentence for an error that `msgspec.convert(data, kind)` raised; `suggest` words what may have been meant."""
    said, _, at = str(error).partition(" - at `$")
    place, value, wanted = _follow(at.rstrip("`"), data, kind)
    shown = _shown(place)
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", said):
        known = [f.encode_name for f in msgspec.structs.fields(wanted)] if _is_struct(wanted) else []
        meant = suggest(found[1], known) or (f"; known are {', '.join(known)}" if known else "")
        return Refusal(f"{f'{shown}: ' if shown else ''}unknown key {found[1]!r}{meant}", (*place, found[1]))
    if found := re.fullmatch(r"Object missing required field `(.*)`", said):
        return Refusal(f"{found[1]!r} is missing{f' in {shown}' if shown else ''}", place)
    what = f"{f'{shown} ' if shown else ''}is {_brief(value)}"
    if said.startswith("Invalid enum value"):
        words = _words(wanted)
        meant = suggest(value, [w for w in words if isinstance(w, str)]) if isinstance(value, str) else ""
        choice = f"one of {', '.join(map(str, words))}" if len(words) > 1 else str(words[0]) if words else "another word"
        return Refusal(f"{what}{f'{meant} It' if meant else '; it'} must be {choice}", place)
    if found := re.fullmatch(r"Expected `([^`]*)`, got `[^`]*`", said):
        kinds = [part for part in found[1].split(" | ") if part != "null"]
        kinds = [part for part in kinds if part != "int" or "float" not in kinds]
        joined = _KINDS.get(" | ".join(kinds)) or " or ".join(_KINDS.get(part, part) for part in kinds)
        lists = f"a list of tables, each below [[{shown}]]" if isinstance(value, dict) and kinds == ["array"] else joined
        return Refusal(f"{what}; it must be {lists}", place)
    return Refusal(f"{f'{shown}: ' if shown else ''}{said.replace('`', chr(39))}", place)


def _follow(path: str, data: Any, kind: Any) -> tuple[tuple[str | int, ...], Any, Any]:
    """Place, value and type that a path of msgspec leads to. Of a table it does not say the key, so the first that fails is."""
    place: list[str | int] = []
    for name, position in _STEP.findall(path):
        kind = _member(kind, name)
        if name:
            place.append(name)
            data = data.get(name) if isinstance(data, dict) else None
            kind = next((f.type for f in msgspec.structs.fields(kind) if f.encode_name == name), None) if kind else None
        elif position == "..." and isinstance(data, dict):
            kind = get_args(kind)[1] if len(get_args(kind)) == 2 else None
            key = next((key for key, value in data.items() if not _fits(value, kind)), None)
            place.append(str(key))
            data = data.get(key)
        else:
            arguments, index = get_args(kind), int(position) if position.isdigit() else 0
            kind = (arguments[0] if len(arguments) == 1 or arguments[-1] is ... else arguments[index]) if arguments else None
            place.append(index)
            data = data[index] if isinstance(data, (list, tuple)) and index < len(data) else None
    return tuple(place), data, _member(kind, "")


def _member(kind: Any, name: str) -> Any:
    """Of a choice of types the one that has the next step: a structure for a name, else whatever has parts."""
    if kind is None or _is_struct(kind) or get_origin(kind) in (dict, list, tuple, Literal):
        return None if name and kind is not None and not _is_struct(kind) else kind
    parts = [part for part in get_args(kind) if part is not type(None)]
    return next((p for p in parts if _is_struct(p)), None) if name else parts[0] if len(parts) == 1 else kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind if kind is not None else Any)
    except msgspec.ValidationError:
        return False
    return True


def _words(kind: Any) -> list[Any]:
    """The words that a type allows."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return [member.value for member in kind]
    return list(get_args(kind)) if get_origin(kind) is Literal else [word for part in get_args(kind) for word in _words(part)]


def _shown(place: tuple[str | int, ...]) -> str:
    """`suppress, entry 1, rule`; keys alone are joined as TOML joins them."""
    text = ""
    for part in place:
        text += (
            f"{', ' if text else ''}entry {part + 1},"
            if isinstance(part, int)
            else f"{' ' if text.endswith(',') else '.' if text else ''}{part}"
        )
    return text.rstrip(",")


def _brief(value: Any) -> str:
    """A value as its author wrote it, where it is short."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
