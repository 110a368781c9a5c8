from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from npu_guard.base.text import printable
from npu_guard.checking.rule import Case, Draft, Rule
from npu_guard.results.findings import Severity

if TYPE_CHECKING:
    from npu_guard.project.config import Suppression
    from npu_guard.results.findings import Finding

_GRAPH = "g (float[1,8,4,4] x) => (float[1,4,8,4] y) { [turn] y = Transpose<perm = [0, 2, 1, 3]>(x) }"
_REFUSED = {"layout.rearrange": False}


class UnusedSuppression(Rule):
    """A suppression of the settings accepts no finding.

    *What it does*

    Compares the suppressions of the settings with the findings of the run. One whose rule did not run, and a run in which a
    model could not be read, tell nothing.

    *Why it matters*

    A suppression that has outlived its finding hides the next one at that place.

    *What to do*

    Remove the entry, or correct its `node`; `npu-guard check --remove-unused` removes the entries that accept nothing.
    """

    code = "NPU901"
    name = "unused-suppression"
    severity = Severity.NOTE
    ops = ()
    about_settings = True
    good = (Case(_GRAPH, limits=_REFUSED, suppress=(("NPU102", "turn"),)),)
    bad = (Case(_GRAPH, limits=_REFUSED, suppress=(("NPU102", "turned"),), expect=(("", None),)),)

    def check_settings(self, unused: Sequence[Suppression], findings: Sequence[Finding]) -> Iterable[Draft]:
        for entry in unused:
            at = "" if entry.node == "*" else f" at {printable(entry.node, 100)!r}"
            near = _near(entry, findings)
            meant = f"; did you mean {printable(near, 100)!r}?" if near else ""
            expired = f", expired on {printable(entry.expires, 40)}" if entry.expired() else ""
            reason = f"reason: {printable(entry.reason, 200)}{expired}"
            yield Draft(f"the suppression of {entry.rule}{at} accepts no finding ({reason}){meant}")


def _near(entry: Suppression, findings: Sequence[Finding]) -> str:
    """A module, node or output with a finding of the rule whose name is nearly the pattern; empty where there is none."""
    from difflib import get_close_matches  # for those who mistype

    places = [f.location for f in findings if f.suppressed is None and entry.concerns(f.rule, f.name)]
    names = dict.fromkeys(name for p in places for name in (".".join(p.scope), p.node, p.output) if name)
    return next(iter(get_close_matches(entry.node, names, 1)), "")
