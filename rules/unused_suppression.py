from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from npu_guard.base.text import printable
from npu_guard.checking.rule import Case, Draft, Rule
from npu_guard.results.findings import Severity

if TYPE_CHECKING:
    from npu_guard.project.config import Suppression

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

    def check_settings(self, unused: Sequence[Suppression]) -> Iterable[Draft]:
        for entry in unused:
            at = "" if entry.node == "*" else f" at {printable(entry.node, 100)!r}"
            yield Draft(f"the suppression of {entry.rule}{at} accepts no finding (reason: {printable(entry.reason, 200)})")
