"""Module paths in the names of torch's older exporter, which numbers the calls of a module: `/mlp/mlp.0_1/Conv`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_guard.base.regex import regex

if TYPE_CHECKING:
    from npu_guard.graph.graph import Model

_LONG, _DEEP = 400, 40
"""Characters and slashes of names beyond which nobody has called a module twice."""
CALL = regex(r"(.+?)_[1-9]\d{0,5}")
"""A module that is called again."""
PARAMETER = regex(r"^([A-Za-z_]\w{0,100}(?:\.\w{1,100}){0,50})\.(?:weight|bias)(?=$|\W|_)")
"""The name of a parameter, behind that of its module."""


class Calls:
    """What is known of the names of one model."""

    def __init__(self) -> None:
        self._ways: set[str] | None = None
        """Beginnings of the names, up to each slash."""
        self._parts: set[str] = set()
        """Names of modules with parameters and of those around them."""
        self._known: dict[str, tuple[tuple[str, ...], str]] = {}
        """By such a beginning, the module that it means, and the last entry without the number of a call."""

    def scope(self, name: str, model: Model) -> tuple[str, ...]:
        """`/layer1/layer1.0/conv1/Conv` is module layer1.0.conv1: an entry that goes on from the one before repeats it."""
        whole = name.rpartition("/")[0]
        found = self._known.get(whole)
        if found is not None:  # as of all nodes of a module but the first
            return found[0]
        path: tuple[str, ...] = ()
        before = way = ""
        above, _, last = whole.rpartition("/")
        if (found := self._known.get(above)) is not None:  # as of all modules of a module but the first
            (path, before), way, entries = found, above, [last]
        else:
            entries = whole.split("/")[1:]
        for entry in entries:
            way = f"{way}/{entry}"
            if (found := self._known.get(way)) is None:
                again = CALL.fullmatch(entry)
                part = again.group(1) if again is not None and self._is_second(way, again.group(1), model) else entry
                own = part[len(before) + 1 :] if before and part.startswith(before + ".") else part
                found = self._known[way] = (*path, *[p for p in own.split(".") if p]), part
            path, before = found
        return path

    def _is_second(self, way: str, first: str, model: Model) -> bool:
        """Whether an entry with a number is a call of the module without it, and no module with parameters of its own."""
        if self._ways is None:
            names = [
                n.name for n in model.graph.walk() if n.name[:1] == "/" and len(n.name) < _LONG and n.name.count("/") < _DEEP
            ]
            self._ways = {name[:end] for name in names for end, c in enumerate(name) if c == "/" and end}
            owners = (found.group(1) for name in model.graph.values if (found := PARAMETER.match(name)) is not None)
            self._parts = {part for module in owners for part in module.split(".")}
        parent, _, last = way.rpartition("/")
        return f"{parent}/{first}" in self._ways and last.rpartition(".")[2] not in self._parts
