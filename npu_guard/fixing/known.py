"""What has been judged of forms: outlooks by the kind of block, and which forms help against which findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from msgspec import Struct, field

from npu_guard.fixing.choice import Outlook
from npu_guard.fixing.severities import tally
from npu_guard.results.findings import Finding, RuleCrash
from npu_guard.rewriting.substitution import Match

SKETCHES, EACH, MOST = 1000, 25, 4000
"""Sketches of one run: so many, more for each finding, and so many at the most. A network has some dozens of blocks that differ
from each other; the front end of an audio network has each of its 30 convolutions at a length of its own."""
LEARNT = 250
"""Sketches after which what was learnt of forms decides which others are judged; a small network is judged as a whole."""
TRIED = 24
"""Blocks at which a form has to have helped nothing, before it is no longer judged at others like them."""
USUAL = 3
"""Blocks at which a form has to have been taken, before it is judged at others like them before all other forms."""
UNKNOWN = Outlook((), 0.0)


class Known(Struct):
    """For all states of a model: equal blocks of a network, of which there may be hundreds, are judged once."""

    outlooks: dict[Hashable, dict[int, Outlook | None]] = field(default_factory=dict)
    """By the kind of block, and by how many forms might follow."""
    sketches: int = 0
    """How many have been made."""
    most: int = SKETCHES
    passed_over: bool = False
    """Whether a block was not judged, as so many had been."""
    crashes: dict[tuple[str, str], RuleCrash] = field(default_factory=dict)
    helped: dict[Hashable, int] = field(default_factory=dict)
    """How often in a row a form has helped nothing, by what was wrong; at least one help ends the count for good (-1)."""

    bordered: bool | None = None
    """Whether the device asks what lies around a block; None before somebody has looked."""
    taken: Counter[Hashable] = field(default_factory=Counter)
    """How often a form was taken and left no error, by what was wrong."""

    @staticmethod
    def of(findings: int) -> Known:
        """For a model with so many findings."""
        return Known(most=min(MOST, SKETCHES + EACH * findings))

    def outlook(self, kind: Hashable, depth: int) -> Outlook | None:
        """What is known of a kind of block with so many forms to follow, UNKNOWN where that is nothing.

        One behind which nothing followed, or nothing had to, is the same with fewer forms to follow, or with any number.
        """
        for known, outlook in self.outlooks.get(kind, {}).items():
            alone = outlook is not None and not outlook.chain
            if known == depth or (outlook is not None and alone and (known > depth or not tally(outlook.left).errors)):
                return outlook
        return UNKNOWN

    def keep(self, kind: Hashable, depth: int, outlook: Outlook | None) -> None:
        """Note an outlook, but one that perhaps would leave less if more were judged."""
        if not self.is_spent or not depth or outlook is None or not tally(outlook.left).errors:
            self.outlooks.setdefault(kind, {})[depth] = outlook

    @property
    def is_spent(self) -> bool:
        """Whether no more blocks are judged."""
        return self.sketches >= self.most

    def renew(self, findings: int) -> None:
        """Judge as many blocks as for a model with so many findings once more; what was learnt of forms is learnt anew."""
        self.sketches, self.most, self.passed_over = 0, Known.of(findings).most, False
        self.helped.clear()
        self.taken.clear()

    def is_hopeless(self, form: str, depth: int, before: Sequence[Finding]) -> bool:
        """Whether the form has helped at none of many blocks with the same findings.

        Asked of forms that follow others, once a run has made many sketches: a form that leaves the kernel as it is never removes
        what is wrong with it, however long the map is.
        """
        return self.sketches >= LEARNT and self.helped.get(_case(form, depth, before), 0) >= TRIED

    def note(self, form: str, depth: int, before: Sequence[Finding], outlook: Outlook | None) -> None:
        """Count whether a form has helped."""
        case = _case(form, depth, before)
        count = self.helped.get(case, 0)
        if count >= 0:
            self.helped[case] = -1 if outlook is None or tally(outlook.left) < tally(before) else count + 1

    def is_usual(self, match: Match, depth: int, before: Sequence[Finding]) -> bool:
        """Whether the form was taken at some blocks with the same findings, and left no error there.

        Asked of forms that follow others, once a run has made many sketches: phases of a kernel differ in their paddings alone.
        """
        return self.sketches >= LEARNT and self.taken[_case(match.substitution.name, depth, before), match.variant] >= USUAL

    def take(self, match: Match, depth: int, before: Sequence[Finding]) -> None:
        """Note that a form was taken which leaves no error."""
        self.taken[_case(match.substitution.name, depth, before), match.variant] += 1


def _case(form: str, depth: int, before: Sequence[Finding]) -> Hashable:
    wrong = {(f.rule, f.location.op_type, f.evidence.limit if f.evidence is not None else None) for f in before}
    return form, depth, frozenset(wrong)
