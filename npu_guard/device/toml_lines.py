"""In which line of a TOML file something stands. The parser of the standard library does not say."""

from __future__ import annotations

import re


class Lines:
    """Lines of tables and keys, found by their text."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.headers: list[tuple[int, tuple[str, ...], bool]] = []
        """(line from 0, parts of the name, whether it is one of a list) of each `[table]` and `[[table]]`."""
        for number, line in enumerate(self.lines):
            if (found := re.match(r"\s*(\[\[?)([^\[\]=]+)\]\]?\s*(#.*)?$", line)) is not None:
                parts = tuple(part.strip().strip("\"'") for part in found[2].split("."))
                self.headers.append((number, parts, found[1] == "[["))

    def of(self, path: tuple[str | int, ...]) -> int:
        """The line, from 1, of what a path such as ("limit", 2, "metric") leads to; of what is around it where it is unclear."""
        start, stop, rest = self._table(path)
        line = start
        for part in (str(p) for p in rest if not isinstance(p, int)):
            found = self._key(part, line, stop)
            if found is None:
                break
            line = found
        return min(line, len(self.lines) - 1) + 1 if self.lines else 1

    def _table(self, path: tuple[str | int, ...]) -> tuple[int, int, tuple[str | int, ...]]:
        """First and last line of the table that a path goes through, and what is left of the path."""
        ends = [number for number, _, _ in self.headers] + [len(self.lines)]
        if len(path) > 1 and isinstance(path[1], int):
            same = [i for i, (_, parts, many) in enumerate(self.headers) if many and parts == (path[0],)]
            if path[1] < len(same):
                index = same[path[1]]
                return self.headers[index][0], ends[index + 1], path[2:]
        best = max(
            (i for i, (_, parts, many) in enumerate(self.headers) if not many and parts == path[: len(parts)]),
            key=lambda i: len(self.headers[i][1]),
            default=None,
        )
        if best is not None:
            return self.headers[best][0], ends[best + 1], path[len(self.headers[best][1]) :]
        return 0, ends[0] if len(path) < 2 else len(self.lines), path

    def _key(self, key: str, start: int, stop: int) -> int | None:
        pattern = re.compile(rf"(?:^|[\s{{,.\"']){re.escape(key)}[\"']?\s*(?:[=.]|$)")
        return next((n for n in range(start, stop) if pattern.search(self.lines[n].split(" #")[0])), None)
