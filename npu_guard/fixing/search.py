"""Where substitutions apply: blocks with a finding to show for it, blocks that almost do, and what crashed on the way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from msgspec.structs import replace

from npu_guard.analysis.analyze import Analysis
from npu_guard.base.errors import NpuGuardError, Undecidable
from npu_guard.base.text import short
from npu_guard.checking.context import Context
from npu_guard.device import Profile
from npu_guard.graph.graph import Node
from npu_guard.results.findings import Finding, Outcome, RefusedSite, Remedy, RuleCrash
from npu_guard.rewriting.substitution import EXACT, Refused, Site, Substitution, closed

Cost = Callable[[Site], float | None]
"""What a site costs once it is replaced; None where it cannot be."""


def crash(substitution: Substitution, node: Node, error: Exception) -> RuleCrash:
    """An author's bug, told like one in a rule: the others still run."""
    return RuleCrash(substitution.name, short(node.label), f"{type(error).__name__}: {error}")


class Search:
    """Asks substitutions about the nodes of one state of a model. Reads no weights."""

    def __init__(self, analysis: Analysis, findings: Iterable[Finding], profile: Profile) -> None:
        self.analysis = analysis
        self.found: list[Site] = []
        self.almost: list[RefusedSite] = []
        self.crashes: list[RuleCrash] = []
        self._context = Context(analysis, profile)
        self._done = False
        self._failing: dict[str, set[str]] = {}
        for finding in findings:
            if finding.outcome is Outcome.FAIL and finding.suppressed is None:
                self._failing.setdefault(finding.rule, set()).add(finding.place.output)

    def wants(self, substitution: Substitution) -> bool:
        """Whether there is any finding that it could remove."""
        return any(code in self._failing for code in substitution.rules)

    def silenced(self, site: Site) -> tuple[str, ...]:
        """Codes of the rules whose findings in the block the substitution removes."""
        made = {n.output.name for n in site.nodes}
        return tuple(code for code in site.substitution.rules if not made.isdisjoint(self._failing.get(code, ())))

    def ask(self, substitution: Substitution, node: Node) -> Site | None:
        """The site at an anchor, None where there is none or nothing to mend. Raises Refused where there almost is one."""
        try:
            site = substitution.match(node, self._context)
        except (Refused, Undecidable) as refusal:
            raise Refused(refusal.reason) from None
        except NpuGuardError:
            raise
        except Exception as error:  # a bug in one substitution must not take the others along
            self.crashes.append(crash(substitution, node, error))
            return None
        if site is None or not self.silenced(site):
            return None
        closed(site.nodes, site.replaced, self._context)
        return site

    def each(self, substitutions: Sequence[Substitution]) -> Iterator[Site | RefusedSite]:
        """Every site, and what almost is one, in the order of the graph."""
        by_op: dict[str, list[Substitution]] = {}
        for substitution in filter(self.wants, substitutions):
            for op in substitution.anchors:
                by_op.setdefault(op, []).append(substitution)
        for node in self.analysis.nodes() if by_op else ():
            for substitution in by_op.get(node.op_type, ()) if not node.domain else ():
                try:
                    site = self.ask(substitution, node)
                except Refused as refusal:
                    yield RefusedSite(substitution.name, node.label, refusal.reason)
                else:
                    if site is not None:
                        yield site

    def all(self, substitutions: Sequence[Substitution]) -> list[Site]:
        """Every site; what almost is one is noted. Whoever asks again is not searched for again."""
        for found in self.each(substitutions) if not self._done else ():
            if isinstance(found, RefusedSite):
                self.almost.append(found)
            else:
                self.found.append(found)
        self._done = True
        return self.found


def choose(sites: Sequence[Site], order: Sequence[Substitution], prefer: Collection[str], cost: Cost) -> list[Site]:
    """Sites that do not overlap: preferred ones first, then exact ones, of these the cheapest, then in the given order.

    Substitutions that wait for the others come when nothing else is left. `cost` is asked only where exact ones compete.
    """
    rank = {s.name: i for i, s in enumerate(order)}
    now = [s for s in sites if not s.substitution.last or s.substitution.name in prefer] or sites
    claims: dict[Node, int] = {}
    for site in now:
        for node in site.nodes if site.substitution.exactness == EXACT else ():
            claims[node] = claims.get(node, 0) + 1

    found: list[tuple[bool, bool, float, int, Site]] = []
    for site in now:
        name, exact = site.substitution.name, site.substitution.exactness == EXACT
        contested = exact and name not in prefer and any(claims[n] > 1 for n in site.nodes)
        price = cost(site) if contested else 0.0
        if price is not None:
            found.append((name not in prefer, not exact, price, rank[name], site))
    taken: set[Node] = set()
    chosen = []
    for *_, site in sorted(found, key=lambda entry: entry[:4]):
        if taken.isdisjoint(site.nodes):
            taken.update(site.nodes)
            chosen.append(site)
    return chosen


def others(found: Sequence[Site]) -> Callable[[Site], tuple[str, ...]]:
    """Names of the substitutions that were found at nodes of a site as well."""
    claims: dict[Node, set[str]] = {}
    for site in found:
        for node in site.nodes:
            claims.setdefault(node, set()).add(site.substitution.name)
    return lambda site: tuple(sorted(set().union(*(claims.get(n, ()) for n in site.nodes)) - {site.substitution.name}))


def with_remedies(
    findings: Sequence[Finding], analysis: Analysis, profile: Profile, substitutions: Sequence[Substitution]
) -> tuple[Finding, ...]:
    """The findings, each with the substitution that would remove it, an exact one where there is one.

    `substitutions` are in order of preference.
    """
    rank = {s.name: i for i, s in enumerate(substitutions)}
    best: dict[tuple[str, str], Substitution] = {}
    for site in sorted(Search(analysis, findings, profile).all(substitutions), key=lambda s: rank[s.substitution.name]):
        for node in site.nodes:
            for code in site.substitution.rules:
                best.setdefault((code, node.output.name), site.substitution)

    def told(finding: Finding) -> Finding:
        by = best.get((finding.rule, finding.place.output))
        if by is None or finding.outcome is not Outcome.FAIL or finding.suppressed is not None:
            return finding
        advice = finding.remedy.advice if finding.remedy is not None else ""
        return replace(finding, remedy=Remedy(by.name, by.exactness, advice))

    return tuple(map(told, findings))
