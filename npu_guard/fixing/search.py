"""Where substitutions apply: blocks with a finding to show for it, blocks that almost do, and what crashed on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from npu_guard.analysis.analyze import Analysis
from npu_guard.base.errors import NpuGuardError, Undecidable
from npu_guard.base.text import short
from npu_guard.checking.context import context_of
from npu_guard.device import Profile
from npu_guard.fixing.severities import counts, fails
from npu_guard.graph.graph import Node
from npu_guard.results.findings import Finding, RefusedMatch, RuleCrash
from npu_guard.rewriting.substitution import Match, Refused, Substitution, closed


def crash_at(substitution: Substitution, node: Node, error: Exception) -> RuleCrash:
    """An author's bug, told like one in a rule: the others still run."""
    return RuleCrash(substitution.name, short(node.label), f"{type(error).__name__}: {error}")


def refused_match(match: Match, reason: str) -> RefusedMatch:
    """A match that is not replaced, and why."""
    at = tuple(n.output.name for n in match.nodes if n.outputs)
    return RefusedMatch(match.substitution.name, match.root.label, reason, at)


class Search:
    """Asks substitutions about the nodes of one state of a model. Reads no weights."""

    def __init__(self, analysis: Analysis, findings: Iterable[Finding], profile: Profile) -> None:
        self.analysis = analysis
        self.context = context_of(analysis, profile)
        self.profile = profile
        self.found: list[Match] = []
        self.almost: list[RefusedMatch] = []
        self.crashes: list[RuleCrash] = []
        self._done = False
        self._at: dict[str, list[Finding]] = {}
        for finding in filter(counts, findings):
            self._at.setdefault(finding.location.output, []).append(finding)
        self._failing = {output for output, all_of_it in self._at.items() if any(map(fails, all_of_it))}

    def findings(self, nodes: Iterable[Node]) -> list[Finding]:
        """What is wrong with the nodes, or may be."""
        return [f for n in nodes if n.outputs for f in self._at.get(n.output.name, ())]

    def failing(self, node: Node) -> bool:
        """Whether something is wrong with the node."""
        return bool(node.outputs) and node.output.name in self._failing

    def ask(self, substitution: Substitution, node: Node) -> list[Match]:
        """The matches at a root, none where there is nothing to mend. Raises Refused where there almost is one."""
        try:
            matched = substitution.match(node, self.context)
        except (Refused, Undecidable) as refusal:
            raise Refused(refusal.reason) from None
        except NpuGuardError:
            raise
        except Exception as error:  # a bug in one substitution must not take the others along
            self.crashes.append(crash_at(substitution, node, error))
            return []
        if not matched:  # as for most of the nodes that are asked about
            return []
        matches = [matched] if isinstance(matched, Match) else list(matched)
        matches = [s for s in matches if any(map(self.failing, s.nodes))]
        for match in matches:
            closed(match.nodes, match.replaced, self.context)
        return matches

    def each(self, substitutions: Sequence[Substitution]) -> Iterator[Match | RefusedMatch]:
        """Every match, and what almost is one where something is wrong, in the order of the graph."""
        by_op: dict[str, list[Substitution]] = {}
        for substitution in substitutions if self._failing else ():
            for op in substitution.roots:
                by_op.setdefault(op, []).append(substitution)
        for node in self.analysis.nodes() if by_op else ():
            for substitution in by_op.get(node.op_type, ()) if not node.domain else ():
                if not self._concerns(substitution, node):
                    continue
                try:
                    matches = self.ask(substitution, node)
                except Refused as refusal:
                    if self.failing(node):
                        yield RefusedMatch(substitution.name, node.label, refusal.reason, (node.output.name,))
                else:
                    if matches:
                        yield from matches

    def _concerns(self, substitution: Substitution, node: Node) -> bool:
        """Whether there can be a match at a root for which something is wrong: told without asking, which loads its file."""
        if substitution.alone:
            return self.failing(node)
        if not substitution.rank:
            return True
        data = node.input(0)
        return data is not None and data.shape is not None and len(data.shape) == substitution.rank

    def all(self, substitutions: Sequence[Substitution]) -> list[Match]:
        """Every match; what almost is one is noted. Whoever asks again is not searched for again."""
        for found in self.each(substitutions) if not self._done else ():
            if isinstance(found, RefusedMatch):
                self.almost.append(found)
            else:
                self.found.append(found)
        self._done = True
        return self.found
