"""What an operator is, stated once for all rooms: its kind, what its inputs are for, where its axes stand, how it treats zeros.

Facts alone: what is done about an operator stands in the tables of handlers of each room (`handlers.py`), which go by kind. The
rows are in `op_table.py` and `op_table_microsoft.py`; each is read when somebody asks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from npu_guard.graph.op_table import ONNX
from npu_guard.graph.plain_names import LAYOUT_DOMAINS, PLAIN

if TYPE_CHECKING:
    from npu_guard.graph.op_words import Kind, Role


class Input(Struct, frozen=True):
    """One formal input of an operator."""

    name: str
    """ONNX's name of it."""
    role: Role
    optional: bool = False
    default: float | None = None
    """The number that counts where the input is left out; None where that is no number (all axes, equal parts, no mask)."""
    since: int = 1
    """Opset from which on it is an input; before, it is an attribute."""
    attributes: tuple[str, ...] = ()
    """Names of that attribute."""


class Axes(Struct, frozen=True):
    """Where the axes of an operator are stated."""

    name: str
    """Attribute or input: `axis` is one number, `axes` and `perm` are lists."""
    default: int | None = None
    """The axis where neither node nor ONNX's schema states one."""
    rest_before: int | None = None
    """Opset before which the operator runs over the axis and all behind it; None where it runs over what is stated."""


ALWAYS = 1 << 31
"""`Axes.rest_before` of operators that always run over the axis and all behind it."""


class Operator(Struct, frozen=True):
    """Facts of one operator. An operator without a record has the kind `unknown` and no formal inputs."""

    name: str
    domain: str = ""
    kind: Kind = "unknown"
    inputs: tuple[Input, ...] = ()
    variadic: bool = False
    """Whether the last inputs may follow any number of times."""
    repeats: int = 1
    """How many inputs follow again each time, where it is variadic."""
    keeps_zero: bool = False
    """Whether data of zeros alone gives zeros, for all attributes."""
    keeps_finite: bool = False
    """Whether finite data gives finite results, for all attributes; exp does not, as it overflows at 89."""
    finite_at_zero: bool = False
    """Whether data of zeros alone gives finite results."""
    axes: Axes | None = None
    family: str = ""
    """The operator that exporters and simplifiers write for the same step; its own name where there is none."""
    sized_by_data: bool = False
    """Whether the output's shape depends on values."""
    corner: float | None = None
    """Where the function turns or is computed otherwise from there on, and at minus that, whatever its attributes."""
    formula: str = ""
    """What a unary operator makes of an element x, as `analysis/formula.py` computes it; empty where it is no formula."""

    @property
    def is_known(self) -> bool:
        """Whether there is a record of it."""
        return self.kind != "unknown"

    def input(self, index: int) -> Input | None:
        """The formal input behind an index, None where the operator has no such input."""
        if self.variadic and index >= len(self.inputs):
            first = len(self.inputs) - self.repeats
            return self.inputs[first + (index - first) % self.repeats]
        return self.inputs[index] if 0 <= index < len(self.inputs) else None

    def role(self, index: int) -> Role | None:
        """What the input behind an index is for, None where the operator has no such input or is not known."""
        formal = self.input(index)
        return None if formal is None else formal.role

    def index(self, name: str) -> int | None:
        """Index of a formal input by its name, None where there is none."""
        return next((i for i, formal in enumerate(self.inputs) if formal.name == name), None)

    def indices(self, *roles: Role) -> tuple[int, ...]:
        """Indices of the formal inputs that have one of the roles; of a variadic input, that of the first."""
        return tuple(i for i, formal in enumerate(self.inputs) if formal.role in roles)


def find_operator(op_type: str, domain: str = "") -> Operator:
    """The record of an operator; one of the kind `unknown` where there is none."""
    key = (domain, op_type)
    operator = _RECORDS.get(key)
    if operator is None:
        operator = _read(op_type, domain, *_find_row(op_type, domain))
        if operator.is_known or len(_RECORDS) < _MOST:
            _RECORDS[key] = operator
    return operator


def other_family(op: str) -> str:
    """The operator that another one, as findings call it, is a spelling of; empty where it is its own."""
    family = family_of(op)
    return "" if family == op else family


def family_of(op: str) -> str:
    """The operator that this is a spelling of, also in integer arithmetic, fused with its neighbours or in another layout."""
    return find_operator(PLAIN.get(op, op)).family


def find_kind(op_type: str, domain: str = "") -> Kind:
    """The kind alone, for which a row need not be read."""
    key = (domain, op_type)
    kind = _KINDS.get(key)
    if kind is None:
        operator = _RECORDS.get(key)
        kind = operator.kind if operator is not None else _find_row(op_type, domain)[0]
        if kind != "unknown" or len(_KINDS) < _MOST:
            _KINDS[key] = kind
    return kind


def operators(*kinds: Kind, domain: str | None = None) -> tuple[Operator, ...]:
    """All records, of some kinds or of a domain where these are given, in the order of the tables."""
    homes = ("", "com.microsoft")
    keys = [(own or home, name) for home in homes for own, name in _keys(_tables(home), kinds or tuple(_tables(home)))]
    return tuple(find_operator(name, home) for home, name in keys if domain in (None, home))


@functools.cache
def names(*kinds: Kind) -> tuple[str, ...]:
    """Names of ONNX's own operators of some kinds."""
    rows = "".join(ONNX.get(kind, "") for kind in kinds).replace("\n    ", " ").split("\n")
    return tuple([row.partition(" |")[0] for row in rows if row and "::" not in row])


def _keys(table: Mapping[str, str], kinds: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Domain, where one is written, and name of each row."""
    for kind in kinds:
        for row in table.get(kind, "").replace("\n    ", " ").strip().splitlines():
            domain, _, name = row.partition(" |")[0].rpartition("::")
            yield domain, name


_RECORDS: dict[tuple[str, str], Operator] = {}
"""Records by domain and name, each read once: a model has few different operators. Tests add made-up operators here."""
_KINDS: dict[tuple[str, str], Kind] = {}
_MOST = 1024
"""Records to keep before names without one are forgotten again: hostile models have as many as they like."""


def _tables(domain: str) -> Mapping[str, str]:
    """The rows of a domain by kind."""
    if domain in ("", "ai.onnx.ml", *LAYOUT_DOMAINS):
        return ONNX
    if domain != "com.microsoft":
        return {}
    from npu_guard.graph.op_table_microsoft import MICROSOFT  # few models have any of them

    return MICROSOFT


@functools.cache
def _joined(domain: str) -> str:
    """All rows of a domain as one text to search, those of a kind under its name in brackets."""
    return "".join(f"\n[{kind}]{rows}" for kind, rows in _tables(domain).items())


def _find_row(op_type: str, domain: str) -> tuple[Kind, str]:
    """Kind and row of an operator. A hostile model may call one what it likes; only an identifier can stand in a table."""
    if op_type.isidentifier():
        name = f"\n{domain}::{op_type} |" if domain == "ai.onnx.ml" else f"\n{op_type} |"
        rows = _joined(domain)
        start = rows.find(name)
        if start >= 0:
            kind = rows.rfind("\n[", 0, start) + 2
            row = rows[start + 1 :].replace("\n    ", " ").partition("\n")[0]
            return rows[kind : rows.index("]", kind)], row  # type: ignore[return-value]  # a test holds it
    return "unknown", "||"


def _read(op_type: str, domain: str, kind: Kind, row: str) -> Operator:
    """The record that a row states. Runs while models are checked, so words are looked up and not searched for."""
    _, inputs, facts, *formula = row.split("|")
    formals: list[Input] = []
    for word in inputs.split():
        formals += _read_input(word)
    words = dict(word.partition(":")[::2] for word in facts.split())
    axes = words.get("over")
    return Operator(
        op_type,
        domain,
        kind,
        tuple(formals),
        "*" in inputs,
        len(formals) - len(inputs.split()) + 1,
        "zero" in words,
        "finite" in words,
        "zero" in words or "finite" in words or "at-zero" in words,
        _read_axes(axes) if axes else None,
        words.get("family", op_type),
        "sized-by-data" in words,
        float(words["turns"]) if "turns" in words else None,
        formula[0].strip() if formula else "",
    )


def _read_input(word: str) -> list[Input]:
    """One word of a row's inputs: `pads:padding@11<pads,paddings`."""
    name, _, rest = word.partition(":")
    if not rest and name.isidentifier():
        return [Input(name, "data")]
    if rest.isidentifier():
        return [Input(name, rest)]  # type: ignore[arg-type]  # a test holds that these are roles
    word, _, opset = word.partition("@")
    since, _, attributes = opset.partition("<")
    word, _, default = word.partition("=")
    name, _, roles = word.rstrip("?*").partition(":")
    number = float(default) if default else None
    before = tuple(attributes.split(",")) if attributes else (name,) if since else ()
    return [Input(name, role, "?" in word, number, int(since or 1), before) for role in (roles or "data").split("/")]  # type: ignore[arg-type]


def _read_axes(word: str) -> Axes:
    """What follows `over:` in a row: `axis`, `axis=1`, `axis,rest<13`."""
    stated, _, rest = word.partition(",")
    name, _, default = stated.partition("=")
    before = None if not rest else int(rest.partition("<")[2] or ALWAYS)
    return Axes(name, int(default) if default else None, before)
