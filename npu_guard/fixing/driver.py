"""Findings become an edited copy of the model: plan, rewrite, verify each block, keep or roll back, check again.

The driver verifies; no author of a substitution can forget to. What fails is rolled back and reported, the rest stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.base import sandbox
from npu_guard.base.errors import ModelError, NpuGuardError
from npu_guard.base.text import short
from npu_guard.checking.engine import Checked
from npu_guard.device import Profile
from npu_guard.file.document import Document
from npu_guard.fixing import block_check as blocks
from npu_guard.fixing.search import Cost, Search, choose, crash, others
from npu_guard.results.findings import Applied, ModelReport, RefusedSite, RuleCrash, Verification
from npu_guard.rewriting import edit
from npu_guard.rewriting.substitution import EXACT, Array, Builder, Refused, Site, Substitution
from npu_guard.rewriting.weights import SITES, Budget, Weights
from npu_guard.verification import capture
from npu_guard.verification import compare as verify
from npu_guard.verification.budget import MEMORY
from npu_guard.verification.feeds import Feed
from npu_guard.verification.runtime import CannotRun, Runtime

MAX_PASSES = 20
SPARE = 32 << 20
"""Bytes between what a rewrite may use and what nothing may, for what does not survive a refusal."""
MAX_INVALID = 64
"""Times that some of the edits are tried together without those that make the model invalid."""
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
    crashes: list[RuleCrash] = field(default_factory=list)
    """Substitutions that raised: bugs of ours."""
    reference: list[dict[str, Array]] = field(default_factory=list)
    """Outputs of the original model for the inputs with which blocks are verified, where it has been run with them."""


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
    prefer: Collection[str] = ()
    """Names of substitutions that come before others, whatever they cost."""
    root: Path | None = None
    """The project's folder, to which lines of Python are relative."""
    budget: Budget = field(default_factory=Budget)
    """Shared by all attempts at a model."""


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


def held_out(samples: Sequence[Feed]) -> Sequence[Feed]:
    """The last third, which no fit has seen (see `fitting.parts`)."""
    return samples[-max(1, len(samples) // 3) :]


class Picker(Protocol):
    """Says what to replace next."""

    refused: list[RefusedSite]
    """What almost was to be replaced, the latest reason last."""

    def pick(self, search: Search, number: int, banned: Collection[tuple[str, str]], cost: Cost) -> list[Site]:
        """Sites that do not overlap, for pass `number`; `banned` have failed before. None is the end."""


class Automatic:
    """Whatever has a finding and can be replaced, the best candidate for each block; but what is `guilty` stays as it was."""

    def __init__(
        self, substitutions: Sequence[Substitution], prefer: Collection[str] = (),
        guilty: Mapping[tuple[str, str], RefusedSite] | None = None,
    ) -> None:  # fmt: skip
        self._guilty = guilty or {}
        self.refused: list[RefusedSite] = []
        self._substitutions = substitutions
        self._prefer = prefer

    def pick(self, search: Search, number: int, banned: Collection[tuple[str, str]], cost: Cost) -> list[Site]:
        """All that does not overlap."""
        sites = [s for s in search.all(self._substitutions) if _key(s) not in banned and _key(s) not in self._guilty]
        self.refused += (*search.almost, *self._guilty.values())
        return choose(sites, self._substitutions, self._prefer, cost) if number <= MAX_PASSES else []


def find_sites(
    analysis: Analysis, checked: Checked, profile: Profile, substitutions: Sequence[Substitution]
) -> tuple[list[Site], list[RefusedSite]]:
    """Blocks that can be replaced and have a finding to show for it, and those that almost could."""
    search = Search(analysis, checked.findings, profile)
    return search.all(substitutions), search.almost


def fix(
    document: Document, analysis: Analysis, check: CheckModel, profile: Profile, settings: Settings, runtime: Runtime,
    picker: Picker | None = None, checked: Checked | None = None, search: Search | None = None,
) -> Fixed:  # fmt: skip
    """Replace blocks until nothing applies, or as the picker says. The document given is not touched.

    `checked` is what `check` says of the analysis, and `search` what was found in it, where that is known already.
    """
    picker = picker or Automatic(settings.substitutions, settings.prefer)
    by_itself = isinstance(picker, Automatic)
    driver = _Driver(Fixed(document, analysis, checked or check(analysis)), check, settings, runtime, search)
    while driver.one_pass(picker, profile):
        pass
    state = driver.state
    told = {(r.substitution, r.node): r for r in (*picker.refused, *driver.refused)}
    # What was refused at first and replaced in the end is no refusal, but for a step that somebody has asked for.
    replaced = {(a.substitution, label) for a in state.applied for label in a.nodes_before if by_itself}
    state.refused = [refusal for key, refusal in told.items() if key not in replaced]
    state.refused += driver.beyond
    state.crashes = list(driver.crashes.values())
    return state


def _key(site: Site) -> tuple[str, str]:
    return site.substitution.name, site.anchor.output.name


class _Driver:
    """One run of `fix`: the model as it stands, and what has failed so far."""

    def __init__(self, state: Fixed, check: CheckModel, settings: Settings, runtime: Runtime, search: Search | None) -> None:
        self.state = state
        self._search = search
        self.refused: list[RefusedSite] = []
        self.beyond: list[RefusedSite] = []
        self.crashes: dict[tuple[str, str], RuleCrash] = {}
        self._check = check
        self._settings = settings
        self._runtime = runtime
        self._banned: set[tuple[str, str]] = set()
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._sites = SITES
        self._weights = Weights(state.document, settings.budget)
        self._room = runtime.allowance.memory // 4
        self._made = 0  # bytes of new weights in the model
        self._memory = 0

    def one_pass(self, picker: Picker, profile: Profile) -> bool:
        """Rewrite what is picked in one copy, verify each block on its own, keep what holds. False where nothing was picked."""
        state, settings = self.state, self._settings
        search, self._search = self._search or Search(state.analysis, state.checked.findings, profile), None
        self._taken, self._numbers = edit.names_in(state.document.proto.graph), {}
        self._weights = Weights(state.document, settings.budget)
        self._memory = sandbox.used_memory()  # anew: a pass before may have left it with the process, if not in use
        number = state.applied[-1].number + 1 if state.applied else 1
        failed = len(self._banned)
        chosen = self._afford(picker.pick(search, number, self._banned, self._price))
        self.crashes.update(((c.rule, c.node), c) for c in search.crashes)
        edits = []
        for i, site in enumerate(chosen):
            settings.progress("Rewriting blocks", i, len(chosen))
            if (made := self._emit(site)) is not None:
                edits.append(made)
        verified = self._prove(edits) if settings.verify else {e[0]: verify.not_run("not asked for") for e in edits}
        merged = self._merge([e for e in edits if e[0] in verified])
        if merged is not None:
            kept, document, analysis = merged
            self._made += sum(t.ByteSize() for _, builder, _ in kept for t in builder.initializers)
            told = others(search.found)
            state.applied += (
                blocks.applied(e, number, verified[e[0]], search, analysis, told(e[0]), settings.root) for e in kept
            )
            state.document, state.analysis, state.checked = document, analysis, self._check(analysis)
        return bool(chosen) or len(self._banned) > failed

    def _afford(self, chosen: Sequence[Site]) -> Sequence[Site]:
        """As many sites as are left to this run; one sentence tells of the others."""
        budget = self._settings.budget
        left = min(budget.sites, self._sites)
        kept, rest = chosen[:left], chosen[left:]
        budget.sites -= len(kept)
        self._sites -= len(kept)
        if rest:
            reason = f"one run replaces {SITES:,} blocks at most, so {len(rest):,} from here on are left; fix the result again"
            self.beyond = [RefusedSite(rest[0].substitution.name, rest[0].anchor.label, reason)]
        return kept

    def _refuse(self, site: Site, reason: str) -> None:
        self._banned.add(_key(site))
        self.refused.append(RefusedSite(site.substitution.name, site.anchor.label, reason))

    def _emit(self, site: Site) -> blocks.Edit | None:
        """The new nodes of a site. Where its rewrite refuses or raises, the site is out."""
        settings, document = self._settings, self.state.document
        builder = Builder(
            site, document, self._taken, lambda values: capture.capture(self._runtime, document, settings.samples, values),
            self._weights, self._numbers,
        )  # fmt: skip
        try:
            # A file without weights can claim channels by the thousand, for which a dense kernel is gigabytes. A fit has samples.
            samples = 0 if site.substitution.exactness == EXACT else capture.CAPTURE_BYTES * 8
            builder.most = self._memory + self._room - self._made + samples
            with sandbox.bounded(builder.most + SPARE):
                outputs = site.substitution.rewrite(site, builder)
            made = {o for n in builder.nodes for o in n.output}
            missing = next((v for v in site.replaced if outputs.get(v) not in made), None)
            if missing is not None:
                raise LookupError(f"the rewrite has nothing for {short(missing.name)!r}")
        except (Refused, CannotRun) as refusal:
            self._refuse(site, str(refusal))
        except MemoryError:
            self._refuse(site, f"all new weights together need more than {self._room >> 20} MiB; {MEMORY}")
        except NpuGuardError:
            raise
        except Exception as error:  # a bug in one substitution must not take the others along
            self._banned.add(_key(site))
            self.crashes[_key(site)] = crash(site.substitution, site.anchor, error)
        else:
            return site, builder, outputs
        builder.give_back()
        return None

    def _price(self, site: Site) -> float | None:
        """What a site costs when it is replaced, from what its rewrite would emit; nothing once enough have been asked for."""
        budget, kind = self._settings.budget, blocks.kind(self.state.analysis, site)
        if kind in budget.known or not budget.prices:
            return budget.known.get(kind, 0.0)
        budget.prices -= 1
        made = self._emit(site)
        if made is None:
            return None
        made[1].give_back()
        return budget.known.setdefault(kind, blocks.price(self.state.document, self.state.analysis, made))

    def _prove(self, edits: Sequence[blocks.Edit]) -> dict[Site, Verification]:
        """Verifications of the sites that hold."""
        settings, state = self._settings, self.state
        samples = held_out(settings.samples)[-BLOCK_FEEDS:]
        prover = blocks.Prover(
            self._runtime, state.document, state.analysis, settings.feeds, samples, settings.seeds, settings.kinds,
            budget=settings.budget,
        )  # fmt: skip
        verified = {}
        if not state.applied:
            state.reference = prover.reference
        if edits:
            settings.progress("Verifying blocks", 0, len(edits))
        for done, (site, verification) in enumerate(prover.prove(edits), 1):
            settings.progress("Verifying blocks", done, len(edits))
            if verification.verdict in ("equal", "close"):
                verified[site] = verification
            else:
                self._refuse(site, f"rolled back: {verification.reason or blocks.describe(verification)}")
        return verified

    def _merge(self, edits: Sequence[blocks.Edit]) -> tuple[list[blocks.Edit], Document, Analysis] | None:
        """The model with all edits that make a valid one together; None where none does."""
        document, nodes = self.state.document, self.state.analysis.model.graph.nodes
        kept: list[blocks.Edit] = []
        result, tried = None, 0
        groups = [list(edits)] if edits else []
        while groups:
            group = groups.pop()
            try:
                edited = edit.replace(document, nodes, [*kept, *group])
                result = edited, analyze(edited.skeleton(), self._settings.input_shapes)
            except ModelError as error:
                # Halves find the culprit without taking its neighbours along.
                tried += 1
                if len(group) == 1 or tried > MAX_INVALID:
                    for site, *_ in group:
                        self._refuse(site, f"rolled back: the result is not valid ({error})")
                else:
                    groups += [group[len(group) // 2 :], group[: len(group) // 2]]
            else:
                kept += group
        return None if result is None else (kept, *result)
