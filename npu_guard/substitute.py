"""Findings become an edited copy of the model: plan, rewrite, verify each block, keep or roll back, check again.

The driver verifies; no author of a substitution can forget to. What fails is rolled back and reported, the rest stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from npu_guard import blocks, edit, verify
from npu_guard.analyze import Analysis, analyze
from npu_guard.check import Checked
from npu_guard.context import Context
from npu_guard.document import Document
from npu_guard.errors import ModelError, Undecidable
from npu_guard.feeds import Feed
from npu_guard.graph import Node
from npu_guard.profile import Profile
from npu_guard.results import Applied, ModelReport, Outcome, RefusedSite, Verification
from npu_guard.runtime import CannotRun, Runtime
from npu_guard.substitution import Builder, Refused, Site, Substitution

MAX_PASSES = 20
BLOCK_FEEDS = 3
"""Inputs with which each block is verified alone, one of each kind; the whole is verified with all."""
CheckModel = Callable[[Analysis], Checked]
Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much; called again and again."""


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass(slots=True)
class Fixed:
    """What `fix` has done."""

    document: Document
    analysis: Analysis
    checked: Checked
    applied: list[Applied] = field(default_factory=list)
    refused: list[RefusedSite] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run of `fix` may do: substitutions in order of preference, inputs to verify with, and shapes."""

    substitutions: Sequence[Substitution]
    feeds: Sequence[Feed]
    """Inputs with which each block is verified."""
    samples: Sequence[Feed]
    """Inputs on which approximate substitutions are fitted: the user's, else drawn ones."""
    seeds: Sequence[int]
    kinds: str
    input_shapes: Mapping[str, Sequence[int]]
    verify: bool = True
    progress: Progress = silent


@dataclass(frozen=True, slots=True)
class FixReport:
    """What `fix` did to one model."""

    before: ModelReport
    after: ModelReport
    applied: tuple[Applied, ...]
    refused: tuple[RefusedSite, ...]
    verification: Verification
    document: Document
    """The new model, to be saved."""


def find_sites(
    analysis: Analysis, checked: Checked, profile: Profile, substitutions: Sequence[Substitution]
) -> tuple[list[Site], list[RefusedSite]]:
    """Blocks that can be replaced and have a finding to show for it, and those that almost could."""
    failing: dict[str, set[str]] = {}
    for finding in checked.findings:
        if finding.outcome is Outcome.FAIL and finding.suppressed is None:
            failing.setdefault(finding.rule, set()).add(finding.place.output)
    wanted = [s for s in substitutions if any(code in failing for code in s.rules)]
    by_op: dict[str, list[Substitution]] = {}
    for substitution in wanted:
        for op in substitution.anchors:
            by_op.setdefault(op, []).append(substitution)
    ctx = Context(analysis, profile)
    sites: list[Site] = []
    refused: list[RefusedSite] = []
    if not by_op:
        return sites, refused
    for node in analysis.nodes():
        for substitution in by_op.get(node.op_type, ()) if not node.domain else ():
            places = set().union(*(failing.get(code, set()) for code in substitution.rules))
            try:
                site = substitution.match(node, ctx)
            except (Refused, Undecidable) as refusal:
                refused.append(RefusedSite(substitution.name, node.label, refusal.reason))
                continue
            if site is None or not any(n.output.name in places for n in site.nodes):
                continue
            if any(n.graph.parent is not None for n in site.nodes):
                refused.append(RefusedSite(substitution.name, node.label, "it is inside a subgraph"))
            else:
                sites.append(site)
    return sites, refused


def choose(sites: Sequence[Site], order: Sequence[Substitution]) -> list[Site]:
    """Sites that do not overlap, earlier substitutions of `order` first, then graph order."""
    rank = {s.name: i for i, s in enumerate(order)}
    taken: set[Node] = set()
    chosen = []
    for site in sorted(sites, key=lambda s: rank[s.substitution.name]):
        if taken.isdisjoint(site.nodes):
            taken.update(site.nodes)
            chosen.append(site)
    return chosen


def fix(
    document: Document, analysis: Analysis, check: CheckModel, profile: Profile, settings: Settings, runtime: Runtime
) -> Fixed:
    """Replace blocks until nothing applies. The document given is not touched."""
    state = Fixed(document, analysis, check(analysis))
    refused: dict[tuple[str, str], RefusedSite] = {}
    banned: set[tuple[str, str]] = set()
    for _ in range(MAX_PASSES):
        sites, almost = find_sites(state.analysis, state.checked, profile, settings.substitutions)
        for entry in almost:
            refused.setdefault((entry.substitution, entry.node), entry)
        sites = [s for s in sites if (s.substitution.name, s.anchor.output.name) not in banned]
        chosen = choose(sites, settings.substitutions)
        if not chosen:
            break
        _one_pass(state, chosen, check, settings, runtime, refused, banned)
    state.refused = list(refused.values())
    return state


def _one_pass(
    state: Fixed, chosen: Sequence[Site], check: CheckModel, settings: Settings, runtime: Runtime,
    refused: dict[tuple[str, str], RefusedSite], banned: set[tuple[str, str]],
) -> None:  # fmt: skip
    """Rewrite all chosen sites in one copy, verify each block on its own, and keep those that hold."""

    def refuse(site: Site, reason: str) -> None:
        banned.add((site.substitution.name, site.anchor.output.name))
        key = (site.substitution.name, site.anchor.label)
        refused[key] = RefusedSite(*key, reason)

    nodes = state.analysis.model.graph.nodes
    document = state.document
    taken = edit.names_in(document.proto.graph)
    edits: list[blocks.Edit] = []
    for i, site in enumerate(chosen):
        settings.progress("Rewriting blocks", i, len(chosen))
        builder = Builder(site, document, taken, lambda values: blocks.capture(runtime, document, settings.samples, values))
        try:
            outputs = site.substitution.rewrite(site, builder)
            edits.append((site, builder, outputs))
        except (Refused, CannotRun) as refusal:
            refuse(site, str(refusal))
    verified: dict[Site, Verification] = {}
    held_out = settings.samples[-BLOCK_FEEDS:]
    if settings.verify:
        prover = blocks.Prover(runtime, document, state.analysis, settings.feeds, held_out, settings.seeds, settings.kinds)
        total = len(edits)
        settings.progress("Verifying blocks", 0, total)
        for done, (site, verification) in enumerate(prover.prove(edits), 1):
            settings.progress("Verifying blocks", done, total)
            if verification.verdict in ("equal", "close"):
                verified[site] = verification
            else:
                edits = [e for e in edits if e[0] is not site]
                refuse(site, f"rolled back: {verification.reason or blocks.describe(verification)}")
    while edits:
        try:
            edited = edit.replace(document, nodes, edits)
            analysis = analyze(edited.skeleton(), settings.input_shapes)
            break
        except ModelError as error:
            # The edit made a model that is none: find the site that did it by leaving them out one after the other.
            refuse(edits[-1][0], f"rolled back: the result is not valid ({error})")
            edits.pop()
    if not edits:
        return
    for site, builder, _ in edits:
        state.applied.append(
            Applied(
                site.substitution.name, site.substitution.exactness, site.anchor.label, site.substitution.rules,
                tuple(n.label for n in site.nodes), tuple(n.name for n in builder.nodes),
                verified.get(site, verify.not_run("not asked for")), builder.note,
            )
        )  # fmt: skip
    state.document, state.analysis = edited, analysis
    state.checked = check(analysis)
