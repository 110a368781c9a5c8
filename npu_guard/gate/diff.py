"""What a change makes of a model: findings that are new, fixed and unchanged."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from npu_guard.results import fingerprint
from npu_guard.results.findings import Finding, ModelReport, Report


class Diff(Struct, frozen=True):
    """One model before and after. `head.findings` are the new ones alone, and `head.verdict` is about them."""

    version: str
    base: ModelReport
    head: ModelReport
    fixed: tuple[Finding, ...]
    unchanged: tuple[Finding, ...]
    """As they are in the head."""
    fail_on: str
    allow_undecided: bool
    now: tuple[Finding, ...] = ()
    """All findings of the head, in its order."""
    date: str = ""
    """ISO date of the run, where somebody asked for it."""
    docs_url: str = ""
    """Where the manual is on the web."""
    altered: tuple[tuple[Finding, Finding], ...] = ()
    """Of the fixed and the new ones, those that are one finding with another number, as it was and as it is."""

    @property
    def gone(self) -> tuple[Finding, ...]:
        """What is fixed and has not merely another number now."""
        return tuple(f for f in self.fixed if all(f is not old for old, _ in self.altered))

    @property
    def report(self) -> Report:
        """What is new, as every format shows it."""
        return Report(self.version, (self.head,), self.fail_on, self.allow_undecided, docs_url=self.docs_url)

    def words(self) -> str:
        """`2 new, 1 fixed, 9 unchanged`."""
        return self.counted(len(self.head.findings), len(self.fixed), len(self.unchanged), len(self.altered))

    @staticmethod
    def counted(new: int, fixed: int, unchanged: int, altered: int) -> str:
        """The counts in words; what is altered is among the new and the fixed ones, and told apart."""
        other = f"{altered} changed, " if altered else ""
        return f"{new - altered} new, {other}{fixed - altered} fixed, {unchanged} unchanged"


def compare_reports(base: ModelReport, head: ModelReport, settings: Report) -> Diff:
    """Pair the findings of two models; `settings` says what counts. The verdict of `head` is left to the caller."""
    pairs = fingerprint.pair([fingerprint.mark(f) for f in base.findings], [fingerprint.mark(f) for f in head.findings])
    known, still = {j for _, j in pairs}, {i for i, _ in pairs}
    new = tuple(f for j, f in enumerate(head.findings) if j not in known)
    ran = set(head.asked) or {f.rule for f in base.findings}
    fixed = tuple(f for i, f in enumerate(base.findings) if i not in still and f.rule in ran)
    unchanged = tuple(head.findings[j] for _, j in sorted(pairs, key=lambda p: p[1]))
    marks = [[fingerprint.mark(f) for f in side] for side in (fixed, new)]
    altered = tuple((fixed[i], new[j]) for i, j in fingerprint.altered(*marks))
    return Diff(
        settings.version, base, replace(head, findings=new), fixed, unchanged, settings.fail_on, settings.allow_undecided,
        head.findings, settings.date, settings.docs_url, altered,
    )  # fmt: skip
