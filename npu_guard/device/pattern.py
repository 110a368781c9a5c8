"""Groups of operators that a compiler takes as one, or fails on together, as device files write them.

    [[pattern]]
    name = "Gelu"
    graph = '''
    d = Div(x, root)
    e = Erf(d)
    a = Add(e, one)
    m = Mul(x, a)
    y = Mul(m, half)
    '''
    constants = { root = 1.41421356, one = 1, half = 0.5 }

A line is one operator; its operands are earlier lines, constants, or values from outside. The last line is what the group gives.
Add, Mul, Max and Min take their operands in either order. What stands between the lines is read by the group alone, unless
`shared` names it. The operators of a group are under no limit: the compiler never sees them. With a `consequence` it is the
reverse: each of them would fit, and the compiler does not do with the group what its author meant.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from npu_guard.base.errors import UsageError
from npu_guard.device.keys import Consequence, suggest
from npu_guard.device.predicate import Clause, Condition, clause


class PatternEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[pattern]]`: operators that the compiler takes as one."""

    name: str
    """What it takes them as, such as "Gelu"."""
    graph: str
    """Lines such as `e = Erf(d)`; the last one gives the result."""
    constants: dict[str, float | str] = {}
    """Operands that must be constant: the number that they must be, or "any"."""
    ranks: dict[str, int] = {}
    """Values of at most this rank."""
    shared: tuple[str, ...] = ()
    """Values between the lines that operators outside may read as well."""
    ordered: tuple[str, ...] = ()
    """Lines whose operands have to stand in this order, where it would not matter otherwise."""
    where: dict[str, dict[str, Condition]] = {}
    """By line, what must hold of its operator, as in `when` of a limit: `{ t = { perm = [[0, 2, 1]] } }`."""
    consequence: Consequence | None = None
    """What becomes of a group that does not fit, where each of its operators would; without it the compiler takes it as one."""
    quantized: bool = False
    """Whether a QuantizeLinear and a DequantizeLinear of whole tensors may stand between the lines, as a part of the group."""
    variants: tuple[str, ...] = ()
    toolchain: str = ""
    """Versions of the compiler that take it, such as ">=4.5, <5"."""
    source: str = ""
    note: str = ""


class Line(msgspec.Struct, frozen=True):
    """One operator of a pattern."""

    output: str
    op: str
    inputs: tuple[str, ...]


class Pattern(msgspec.Struct, frozen=True):
    """A group of operators, by the names of their results; the root is the last line."""

    name: str
    lines: Mapping[str, Line]
    root: str
    constants: Mapping[str, float | str]
    ranks: Mapping[str, int]
    shared: frozenset[str]
    ordered: frozenset[str]
    where: Mapping[str, tuple[Clause, ...]]
    source: str
    note: str = ""
    quantized: bool = False
    consequence: str = ""

    @property
    def root_op(self) -> str:
        """The operator that gives the result."""
        return self.lines[self.root].op

    def words(self) -> str:
        """The group on one line, for pages."""
        text = {name: str(value) for name, value in self.constants.items()}
        for line in self.lines.values():
            text[line.output] = f"{line.op}({', '.join(text.get(name, name) for name in line.inputs)})"
        return text[self.root]


_MOST_LINES = 32
_LINE = r"(\w+)\s*=\s*([\w.:]+)\s*\(\s*(\w+(?:\s*,\s*\w+)*)\s*\)"
"""Compiled for the first device that has patterns; most have none."""


def pattern(entry: PatternEntry, source: str, where: str) -> Pattern:
    """A pattern from what a file says. Raises UsageError."""
    lines: dict[str, Line] = {}
    for text in filter(None, map(str.strip, entry.graph.splitlines())):
        match = re.fullmatch(_LINE, text)
        if match is None:
            raise UsageError(f"{where}: {text!r} is no line of a graph; one is written as 'e = Erf(d)'")
        if match[1] in lines:
            raise UsageError(f"{where}: two lines give {match[1]!r}")
        inputs = tuple(re.split(r"\s*,\s*", match[3]))
        if later := next((line.output for line in lines.values() if match[1] in line.inputs), ""):
            raise UsageError(f"{where}: {later!r} reads {match[1]!r}, which a later line gives")
        if match[1] in inputs:
            raise UsageError(f"{where}: {match[1]!r} reads itself")
        lines[match[1]] = Line(match[1], match[2], inputs)
    if not 2 <= len(lines) <= _MOST_LINES:
        raise UsageError(f"{where}: a group of operators has 2 to {_MOST_LINES} lines, and this {len(lines)}")
    root = next(reversed(lines))
    named = {name for line in lines.values() for name in (line.output, *line.inputs)}
    _refuse_unknown(where, "constants", entry.constants, named - set(lines))
    _refuse_unknown(where, "ranks", entry.ranks, named)
    _refuse_unknown(where, "ordered", entry.ordered, set(lines))
    _refuse_unknown(where, "where", entry.where, set(lines))
    _refuse_unknown(where, "shared", entry.shared, set(lines) - {root})
    for name, value in entry.constants.items():
        if isinstance(value, str) and value != "any":
            raise UsageError(f'{where}: the constant {name!r} is {value!r}; it must be a number or "any"')
    if unread := set(lines) - set(_behind(root, lines)):
        raise UsageError(f"{where}: {min(unread)!r} leads to nothing; the last line, {root!r}, must be made of all others")
    conditions = {
        line: tuple(clause(name, condition, f"{where}, where") for name, condition in table.items())
        for line, table in entry.where.items()
    }
    return Pattern(
        entry.name, lines, root, entry.constants, entry.ranks, frozenset(entry.shared), frozenset(entry.ordered), conditions,
        entry.source or source, entry.note, entry.quantized, entry.consequence or "",
    )  # fmt: skip


def _refuse_unknown(where: str, key: str, names: Any, known: set[str]) -> None:
    for name in names:
        if name not in known:
            raise UsageError(f"{where}: {key} names {name!r}, which stands in no line{suggest(name, known)}")


def _behind(name: str, lines: Mapping[str, Line]) -> Iterator[str]:
    """Lines that lead to one, itself among them."""
    waiting, seen = [name], set[str]()
    while waiting:
        current = waiting.pop()
        if current in seen or current not in lines:
            continue
        seen.add(current)
        yield current
        waiting += lines[current].inputs
