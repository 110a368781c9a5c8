"""Whether the axes of a limit are axes of tensors that the device takes.

An axis beyond the largest rank is none, so that a limit to it alone refuses every node, and a limit that leaves it out
refuses none.
"""

from __future__ import annotations

from collections.abc import Iterator

from npu_guard.device.predicate import Clause
from npu_guard.device.requirement import Requirement

_OF_AXES = ("axes", "strided_axes", "varies", "perm", "perm_in_memory")
_LISTS = ("in", "not_in", "is")


def problems(requirement: Requirement, most: int | None) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Axes that no tensor has, each with its place in the `[[limit]]`; `most` is the largest rank that the file states."""
    least = min([rank for rank in (most, *map(_largest_rank, requirement.when)) if rank is not None], default=None)
    if least is None:
        return
    yield from (((name,), message) for name, message in _beyond(requirement.clause, least))
    for guard in requirement.when:
        yield from ((("when", guard.metric.text), message) for _, message in _beyond(guard, least))
    for alternative in requirement.alternatives:
        ranks = [rank for rank in (least, *map(_largest_rank, alternative)) if rank is not None]
        yield from ((("any_of", c.metric.text), message) for c in alternative for _, message in _beyond(c, min(ranks)))


def _largest_rank(clause: Clause) -> int | None:
    """The largest rank that keeps to a bound on the rank of the first input, None where it has no end."""
    bounds = dict(clause.bounds)
    if clause.metric.text not in ("rank", "rank.data", "rank.X", "rank.A"):
        return None
    stated = bounds.get("max", bounds.get("is", bounds.get("in")))
    ranks = [rank for rank in (stated if isinstance(stated, tuple) else (stated,)) if isinstance(rank, int)]
    return max(ranks, default=None)


def _beyond(clause: Clause, most: int) -> Iterator[tuple[str, str]]:
    """(bound, what is wrong) of each axis that a tensor of this rank does not have."""
    if clause.metric.terms[0].key not in _OF_AXES or clause.metric.terms[0].view:
        return
    for name, bound in clause.bounds:
        entries = bound if isinstance(bound, tuple) else (bound,)
        axes = [axis for entry in entries for axis in (entry if isinstance(entry, tuple) else (entry,))]
        for axis in axes if name in _LISTS else ():
            if isinstance(axis, int) and not -most <= axis < most:
                yield name, f"{clause.metric.text!r} has no {axis} where the largest rank is {most}"
