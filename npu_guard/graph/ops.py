"""What an operator is, stated once for all rooms: its kind, what its inputs are for, where its axes stand, how it treats zeros.

Facts alone: what is done about an operator stands in the tables of handlers of each room (`handlers.py`), which go by kind. The
rows are in `op_table.py` and `op_table_microsoft.py`; each is read when somebody asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, get_args

from msgspec import Struct

from npu_guard.graph.op_kinds import Kind, Role
from npu_guard.graph.op_table import ONNX
from npu_guard.graph.op_table_microsoft import MICROSOFT

KINDS: tuple[Kind, ...] = get_args(Kind)
ROLES: tuple[Role, ...] = get_args(Role)


class Input(NamedTuple):
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


class Axes(NamedTuple):
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
        operator = _look_up(op_type, domain)
        if len(_RECORDS) < _MOST:
            _RECORDS[key] = operator
    return operator


def operators(*kinds: Kind, domain: str | None = None) -> tuple[Operator, ...]:
    """All records, of some kinds or of a domain where these are given, in the order of the tables."""
    found = []
    for kind in kinds or KINDS:
        for home, table in _TABLES.items():
            rows = table.get(kind, "").replace("\n    ", " ").strip().splitlines()
            for name in (row.partition(" |")[0] for row in rows):
                own, _, op_type = name.rpartition("::")
                found.append(find_operator(op_type, own or home))
    return tuple(record for record in found if domain in (None, record.domain))


_TABLES: Mapping[str, Mapping[Kind, str]] = {"": ONNX, "com.microsoft": MICROSOFT}
_RECORDS: dict[tuple[str, str], Operator] = {}
"""Records by domain and name, each read once: a model has few different operators. Tests add made-up operators here."""
_MOST = 4096
"""Records to keep: a process that looks at many hostile models meets as many names as they have."""
_HOMES = ("", "com.microsoft", "ai.onnx.ml")


def _look_up(op_type: str, domain: str) -> Operator:
    if domain not in _HOMES or not op_type.isidentifier():
        return Operator(op_type, domain, family=op_type)
    name = f"\n{op_type} |" if domain in _TABLES else f"\n{domain}::{op_type} |"
    for kind, rows in _TABLES.get(domain, ONNX).items():
        start = rows.find(name)
        if start >= 0:
            row = rows[start + 1 :].replace("\n    ", " ").partition("\n")[0]
            _, inputs, facts = row.split("|")
            return _read(op_type, domain, kind, inputs, facts)
    return Operator(op_type, domain, family=op_type)


def _read(op_type: str, domain: str, kind: Kind, inputs: str, facts: str) -> Operator:
    words = facts.split()
    formals: list[Input] = []
    repeats = 0
    for word in inputs.split():
        parsed = _read_input(word)
        formals += parsed
        repeats = len(parsed) if "*" in word else 0
    return Operator(
        name=op_type,
        domain=domain,
        kind=kind,
        inputs=tuple(formals),
        variadic=repeats > 0,
        repeats=max(repeats, 1),
        keeps_zero="zero" in words,
        keeps_finite="finite" in words,
        finite_at_zero=not {"zero", "finite", "at-zero"}.isdisjoint(words),
        axes=next((_read_axes(word[5:]) for word in words if word.startswith("over:")), None),
        family=next((word[7:] for word in words if word.startswith("family:")), op_type),
        sized_by_data="sized-by-data" in words,
    )


def _read_input(word: str) -> list[Input]:
    """One word of a row's inputs: `pads:padding@11<pads,paddings`."""
    rest, _, opset = word.partition("@")
    since, _, attributes = opset.partition("<")
    rest, _, default = rest.partition("=")
    bare = rest.rstrip("?*")
    name, _, roles = bare.partition(":")
    return [
        Input(
            name,
            _known_role(role or "data"),
            "?" in rest,
            float(default) if default else None,
            int(since or 1),
            tuple(attributes.split(",")) if attributes else (name,) if since else (),
        )
        for role in roles.split("/")
    ]


def _known_role(word: str) -> Role:
    return next(role for role in ROLES if role == word)


def _read_axes(word: str) -> Axes:
    """What follows `over:` in a row: `axis`, `axis=1`, `axis,rest<13`."""
    stated, _, rest = word.partition(",")
    name, _, default = stated.partition("=")
    before = None if not rest else int(rest.partition("<")[2] or ALWAYS)
    return Axes(name, int(default) if default else None, before)
