"""Which of the forms that fit are taken: those after which least is wrong, and of these the cheapest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

from msgspec import Struct

from npu_guard.fixing.ceiling import Cost
from npu_guard.fixing.severities import Tally, tally
from npu_guard.graph.graph import Node
from npu_guard.results.findings import Finding
from npu_guard.rewriting.substitution import EXACT, Match, Substitution

FREE = 0.01
"""Share of a block's cost by which it may rise for nothing but a warning."""


class Link(Struct, frozen=True):
    """A form that takes the place of new nodes of the form before it."""

    substitution: Substitution
    at: int
    """Which of the nodes that are emitted is the root."""
    variant: object
    chain: tuple[Link, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The substitution and those that follow it."""
        return self.substitution.name, *(name for link in self.chain for name in link.names)


class Outlook(Struct, frozen=True):
    """What becomes of a block: findings that its new nodes have, and what they cost."""

    left: tuple[Finding, ...]
    price: float
    """What they cost more than the old ones, in MACs; infinite where that cannot be told."""
    paid: float = 0.0
    """What the old ones cost."""
    chain: tuple[Link, ...] = ()
    rise: Cost = Cost()
    """MACs and bytes of the new ones less those of the old ones."""


class Candidate(Struct, frozen=True, eq=False):
    """A match, what is wrong with its nodes, and what its form makes of it; None where only the real model tells."""

    match: Match
    before: tuple[Finding, ...]
    outlook: Outlook | None

    @property
    def left(self) -> tuple[Finding, ...]:
        """What would still be wrong."""
        return self.outlook.left if self.outlook is not None else ()

    @property
    def chain(self) -> tuple[str, ...]:
        """Names of the forms that follow in its place."""
        return tuple(name for link in self.outlook.chain for name in link.names) if self.outlook is not None else ()

    @property
    def price(self) -> float:
        """What it costs, in MACs."""
        return self.outlook.price if self.outlook is not None else 0.0

    @property
    def rise(self) -> Cost:
        """What the model costs more with it; nothing where only the real model tells."""
        return self.outlook.rise if self.outlook is not None else Cost()

    @property
    def gain(self) -> Tally:
        """How many errors and warnings fewer there are."""
        before = tally(self.before)
        if not self.left:  # as of most forms that are taken
            return before
        after = tally(self.left)
        return Tally(before.errors - after.errors, before.warnings - after.warnings)

    def mends(self, *, warnings: bool) -> bool:
        """Whether less is wrong afterwards. Warnings alone are worth no cost, unless somebody asks for it."""
        gain = self.gain
        free = self.outlook is None or self.price <= FREE * self.outlook.paid
        return gain > (0, 0) and (gain.errors > 0 or free or warnings)

    @property
    def removed(self) -> tuple[str, ...]:
        """Codes of the rules that have less to say of it."""
        return fewer(self.before, self.left)


def fewer(before: Iterable[Finding], after: Iterable[Finding]) -> tuple[str, ...]:
    """Codes of the rules with fewer findings after than before."""
    return tuple(sorted(Counter(f.rule for f in before) - Counter(f.rule for f in after)))


def choose(candidates: Sequence[Candidate], order: Sequence[Substitution], prefer: Collection[str] = ()) -> list[Candidate]:
    """Candidates that do not overlap: preferred ones first, then exact ones; of these those that mend most, at the lowest cost.

    Substitutions that wait for the others come when nothing else is left. Among candidates that overlap, those that mend most
    are taken first, or those that mend at the lowest price, whichever mends more in the end.
    """
    rank = {s.name: i for i, s in enumerate(order)}
    behind = _behind(candidates, prefer)
    able = [c for c in candidates if c not in behind]
    now = [c for c in able if not _is_last(c, prefer)] or able

    def by_gain(c: Candidate) -> tuple[object, ...]:
        tied = len(c.chain), rank[c.match.substitution.name]  # of equal ones that of fewer forms
        return *_first(c, prefer), -c.gain.errors, -c.gain.warnings, *tally(c.left), c.price, *tied

    def by_price(c: Candidate) -> tuple[object, ...]:
        gain = c.gain.errors or c.gain.warnings
        return *_first(c, prefer), not c.gain.errors, bool(tally(c.left).errors), c.price / gain, *by_gain(c)

    def best(group: list[Candidate]) -> list[Candidate]:
        return group if len(group) == 1 else _better(_greedy(group, by_gain), _greedy(group, by_price))

    return [c for group in _overlapping(now) for c in best(group)]


def _is_last(candidate: Candidate, prefer: Collection[str]) -> bool:
    """Whether a candidate waits for the others."""
    return candidate.match.substitution.last and candidate.match.substitution.name not in prefer


def _behind(candidates: Sequence[Candidate], prefer: Collection[str]) -> set[Candidate]:
    """Those that a form that waits for others follows, where that form alone mends as much, for less.

    Behind it they may need no form that follows: phases of a depthwise kernel of 12 channels would become dense ones, and are
    fine once the map has 16.
    """
    waiting: dict[Node, list[Candidate]] = {}
    for candidate in candidates:
        for node in candidate.match.nodes if _is_last(candidate, prefer) and candidate.before else ():
            waiting.setdefault(node, []).append(candidate)
    names = {c.match.substitution.name for group in waiting.values() for c in group}

    def price(c: Candidate) -> float:
        return c.price / c.gain.errors if c.gain.errors > 0 else math.inf

    def beaten(c: Candidate) -> bool:
        mine = [one for n in c.match.nodes for one in waiting.get(n, ()) if one.match.substitution.name in c.chain]
        return not _is_last(c, prefer) and any(one.gain.errors >= c.gain.errors and price(one) < price(c) for one in mine)

    return {c for c in candidates if names.intersection(c.chain) and c.match.substitution.name not in prefer and beaten(c)}


def choose_within(
    candidates: Sequence[Candidate], order: Sequence[Substitution], prefer: Collection[str], over: Callable[[Cost], str],
    times: Callable[[Cost], float],
) -> tuple[list[Candidate], dict[Candidate, str]]:  # fmt: skip
    """As `choose`, only that all together stay within what may be spent; and the candidates that are left out, with the reason.

    `over` tells why so much more may not be spent, or nothing, and `times` how much of it that would be. What mends most for its
    price goes first, and where a form is left out, others for its nodes are considered. Where something is left out, forms that
    spend least are tried as well, if more is mended so.
    """
    chosen, dear = _fitting(candidates, order, prefer, over)
    if dear:
        thrifty, beyond = _fitting(_thriftiest(candidates, prefer, times), order, prefer, over)
        if _mended(thrifty) > _mended(chosen):
            return thrifty, dear | beyond
    return chosen, dear


def _fitting(
    candidates: Sequence[Candidate], order: Sequence[Substitution], prefer: Collection[str], over: Callable[[Cost], str]
) -> tuple[list[Candidate], dict[Candidate, str]]:
    dear = {c: why for c in candidates if (why := over(c.rise))}
    while True:
        chosen = choose([c for c in candidates if c not in dear], order, prefer)
        spent, kept = Cost(), len(dear)
        for candidate in sorted(chosen, key=lambda c: _by_worth(c, prefer)):
            if why := over(spent + candidate.rise):
                dear[candidate] = why
            else:
                spent += candidate.rise
        if len(dear) == kept:
            return chosen, dear


def _thriftiest(candidates: Sequence[Candidate], prefer: Collection[str], times: Callable[[Cost], float]) -> list[Candidate]:
    """Without those beside which another for some of the same nodes mends as much and spends less."""
    at: dict[Node, list[Candidate]] = {}
    for candidate in candidates:
        for node in candidate.match.nodes:
            at.setdefault(node, []).append(candidate)

    def beaten(c: Candidate) -> bool:
        rivals = (d for n in c.match.nodes for d in at[n] if d is not c)
        return any(d.gain >= c.gain and _first(d, prefer) <= _first(c, prefer) and times(d.rise) < times(c.rise) for d in rivals)

    return [c for c in candidates if not beaten(c)]


def _mended(chosen: Sequence[Candidate]) -> tuple[int, int]:
    return sum(c.gain.errors for c in chosen), sum(c.gain.warnings for c in chosen)


def _first(candidate: Candidate, prefer: Collection[str]) -> tuple[bool, bool]:
    """What is preferred comes first, then what is exact."""
    form = candidate.match.substitution
    return form.name not in prefer, form.exactness != EXACT


def _by_worth(candidate: Candidate, prefer: Collection[str]) -> tuple[object, ...]:
    gain = candidate.gain
    return *_first(candidate, prefer), not gain.errors, candidate.price / (gain.errors or gain.warnings or 1)


def _greedy(candidates: Sequence[Candidate], key: Callable[[Candidate], tuple[object, ...]]) -> list[Candidate]:
    taken: set[Node] = set()
    chosen = []
    for candidate in sorted(candidates, key=key):
        if taken.isdisjoint(candidate.match.nodes):
            taken.update(candidate.match.nodes)
            chosen.append(candidate)
    return chosen


def _better(one: list[Candidate], other: list[Candidate]) -> list[Candidate]:
    def worth(chosen: Sequence[Candidate]) -> tuple[float, ...]:
        # As with the keys: what is preferred or exact counts first.
        lossy = sum(c.match.substitution.exactness != EXACT for c in chosen)
        return (
            sum(c.gain.errors for c in chosen),
            sum(c.gain.warnings for c in chosen),
            -lossy,
            -math.fsum(c.price for c in chosen),
        )

    return other if one[0].match is not other[0].match and worth(other) > worth(one) else one


def _overlapping(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Groups of candidates that share nodes, with each other or by way of others; in the order of the first of each."""
    leads = list(range(len(candidates)))

    def lead(i: int) -> int:
        while leads[i] != i:
            leads[i] = i = leads[leads[i]]
        return i

    owner: dict[Node, int] = {}
    for i, candidate in enumerate(candidates):
        for node in candidate.match.nodes:
            one, other = sorted((lead(i), lead(owner.setdefault(node, i))))
            leads[other] = one
    groups: dict[int, list[Candidate]] = {}
    for i, candidate in enumerate(candidates):
        groups.setdefault(lead(i), []).append(candidate)
    return list(groups.values())


def others(found: Sequence[Match]) -> Callable[[Match], tuple[str, ...]]:
    """Names of the substitutions that were found at nodes of a match as well."""
    claims: dict[Node, set[str]] = {}
    for match in found:
        for node in match.nodes:
            claims.setdefault(node, set()).add(match.substitution.name)
    return lambda match: tuple(sorted(set().union(*(claims.get(n, ()) for n in match.nodes)) - {match.substitution.name}))
