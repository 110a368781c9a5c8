"""One limit of a device on some operators, as it is asked of a node."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from npu_guard.base.errors import Undecidable
from npu_guard.device.breach_words import about_of, failing, one_of, shown_of, told
from npu_guard.device.keys import EVERY
from npu_guard.device.metric import number
from npu_guard.device.no_effect import idle, is_set
from npu_guard.device.predicate import EXCEEDED, Clause, Judged
from npu_guard.results.findings import Severity

if TYPE_CHECKING:
    from npu_guard.analysis.facts import Facts
    from npu_guard.graph.graph import Node

CONSEQUENCES = {
    "compile-error": ("it does not compile", Severity.ERROR),
    "host": ("it runs outside the NPU", Severity.ERROR),
    "decomposed": ("the compiler splits it into several operators", Severity.NOTE),
    "slow": ("it is slow", Severity.WARNING),
}
"""What becomes of a node beyond the limit, and how much that matters unless a profile or project says otherwise."""


def severity_of(consequence: str, certain: bool) -> Severity:
    """Errors are what keeps a node off the device; what the documents leave open is a warning at most."""
    severity = CONSEQUENCES[consequence][1]
    return severity if certain or severity is not Severity.ERROR else Severity.WARNING


class Breach(Struct, frozen=True):
    """What a node has and the device does not allow."""

    message: str
    limit: str
    measured: Any
    allowed: Any
    severity: Severity
    consequence: str
    about: Hashable = None
    """The same for limits that say the same of a node."""


class Requirement(Struct, frozen=True):
    """A limit: where `when` holds, `clause` must, or all of one of `alternatives`."""

    ops: tuple[str, ...]
    clause: Clause
    """With alternatives, only its metric counts: what is measured and reported."""
    source: str
    when: tuple[Clause, ...] = ()
    alternatives: tuple[tuple[Clause, ...], ...] = ()
    consequence: str = "compile-error"
    certainty: str = "documented"
    note: str = ""
    id: str = ""
    reported: str = ""
    """Compiler and versions with which users met it, against what is otherwise known of the device."""
    variants: tuple[str, ...] = ()
    of: str = ""
    """Compiler and versions that have the limit, where others do not."""
    as_written: bool = False
    """Whether the compiler goes by what is written, also where that changes nothing."""

    @property
    def certain(self) -> bool:
        """Whether the documents do not leave it open, nor users and compiler disagree."""
        return self.certainty != "uncertain" and not self.reported

    @property
    def severity(self) -> Severity:
        """How much it matters to be beyond it."""
        return severity_of(self.consequence, self.certain)

    @property
    def key(self) -> str:
        """What evidence names: `kernel.max`."""
        return self.clause.metric.text if self.alternatives else f"{self.clause.metric.text}.{self.clause.bounds[0][0]}"

    def code(self, op: str) -> str:
        """The rule that reports it at this operator."""
        return self.clause.metric.code(op, self.clause.bounds[0][0] if self.clause.bounds else "")

    def check(self, node: Node, ctx: Facts) -> Breach | None:
        """What is wrong with a node, None where it fits. Raises Undecidable where the graph does not tell.

        A guard on an attribute that is set without effect does not hold: left out, the node would be the same.
        """
        try:
            breach = self._check(node, ctx)
        except Undecidable:
            if self._set_idly(node, ctx):
                return None
            raise
        return None if breach is not None and self._set_idly(node, ctx) else breach

    def _set_idly(self, node: Node, ctx: Facts) -> bool:
        return not self.as_written and any(is_set(guard.metric, node) and idle(guard.metric, node, ctx) for guard in self.when)

    def _check(self, node: Node, ctx: Facts) -> Breach | None:
        unsure = ""
        for guard in self.when:
            judged = guard.holds(node, ctx)
            if judged.fits is False:
                return None
            unsure = unsure or judged.why
        if self.alternatives:
            return self._alternatives(node, ctx, unsure)
        judged = self.clause.judge(node, ctx, as_written=self.as_written)
        if judged.fits:
            return None
        if judged.fits is None or unsure:
            raise Undecidable(judged.why or unsure)
        return self._draft(judged)

    def _alternatives(self, node: Node, ctx: Facts, unsure: str) -> Breach | None:
        asked = []
        for alternative in self.alternatives:
            found = [c.suffices(node, ctx, as_written=self.as_written) for c in alternative]
            if all(j.fits for j in found):
                return None
            if not any(j.fits is False for j in found):
                unsure = unsure or next(j.why for j in found if j.fits is None)
            asked.append(list(zip(alternative, found, strict=True)))
        measured = self.clause.metric.measure(node, ctx)
        if unsure:
            raise Undecidable(unsure)
        text, about = failing(asked)
        shown = self.clause.metric.show(measured.values)
        return Breach(f"{text}{self._after()}", self.key, shown, self.allowed, self.severity, self.consequence, about)

    def _draft(self, judged: Judged) -> Breach:
        metric, bound = self.clause.metric, judged.bound
        allowed, wrong = judged.from_front, tuple(dict.fromkeys(judged.wrong))
        if isinstance(allowed, bool):
            limit: Any = number(allowed) if bound == "is" else EXCEEDED[bound].removeprefix("not ")
        else:
            limit = allowed if isinstance(allowed, int) else one_of(allowed)
        if bound == "not_in":
            limit = f"none of {limit}"
        measured: Any = shown_of(metric, judged)
        if all(isinstance(v, int) and not isinstance(v, bool) for v in wrong) and (bound in _WORST or len(wrong) == 1):
            measured = _WORST.get(bound, max)(wrong)
        text = f"{told(metric, judged)}{self._after()}"
        about = about_of([(self.clause, judged)])
        return Breach(text, f"{metric.text}.{bound}", measured, limit, self.severity, self.consequence, about)

    def _after(self) -> str:
        where = f" (where {' and '.join(c.words() for c in self.when)})" if self.when else ""
        doubt = f" (reported with {self.reported})" if self.reported else "" if self.certain else " (uncertain)"
        doubt += f" (with {self.of})" if self.of else ""
        return f"{where}; {CONSEQUENCES[self.consequence][0]}{doubt}"

    @property
    def allowed(self) -> str:
        """What fits, in words."""
        if self.alternatives:
            return "; or ".join(" and ".join(c.words() for c in clauses) for clauses in self.alternatives)
        return self.clause.words()

    @property
    def applies_to(self) -> str:
        """Operators and guards, in words."""
        ops = "all operators" if self.ops == (EVERY,) else ", ".join(self.ops)
        return ops + (f" where {' and '.join(c.words() for c in self.when)}" if self.when else "")


_WORST = {"max": max, "below": max, "min": min}
"""Which of several wrong numbers counts as the measured one."""
