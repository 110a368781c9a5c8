"""Tables of what a room does at operators: an entry for each kind, exceptions by name, and what is left out, with the reason.

All of them are about ONNX's own operators: whoever asks looks at a node's domain first. A new operator of a kind that a table
has needs nothing here; tests hold that a table has every operator of the kinds it covers, or a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

from npu_guard.graph.ops import find_kind, names

if TYPE_CHECKING:
    from npu_guard.graph.op_words import Kind

T = TypeVar("T")
NOTHING: Mapping[str, str] = {}


class Handlers(Generic[T]):
    """Handlers by operator. `kinds` has one for all operators of a kind, `names` those of single operators, which go first.

    `without` has the operators of the covered kinds that are left out: names, divided by spaces, with the reason. Covered are
    the kinds in `kinds` and in `covers`.
    """

    def __init__(
        self,
        kinds: Mapping[Kind, T],
        names: Mapping[str, T],
        without: Mapping[str, str] = NOTHING,
        covers: tuple[Kind, ...] = (),
    ) -> None:
        self.kinds = kinds
        self.names = names
        self.covers = (*kinds, *covers)
        self.without = without
        self._without = frozenset(" ".join(without).split())
        self._known: _Known[T] = _Known(names, self)
        self.get: Callable[[str], T | None] = self._known.__getitem__
        """The handler of an operator of ONNX, None where the table has none; runs for each node, so it is a look-up."""

    def __iter__(self) -> Iterator[str]:
        """Names of the operators that have one."""
        yield from self.names
        yield from (name for name in names(*self.kinds) if name not in self.names and name not in self._without)

    def __contains__(self, op_type: str) -> bool:
        return self._known[op_type] is not None

    def __getitem__(self, op_type: str) -> T:
        handler = self._known[op_type]
        if handler is None:
            raise KeyError(op_type)
        return handler


class _Known(dict[str, T | None]):
    """Handlers by name as they are asked for. Names that no record has are not kept: hostile models have many."""

    def __init__(self, names: Mapping[str, T], table: Handlers[T]) -> None:
        super().__init__(names)
        self.table = table

    def __missing__(self, op_type: str) -> T | None:
        kind = find_kind(op_type)
        if kind == "unknown":
            return None
        self[op_type] = handler = None if op_type in self.table._without else self.table.kinds.get(kind)
        return handler


class OfKind(Handlers[bool]):
    """ONNX's own operators of some kinds, for `op_type in ...`, and a few by name besides."""

    def __init__(self, *kinds: Kind, also: str = "", without: Mapping[str, str] = NOTHING) -> None:
        super().__init__(dict.fromkeys(kinds, True), dict.fromkeys(also.split(), True), without)
