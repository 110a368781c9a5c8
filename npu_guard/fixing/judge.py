"""What the device would say of a form: its new nodes, from a sketch without weights, asked by the same rules.

Forms follow each other: where the device still refuses a new node, a form is looked for that it takes in the place of that one.
"""

from __future__ import annotations

import functools
import math
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.analysis.ends import METRICS, border_of
from npu_guard.base import sandbox
from npu_guard.base.errors import ModelError, NpuGuardError, Undecidable
from npu_guard.base.text import short
from npu_guard.checking.engine import Checked
from npu_guard.file.document import Document
from npu_guard.file.value_names import names_in
from npu_guard.fixing.blocks import block_model, boundary, price_key, priced
from npu_guard.fixing.ceiling import OPEN, Ceiling, Cost, cost_of
from npu_guard.fixing.choice import Candidate, Link, Outlook, choose
from npu_guard.fixing.known import TRIED, UNKNOWN, Known
from npu_guard.fixing.search import Search, crash_at, refused_match
from npu_guard.fixing.severities import tally
from npu_guard.graph.graph import Value
from npu_guard.results.findings import Finding, RefusedMatch
from npu_guard.results.summary import plural
from npu_guard.rewriting.edit import Edit
from npu_guard.rewriting.readable import Readable, unread
from npu_guard.rewriting.sketch import Sketch, Unsketched
from npu_guard.rewriting.substitution import EXACT, Builder, Match, Refused, Substitution

DEPTH = 3
"""Forms in one place that follow each other: ReduceMax over a long axis, a pool, a cascade of pools."""
ROOM = 256 << 20
"""Bytes that a sketch may take: a rewrite that makes its weights after all must not take the machine along."""
SPARE = 32 << 20
"""Bytes between what a rewrite may use and what nothing may, for what does not survive a refusal."""
CheckModel = Callable[[Analysis], Checked]


class Crashed(Refused):
    """A bug in a rewrite, noted as such."""


class Judge:
    """Judges the matches of one state of a model. Reads no weights, and makes none."""

    def __init__(
        self, document: Document, search: Search, check: CheckModel, substitutions: Sequence[Substitution],
        known: Known | None = None, depth: int = DEPTH, ceiling: Ceiling | None = None,
    ) -> None:  # fmt: skip
        """`document` is the model of the search; nothing in it changes. `ceiling` is what the whole of it may cost."""
        self.search = search
        self.refused: list[RefusedMatch] = []
        self.known = known if known is not None else Known()
        self._document = document
        self._check = check
        self._substitutions = substitutions
        self._depth = depth
        self._taken: set[str] | None = None
        self._readable = Readable(search.analysis)
        self.ceiling = ceiling
        if self.known.bordered is None:
            self.known.bordered = search.profile.asks(METRICS)
        self._bordered = self.known.bordered

    def over(self, rise: Cost) -> str:
        """Why the model may not cost so much more than it does; empty where it may."""
        if self.ceiling is None:
            return ""
        return OPEN if rise.open else self.ceiling.reason(self._now + rise)

    def times(self, rise: Cost) -> float:
        """How many times the original the model would cost; infinite where that cannot be told."""
        return self.ceiling.times(self._now + rise) if self.ceiling is not None and not rise.open else math.inf

    @functools.cached_property
    def _now(self) -> Cost:
        return cost_of(self.search.analysis)

    def candidates(self, matches: Sequence[Match]) -> list[Candidate]:
        """The matches, each with what becomes of it; without those whose rewrite refuses."""
        found = []
        for match in matches:
            try:
                found.append(self.candidate(match))
            except Crashed:
                continue
            except Refused as refusal:
                self.refused.append(refused_match(match, refusal.reason))
        return found

    def usual_first(self, matches: Sequence[Match]) -> list[Candidate]:
        """As `candidates`, but where a form leaves no error that was taken at blocks like this one, no other is judged."""
        usual = [m for m in matches if self.known.is_usual(m, self._depth, self.search.findings(m.nodes))]
        found = self.candidates(usual)
        mended = {n for c in found if not tally(c.left).errors for n in c.match.nodes}
        known = set(usual)
        return found + self.candidates([m for m in matches if m not in known and mended.isdisjoint(m.nodes)])

    def candidate(self, match: Match) -> Candidate:
        """The match with what becomes of it. Raises Refused."""
        before = tuple(self.search.findings(match.nodes))
        return Candidate(match, before, self._outlook(match, before))

    def _outlook(self, match: Match, before: Sequence[Finding]) -> Outlook | None:
        missing = self._readable.missing(match)
        kind = price_key(self.search.analysis, match, bordered=self._bordered), tuple(sorted(missing.values()))
        known, form = self.known, match.substitution.name
        found = known.outlook(kind, self._depth)  # asked once: a key has all of a block, and takes long to hash
        if found is not UNKNOWN:
            return found
        if known.is_spent:
            known.passed_over = True
            raise Refused(f"{known.most:,} blocks that differ from each other were judged, which are the most")
        if self._depth < DEPTH and known.is_hopeless(form, self._depth, before):
            raise Refused(f"it has helped at none of {TRIED} blocks with the same findings")
        known.sketches += 1
        try:
            found = self._judged(match, missing)
        except Unsketched:
            found = None
        known.keep(kind, self._depth, found)
        known.note(form, self._depth, before, found)
        return found

    def _judged(self, match: Match, missing: Mapping[Value, str]) -> Outlook:
        """What is wrong with the new nodes, after the forms that follow. Raises Refused where they need what is missing."""
        analysis = self.search.analysis
        sketch, outputs = self._sketched(match)
        sketch.give_back()
        if reason := unread(missing, sketch):
            raise Refused(reason)
        try:
            fed = boundary(analysis, sketch)
            block = block_model(self._document, analysis, [Edit(match, sketch, outputs)], fed=fed)
            block.payloads = ChainMap(sketch.payloads, dict(self._document.payloads))
            border = border_of(analysis, set(match.nodes), fed, outputs) if self._bordered else None
            inner = analyze(block.skeleton(), border=border)
        except ModelError as error:
            raise Refused(f"its new nodes are not valid ({error})") from None
        made = {o for n in sketch.nodes for o in n.output}
        findings = [f for f in self._check(inner).findings if f.location.output in made]
        paid = sum(priced(analysis.costs[n]) for n in match.nodes if n in analysis.costs)
        rise = cost_of(analysis, match.nodes).rise_to(cost_of(inner, [n for n in inner.costs if n.output.name in made]))
        outlook = Outlook(tuple(findings), _cost(inner) - paid, paid, rise=rise)
        if not tally(findings).errors or not self._depth or match.substitution.ends:
            return outlook
        return self._chained(block, inner, sketch, outlook)

    def _chained(self, block: Document, inner: Analysis, sketch: Sketch, outlook: Outlook) -> Outlook:
        """With forms in the place of new nodes that the device refuses."""
        search = Search(inner, outlook.left, self.search.profile)
        judge = Judge(block, search, self._check, self._substitutions, self.known, self._depth - 1)
        own = {node.output[0]: i for i, node in enumerate(sketch.nodes)}
        exact = [s for s in self._substitutions if s.exactness == EXACT]
        matches = [s for s in search.all(exact) if s.root.output.name in own and all(n.output.name in own for n in s.nodes)]
        chosen = _in_turn([c for c in judge.usual_first(matches) if c.gain.errors > 0], exact)
        for c in chosen:
            if not tally(c.left).errors:
                self.known.take(c.match, judge._depth, c.before)
        gone = {id(f) for c in chosen for f in c.before}
        left = [f for f in outlook.left if id(f) not in gone]
        left += (f for c in chosen for f in c.left)
        price = outlook.price + math.fsum(c.price for c in chosen)
        chain = tuple(link(c, own[c.match.root.output.name]) for c in chosen)
        return Outlook(tuple(left), price, outlook.paid, chain, sum((c.rise for c in chosen), outlook.rise))

    def _sketched(self, match: Match) -> tuple[Sketch, Mapping[Value, str]]:
        """The new nodes without weights. Raises Refused."""
        if self._taken is None:
            self._taken = names_in(self._document.proto.graph)
        sketch = Sketch(match, self._document, self._taken, self.search.analysis.constants)
        sketch.most = sandbox.used_memory() + ROOM
        try:
            with sandbox.bounded(sketch.most + SPARE):
                outputs = match.substitution.rewrite(match, sketch)
            expect_all(match, sketch, outputs)
        except (Refused, Unsketched):
            sketch.give_back()
            raise
        except Undecidable as gap:
            raise Refused(gap.reason) from None
        except MemoryError:
            raise Refused(f"its new nodes and weights need more than {ROOM >> 20} MiB") from None
        except NpuGuardError:
            raise
        except Exception as error:  # a bug in one substitution must not take the others along
            key = match.substitution.name, match.root.output.name
            self.known.crashes[key] = crash_at(match.substitution, match.root, error)
            raise Crashed("it crashed") from None
        return sketch, outputs


def expect_all(match: Match, builder: Builder, outputs: Mapping[Value, str]) -> None:
    """Raise LookupError where the new nodes do not provide all that they have to."""
    made = {o for n in builder.nodes for o in n.output}
    missing = next((v for v in match.replaced if outputs.get(v) not in made), None)
    if missing is not None:
        raise LookupError(f"the rewrite has nothing for {short(missing.name)!r}")


def _in_turn(candidates: Sequence[Candidate], order: Sequence[Substitution]) -> list[Candidate]:
    """Candidates that do not overlap; those that wait for others take what these leave, as the next round of a fix would."""
    chosen: list[Candidate] = []
    left = list(candidates)
    while left:
        chosen += choose(left, order)
        taken = {n for c in chosen for n in c.match.nodes}
        left = [c for c in left if taken.isdisjoint(c.match.nodes)]
    return chosen


def link(candidate: Candidate, at: int) -> Link:
    """A candidate as what follows another form."""
    chain = candidate.outlook.chain if candidate.outlook is not None else ()
    return Link(candidate.match.substitution, at, candidate.match.variant, chain)


def _cost(analysis: Analysis) -> float:
    return math.fsum(map(priced, analysis.costs.values()))


def reason(candidate: Candidate) -> str:
    """Why a form that fits is not taken, in words."""
    gain, left = candidate.gain, candidate.left
    if gain > (0, 0):
        removes = plural(gain.warnings, "warning")
        return f"it would remove {removes}, at a cost; --prefer {candidate.match.substitution.name} asks for it"
    worst = min(left, key=lambda f: -f.severity.rank)
    more = f", and {len(left) - 1} more" if len(left) > 1 else ""
    return f"the device would refuse what is new: {worst.rule} at {worst.location.op_type} ({worst.message}){more}"
