"""What a rule may ask: the facts of a model, and the limits of a device."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.facts import Facts
from npu_guard.device import Operator, Profile
from npu_guard.device.requirement import severity_of
from npu_guard.graph.graph import Node
from npu_guard.graph.plain_names import INTEGERS, PLAIN
from npu_guard.results.findings import Severity

if TYPE_CHECKING:
    from npu_guard.analysis.channels.paddings import Channels


T = TypeVar("T")


class Context(Facts):
    """One model on one device: what a rule may ask."""

    def __init__(self, analysis: Analysis, profile: Profile) -> None:
        super().__init__(analysis)
        self.profile = profile
        self._worked_out: dict[Hashable, Any] = {}

    def analysis_of(self, make: Callable[[Context], T], owner: Hashable = None) -> T:
        """What `make` works out of this context, worked out once: for each owner, such as a substitution, where one is given."""
        key = make, owner
        if key not in self._worked_out:
            self._worked_out[key] = make(self)
        result: T = self._worked_out[key]
        return result

    @functools.cached_property
    def order(self) -> Mapping[Node, int]:
        """Place of each node of the main graph."""
        return {node: index for index, node in enumerate(self.analysis.model.graph.nodes)}

    @functools.cached_property
    def channels(self) -> Channels:
        """Regions in which channels can be widened to the device's blocks."""
        from npu_guard.analysis.channels.paddings import Channels

        return Channels(self, self.limit("channels.multiple_of"))

    def limit(self, key: str) -> Any:
        """The device's limit, None where it sets none."""
        return self.profile.limit(key)

    def bounds(self, op: str, metric: str, *limits: str) -> tuple[int, ...]:
        """Numbers over which the device takes no such metric (`kernel`) at an operator, by any of its limits; largest first.

        `limits` are keys that bound it too. Which of them holds at a node is for the rules to say: they are worth a try.
        """
        asked = ("bounds", op, metric, limits)
        if asked not in self._worked_out:
            self._worked_out[asked] = self._bounds(op, metric, limits)
        result: tuple[int, ...] = self._worked_out[asked]
        return result

    def _bounds(self, op: str, metric: str, limits: tuple[str, ...]) -> tuple[int, ...]:
        found = {self.limit(key) for key in limits}
        for requirement in self.profile.requirements:
            if op in requirement.ops:
                for clauses in (*requirement.alternatives, (requirement.clause,)):
                    found |= {at for c in clauses if c.metric.text.partition(".")[0] == metric for at in _highest(c.bounds)}
        return tuple(sorted((n for n in found if type(n) is int and n > 0), reverse=True))

    def bounded(self, op: str, metric: str, *limits: str) -> bool:
        """Whether the device says anything of a metric (`pads`) at an operator; else no form that spares it is worth a try."""
        asked = ("bounded", op, metric, limits)
        if asked not in self._worked_out:
            clauses = itertools.chain.from_iterable(
                (*itertools.chain.from_iterable(r.alternatives), r.clause) for r in self.profile.requirements if op in r.ops
            )
            told = any(self.limit(key) is not None for key in limits)
            self._worked_out[asked] = told or any(c.metric.text.partition(".")[0] == metric for c in clauses)
        result: bool = self._worked_out[asked]
        return result

    def operator(self, node: Node) -> Operator | None:
        """What the device's documents say of a node's operator; of one in integer arithmetic, what they say of the plain one.

        In which spelling the compiler reads a quantized network is a matter of its own (NPU810).
        """
        return self.profile.operator(PLAIN[node.op] if node.op in INTEGERS else node.op)

    def refuses(self, node: Node) -> bool:
        """Whether the device surely has no such operator at all; what else is wrong with the node then follows from that.

        Where the documents leave it open, or the compiler only splits it up or is slow, the limits hold as well.
        """
        operator, unlisted = self.operator(node), self.profile.unlisted
        if operator is None:
            return unlisted is not None and severity_of(unlisted.consequence, True) is Severity.ERROR
        return operator.status == "refused" and severity_of(operator.consequence, operator.certain) is Severity.ERROR


def context_of(analysis: Analysis, profile: Profile) -> Context:
    """The context of an analysis on a device, the same for all who ask in turn: what rules have worked out, rewrites need too."""
    found: Context | None = analysis.known.get("context")
    if found is None or found.profile is not profile:
        found = analysis.known["context"] = Context(analysis, profile)
    return found


def _highest(bounds: Iterable[tuple[str, Any]]) -> Iterator[Any]:
    for name, value in bounds:
        if name == "max":
            yield value
        elif name == "below" and isinstance(value, int):
            yield value - 1
        elif name in ("in", "is"):
            yield from value if isinstance(value, tuple) else (value,)
