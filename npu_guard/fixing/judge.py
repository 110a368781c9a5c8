"""What the device would say of a form: its new nodes, from a sketch without weights, asked by the same rules.

Forms follow each other: where the device still refuses a new node, a form is looked for that it takes in the place of that one.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.base import sandbox
from npu_guard.base.errors import ModelError, NpuGuardError, Undecidable
from npu_guard.base.text import short
from npu_guard.checking.engine import Checked
from npu_guard.file.document import Document
from npu_guard.fixing import block_check as blocks
from npu_guard.fixing.choice import Candidate, Link, Outlook, choose
from npu_guard.fixing.search import Search, crash
from npu_guard.fixing.tally import tally
from npu_guard.graph.graph import Value
from npu_guard.results.findings import RefusedSite, RuleCrash
from npu_guard.rewriting import edit
from npu_guard.rewriting.sketch import Sketch, Unsketched
from npu_guard.rewriting.substitution import EXACT, Builder, Refused, Site, Substitution

DEPTH = 3
"""Forms in one place that follow each other: ReduceMax over a long axis, a pool, a cascade of pools."""
SKETCHES = 1000
"""Sketches of one run; a network has some dozens of blocks that differ from each other."""
ROOM = 256 << 20
"""Bytes that a sketch may take: a rewrite that makes its weights after all must not take the machine along."""
CheckModel = Callable[[Analysis], Checked]


@dataclass(slots=True)
class Known:
    """Outlooks by the kind of block, for all states of a model: equal blocks of a network, of which there may be hundreds."""

    outlooks: dict[Hashable, Outlook | None] = field(default_factory=dict)
    sketches: int = 0
    """How many have been made."""
    crashes: dict[tuple[str, str], RuleCrash] = field(default_factory=dict)


class Crashed(Refused):
    """A bug in a rewrite, noted as such."""


class Judge:
    """Judges the sites of one state of a model. Reads no weights, and makes none."""

    def __init__(
        self, document: Document, search: Search, check: CheckModel, substitutions: Sequence[Substitution],
        known: Known | None = None, depth: int = DEPTH,
    ) -> None:  # fmt: skip
        """`document` is the model of the search; nothing in it changes."""
        self.search = search
        self.refused: list[RefusedSite] = []
        self.known = known if known is not None else Known()
        self._document = document
        self._check = check
        self._substitutions = substitutions
        self._depth = depth
        self._taken: set[str] | None = None

    def candidates(self, sites: Sequence[Site]) -> list[Candidate]:
        """The sites, each with what becomes of it; without those whose rewrite refuses."""
        found = []
        for site in sites:
            try:
                found.append(self.candidate(site))
            except Crashed:
                continue
            except Refused as refusal:
                self.refused.append(RefusedSite(site.substitution.name, site.anchor.label, refusal.reason))
        return found

    def candidate(self, site: Site) -> Candidate:
        """The site with what becomes of it. Raises Refused."""
        return Candidate(site, tuple(self.search.findings(site.nodes)), self._outlook(site))

    def _outlook(self, site: Site) -> Outlook | None:
        kind = blocks.kind(self.search.analysis, site), self._depth
        known = self.known
        if kind not in known.outlooks:
            if known.sketches >= SKETCHES:
                raise Refused(f"one run judges {SKETCHES:,} blocks at most that differ from each other; fix the result again")
            known.sketches += 1
            try:
                known.outlooks[kind] = self._judged(site)
            except Unsketched:
                known.outlooks[kind] = None
        return known.outlooks[kind]

    def _judged(self, site: Site) -> Outlook:
        """What is wrong with the new nodes, after the forms that follow."""
        analysis = self.search.analysis
        sketch, outputs = self._sketched(site)
        sketch.give_back()
        try:
            block = blocks.block_model(self._document, analysis, [(site, sketch, outputs)])
            block.payloads = ChainMap(sketch.payloads, dict(self._document.payloads))
            inner = analyze(block.skeleton())
        except ModelError as error:
            raise Refused(f"its new nodes are not valid ({error})") from None
        made = {o for n in sketch.nodes for o in n.output}
        findings = [f for f in self._check(inner).findings if f.place.output in made]
        paid = sum(blocks.priced(analysis.costs[n]) for n in site.nodes if n in analysis.costs)
        outlook = Outlook(tuple(findings), _cost(inner) - paid, paid)
        if not tally(findings).errors or not self._depth:
            return outlook
        return self._chained(block, inner, sketch, outlook)

    def _chained(self, block: Document, inner: Analysis, sketch: Sketch, outlook: Outlook) -> Outlook:
        """With forms in the place of new nodes that the device refuses."""
        search = Search(inner, outlook.left, self.search.profile)
        judge = Judge(block, search, self._check, self._substitutions, self.known, self._depth - 1)
        own = {node.output[0]: i for i, node in enumerate(sketch.nodes)}
        exact = [s for s in self._substitutions if s.exactness == EXACT]
        sites = [s for s in search.all(exact) if s.anchor.output.name in own and all(n.output.name in own for n in s.nodes)]
        chosen = choose([c for c in judge.candidates(sites) if c.gain.errors > 0], exact)
        gone = {id(f) for c in chosen for f in c.before}
        left = [f for f in outlook.left if id(f) not in gone]
        left += (f for c in chosen for f in c.left)
        price = outlook.price + math.fsum(c.price for c in chosen)
        return Outlook(tuple(left), price, outlook.paid, tuple(link(c, own[c.site.anchor.output.name]) for c in chosen))

    def _sketched(self, site: Site) -> tuple[Sketch, Mapping[Value, str]]:
        """The new nodes without weights. Raises Refused."""
        if self._taken is None:
            self._taken = edit.names_in(self._document.proto.graph)
        sketch = Sketch(site, self._document, self._taken, self.search.analysis.constants)
        room = sandbox.used_memory() + ROOM
        try:
            with sandbox.bounded(room):
                outputs = site.substitution.rewrite(site, sketch)
            expect_all(site, sketch, outputs)
        except (Refused, Unsketched):
            sketch.give_back()
            raise
        except Undecidable as gap:
            raise Refused(gap.reason) from None
        except MemoryError:
            raise Refused(f"its new weights need more than {ROOM >> 20} MiB") from None
        except NpuGuardError:
            raise
        except Exception as error:  # a bug in one substitution must not take the others along
            key = site.substitution.name, site.anchor.output.name
            self.known.crashes[key] = crash(site.substitution, site.anchor, error)
            raise Crashed("it crashed") from None
        return sketch, outputs


def expect_all(site: Site, builder: Builder, outputs: Mapping[Value, str]) -> None:
    """Raise LookupError where the new nodes do not provide all that they have to."""
    made = {o for n in builder.nodes for o in n.output}
    missing = next((v for v in site.replaced if outputs.get(v) not in made), None)
    if missing is not None:
        raise LookupError(f"the rewrite has nothing for {short(missing.name)!r}")


def link(candidate: Candidate, at: int) -> Link:
    """A candidate as what follows another form."""
    chain = candidate.outlook.chain if candidate.outlook is not None else ()
    return Link(candidate.site.substitution, at, candidate.site.variant, chain)


def _cost(analysis: Analysis) -> float:
    return math.fsum(map(blocks.priced, analysis.costs.values()))


def reason(candidate: Candidate) -> str:
    """Why a form that fits is not taken, in words."""
    gain, left = candidate.gain, candidate.left
    if gain > (0, 0):
        return f"it would remove {gain.warnings} warnings, at a cost; --prefer {candidate.site.substitution.name} asks for it"
    worst = min(left, key=lambda f: -f.severity.rank)
    more = f", and {len(left) - 1} more" if len(left) > 1 else ""
    return f"the device would refuse what is new: {worst.rule} at {worst.place.op_type} ({worst.message}){more}"
