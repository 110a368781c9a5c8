"""What a fixed model may cost: at most so many times the MACs and the activation bytes of the original."""

from __future__ import annotations

import math
from collections.abc import Collection

from msgspec import Struct

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.cost import uncounted
from npu_guard.graph.graph import Node, is_known

OPEN = "what it costs cannot be told, as shapes are open, and --max-cost limits it; --input-shape gives them"
DEAR = 5
"""So many times what it was."""
LARGE = 1 << 24
"""MACs, or bytes of activations: what takes less runs in a hundredth of a second, with however many inputs."""


class Cost(Struct, frozen=True):
    """MACs and bytes of activations that are written, as reports count them; or how much two such costs differ by."""

    macs: int = 0
    bytes: int = 0
    open: int = 0
    """Operators whose cost is not known, as shapes are open."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.macs + other.macs, self.bytes + other.bytes, self.open + other.open)

    def rise_to(self, new: Cost) -> Cost:
        """What the new costs more; all that is open in either is open."""
        return Cost(new.macs - self.macs, new.bytes - self.bytes, new.open + self.open)


def cost_of(analysis: Analysis, nodes: Collection[Node] | None = None) -> Cost:
    """What some nodes cost, or the whole model."""
    costs = analysis.costs
    if nodes is not None:
        costs = {n: costs[n] for n in nodes if n in costs}
    unknown = 0
    if analysis.unknown:
        unknown = uncounted(costs) + sum(not all(is_known(v.shape) for v in n.outputs if v is not None) for n in costs)
    return Cost(sum(c.macs for c in costs.values()), sum(c.output_bytes for c in costs.values()), unknown)


def is_dear(old: Cost, new: Cost) -> bool:
    """Whether the new takes much, and many times what the old does, in bytes or in MACs: then it is run with fewer inputs."""
    return any(after > LARGE and after > DEAR * before for before, after in ((old.bytes, new.bytes), (old.macs, new.macs)))


class Ceiling(Struct, frozen=True):
    """The most that a model may cost."""

    factor: float
    original: Cost

    @staticmethod
    def over(analysis: Analysis, factor: float) -> Ceiling | None:
        """So many times what the model costs; None where the factor is infinite."""
        return Ceiling(factor, cost_of(analysis)) if math.isfinite(factor) else None

    def times(self, cost: Cost) -> float:
        """How many times the original it is, in MACs or in bytes, whichever is more."""
        return max(_ratio(cost.bytes, self.original.bytes), _ratio(cost.macs, self.original.macs))

    def reason(self, cost: Cost) -> str:
        """Why a model may not cost that much, with both figures; empty where it may."""
        if cost.open > self.original.open:
            return OPEN
        if cost.bytes <= self.factor * self.original.bytes and cost.macs <= self.factor * self.original.macs:
            return ""
        pairs = (
            (cost.bytes, self.original.bytes, "write", "bytes of activations", "activation bytes"),
            (cost.macs, self.original.macs, "make", "MACs", "MACs"),
        )
        beyond = [p for p in pairs if p[0] > self.factor * p[1]]
        new, old, verb, unit, plain = max(beyond, key=lambda p: _ratio(p[0], p[1]))
        most = f"{self.factor:g}"
        if not old:
            return f"the model would {verb} {new:,} {unit} where it has none, more than --max-cost {most} allows"
        return f"the model would {verb} {_times(new / old, self.factor)} times the {plain}, more than the {most} of --max-cost"


def _ratio(new: int, old: int) -> float:
    return new / old if old else math.inf if new > 0 else 1.0


def _times(ratio: float, factor: float) -> str:
    """With as many digits as tell it from the factor below it."""
    shown = (f"{ratio:.{digits}f}" for digits in (1, 2, 3, 4, 6))
    return next((text for text in shown if float(text) > factor), repr(ratio))
