"""Which constants a rewrite can have the numbers of, as far as operators and shapes tell; reads no weight."""

from __future__ import annotations

from collections.abc import Mapping

from npu_guard.analysis.analyze import Analysis
from npu_guard.base.text import short
from npu_guard.graph.graph import Value
from npu_guard.rewriting import reference
from npu_guard.rewriting.substitution import Builder, Match


class Readable:
    """Asked of many blocks of one model, it looks at each node once."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._read: set[Value] = set()

    def missing(self, match: Match) -> dict[Value, str]:
        """Constants that the block reads and whose numbers `Builder.weight` would not give, each with the reason."""
        reasons = {v: self._reason(v) for n in match.nodes for v in n.inputs if v is not None and self._analysis.is_constant(v)}
        return {v: reason for v, reason in reasons.items() if reason}

    def _reason(self, value: Value) -> str:
        """Why the numbers are not known to a rewrite, empty where they are."""
        stack, seen = [value], {value}
        while stack:
            current = stack.pop()
            node = current.producer
            if current in self._read or node is None or self._analysis.constants.get(current) is not None:
                continue
            if node.op_type == "Constant" and not node.domain:
                continue
            if why := reference.reason(node):
                return f"weight {short(current.name)!r} {why}"
            behind = [v for v in node.inputs if v is not None and v not in seen]
            seen.update(behind)
            stack += behind
        self._read |= seen
        return ""


def unread(missing: Mapping[Value, str], builder: Builder) -> str:
    """The reason of a constant that the new nodes do not read as it is: they hold its numbers in another order."""
    kept = {name for node in builder.nodes for name in node.input}
    return next((reason for value, reason in missing.items() if value.name not in kept), "")
