"""Findings become an edited copy of the model: plan, rewrite, verify each block, keep or roll back, check again.

The driver verifies; no author of a substitution can forget to. What fails is rolled back and reported, the rest stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.base import sandbox
from npu_guard.base.errors import NpuGuardError
from npu_guard.checking.engine import Checked
from npu_guard.device import Profile
from npu_guard.file.document import Document
from npu_guard.file.value_names import names_in
from npu_guard.fixing import emission, roles
from npu_guard.fixing.block_check import BlockCheck, applied_entry, describe_difference
from npu_guard.fixing.ceiling import Ceiling, cost_of, is_dear
from npu_guard.fixing.choice import Candidate, Link, fewer, others
from npu_guard.fixing.judge import CheckModel, Judge
from npu_guard.fixing.known import Known
from npu_guard.fixing.merge import merge
from npu_guard.fixing.picker import Automatic, Key, Picker, key
from npu_guard.fixing.proving import prove_edits
from npu_guard.fixing.search import Search, crash_at, refused_match
from npu_guard.graph.graph import Value
from npu_guard.results.findings import Applied, ModelReport, RefusedMatch, RuleCrash
from npu_guard.results.verification import Verification
from npu_guard.rewriting.edit import Edit
from npu_guard.rewriting.substitution import EXACT, Array, Builder, Match, Refused, Substitution
from npu_guard.rewriting.weights import MATCHES, Budget, Weights
from npu_guard.verification import capture
from npu_guard.verification.compare import not_run
from npu_guard.verification.feeds import Feed
from npu_guard.verification.run_limits import MEMORY
from npu_guard.verification.runtime import CannotRun, Runtime

BLOCK_FEEDS = 3
"""Inputs with which each block is verified alone, one of each kind; the whole is verified with all."""
Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much; called again and again."""


def no_progress(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass(slots=True)
class Fixed:
    """What `fix` has done."""

    document: Document
    analysis: Analysis
    checked: Checked
    applied: list[Applied] = field(default_factory=list)
    refused: list[RefusedMatch] = field(default_factory=list)
    crashes: list[RuleCrash] = field(default_factory=list)
    """Substitutions that raised: bugs of ours."""
    reference: dict[int, dict[str, Array]] = field(default_factory=dict)
    """Outputs of the original model for the inputs with which blocks are verified, by their identity."""


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
    warnings: bool = False
    """Whether blocks with warnings alone are replaced whatever that costs; those with errors always are."""
    progress: Progress = no_progress
    prefer: Collection[str] = ()
    """Names of substitutions that come before others, whatever they cost."""
    root: Path | None = None
    """The project's folder, to which lines of Python are relative."""
    budget: Budget = field(default_factory=Budget)
    """Shared by all attempts at a model."""
    known: Known = field(default_factory=Known)
    """As the budget."""
    ceiling: Ceiling | None = None
    """What the model may cost when all is done."""


@dataclass(frozen=True, slots=True)
class FixReport:
    """What `fix` did to one model."""

    before: ModelReport
    after: ModelReport
    applied: tuple[Applied, ...]
    refused: tuple[RefusedMatch, ...]
    verification: Verification
    document: Document
    """The new model, to be saved."""
    input_shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Those that were given."""


def held_out(samples: Sequence[Feed]) -> Sequence[Feed]:
    """The last third, which no fit has seen (see `fitting.parts`)."""
    return samples[-max(1, len(samples) // 3) :]


def fix_document(
    document: Document, analysis: Analysis, check: CheckModel, profile: Profile, settings: Settings, runtime: Runtime,
    picker: Picker | None = None, checked: Checked | None = None, search: Search | None = None,
) -> Fixed:  # fmt: skip
    """Replace blocks until nothing applies, or as the picker says. The document given is not touched.

    `checked` is what `check` says of the analysis, and `search` what was found in it, where that is known already.
    """
    picker = picker or Automatic(settings.substitutions, settings.prefer, warnings=settings.warnings)
    by_itself = isinstance(picker, Automatic)
    driver = _Driver(Fixed(document, analysis, checked or check(analysis)), check, profile, settings, runtime, search)
    while driver.one_pass(picker) or (by_itself and driver.goes_on()):
        pass
    state = driver.state
    told = {(r.substitution, r.node): r for r in (*picker.refused, *driver.refused)}
    # What was refused at first and replaced in the end is no refusal, but for a step that somebody has asked for.
    replaced = {(a.substitution, label) for a in state.applied for label in a.nodes_before if by_itself}
    state.refused = [refusal for key, refusal in told.items() if key not in replaced]
    state.refused += driver.beyond
    state.crashes = list(driver.crashes.values())
    return state


class _Driver:
    """One run of `fix`: the model as it stands, and what has failed so far."""

    def __init__(
        self, state: Fixed, check: CheckModel, profile: Profile, settings: Settings, runtime: Runtime, search: Search | None
    ) -> None:
        self.state = state
        self._profile = profile
        self._left = 0  # bytes that may be added for the weights of a match
        self._search = search
        self.refused: list[RefusedMatch] = []
        self.beyond: list[RefusedMatch] = []
        self.crashes: dict[tuple[str, str], RuleCrash] = {}
        self._check = check
        self._settings = settings
        self._runtime = runtime
        self._banned: set[Key] = set()
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._captured: dict[tuple[str, ...], list[dict[str, Array]]] = {}
        self._matches = MATCHES
        self._weights = Weights(state.document, settings.budget)
        self._room = runtime.limits.memory // 4
        self._made = 0  # bytes of new weights in the model
        self._renewed = 0  # blocks that were replaced when it was last decided to judge more of them

    def one_pass(self, picker: Picker) -> bool:
        """Rewrite what is picked in one copy, verify each block on its own, keep what holds. False where nothing was picked."""
        state, settings = self.state, self._settings
        search, self._search = self._search or Search(state.analysis, state.checked.findings, self._profile), None
        judge = Judge(state.document, search, self._check, settings.substitutions, settings.known, ceiling=settings.ceiling)
        self._taken, self._numbers = names_in(state.document.proto.graph), {}
        self._weights = Weights(state.document, settings.budget)
        number = state.applied[-1].number + 1 if state.applied else 1
        failed = len(self._banned)
        chosen = self._afford(picker.pick(judge, number, self._banned))
        self.crashes.update(((c.rule, c.node), c) for c in (*search.crashes, *judge.known.crashes.values()))
        edits, wanted, fresh = [], {}, 0
        for i, candidate in enumerate(chosen):
            settings.progress("Rewriting blocks", i, len(chosen))
            if (made := self._emit(candidate, fresh)) is not None:
                edits.append(made)
                fresh += sum(t.ByteSize() for t in made.builder.initializers)
                wanted[made.match] = candidate
        costs = {c: cost_of(state.analysis, c.match.nodes) for c in wanted.values()}
        exact = all(s.exactness == EXACT for s in settings.substitutions)  # else the whole model may be judged by few inputs
        dear = {c.match for c, old in costs.items() if exact and is_dear(old, old + c.rise)}
        verified = self._prove(edits, dear) if settings.verify else {e.match: not_run("not asked for") for e in edits}
        held = [e for e in edits if e.match in verified]
        merged = merge(state.document, state.analysis, state.checked, held, self._looked_at, settings.ceiling)
        for match, why in merged.refused:
            self._refuse(match, why)
        if merged.kept:
            self._made += sum(t.ByteSize() for e in merged.kept for t in e.builder.initializers)
            told = others(search.found)
            for entry in merged.kept:
                match, chain = entry.match, wanted[entry.match].chain
                rules = fewer(wanted[match].before, merged.left[match])
                step = applied_entry(entry, verified[match], state.analysis, merged.analysis, settings.root)
                state.applied.append(replace(step, number=number, rules=rules, chain=chain, others=told(match)))
            state.document, state.analysis, state.checked = merged.document, merged.analysis, merged.checked
        return bool(chosen) or len(self._banned) > failed

    def goes_on(self) -> bool:
        """Whether more blocks are judged than was said at first: where some were replaced meanwhile, as a second fix would."""
        known, done = self._settings.known, len(self.state.applied)
        if not known.is_spent or done == self._renewed:
            return False
        self._renewed = done
        known.renew(len(self.state.checked.findings))
        return True

    def _looked_at(self, document: Document) -> tuple[Analysis, Checked]:
        analysis = analyze(document.skeleton(), self._settings.input_shapes)
        analysis.write_branches(document.proto)
        return analysis, self._check(analysis)

    def _afford(self, chosen: Sequence[Candidate]) -> Sequence[Candidate]:
        """As many matches as are left to this run; one sentence tells of the others."""
        budget = self._settings.budget
        left = min(budget.matches, self._matches)
        kept, rest = chosen[:left], chosen[left:]
        budget.matches -= len(kept)
        self._matches -= len(kept)
        if rest:
            reason = f"one run replaces {MATCHES:,} blocks at most, so {len(rest):,} from here on are left; fix the result again"
            first = rest[0].match
            self.beyond = [RefusedMatch(first.substitution.name, first.root.label, reason)]
        return kept

    def _refuse(self, match: Match, reason: str) -> None:
        self._banned.add(key(match))
        self.refused.append(refused_match(match, reason))

    def _emit(self, candidate: Candidate, fresh: int) -> Edit | None:
        """The new nodes of a match. Where its rewrite refuses or raises, the match is out.

        `fresh` are the bytes of new weights that this pass has made and that are in no model yet.
        """
        match = candidate.match
        chain = candidate.outlook.chain if candidate.outlook is not None else ()
        state = self.state.document, self.state.analysis
        try:
            # A file without weights can claim channels by the thousand, for which a dense kernel is gigabytes. A fit has samples.
            samples = 0 if match.substitution.exactness == EXACT else capture.CAPTURE_BYTES * 8
            self._left = max(0, self._room - self._made - fresh) + samples
            self._captured = {}
            made = emission.emitted(match, chain, *state, self._profile, self._builder)
            roles.mark(made, lambda read, only: self._with_other_weights(match, chain, read, only))
            return made
        except (Refused, CannotRun) as refusal:
            self._refuse(match, str(refusal))
        except MemoryError:
            self._refuse(match, f"all new weights together need more than {self._room >> 20} MiB; {MEMORY}")
        except NpuGuardError:
            raise
        except Exception as error:  # a bug in one substitution must not take the others along
            self._banned.add(key(match))
            self.crashes[key(match)] = crash_at(match.substitution, match.root, error)
        return None

    def _builder(self, match: Match, document: Document) -> Builder:
        """For new nodes in the document, which is the model or a block of it."""
        samples = self._settings.samples
        weights = self._weights if document is self.state.document else Weights(document, self._settings.budget)
        builder = Builder(
            match, document, self._taken, lambda values: self._capture(document, samples, values), weights, self._numbers
        )
        # Counted from what is used now, which is more than the weights: to search, to judge and to chain takes memory as well.
        builder.most = sandbox.used_memory() + self._left
        return builder

    def _capture(self, document: Document, samples: Sequence[Feed], values: Sequence[Value]) -> list[dict[str, Array]]:
        key = tuple(v.name for v in values)
        if key not in self._captured:
            self._captured[key] = capture.capture(self._runtime, document, samples, values)
        return self._captured[key]

    def _with_other_weights(self, match: Match, chain: Sequence[Link], read: roles.Read, only: str) -> Edit:
        """What the rewrite emits for other weights, and other activations of these; its names are free again."""
        names = self.state.analysis.model.graph.values

        def builder_of(match: Match, document: Document) -> Builder:
            def captured(values: Sequence[Value]) -> list[dict[str, Array]]:
                seen = self._capture(document, self._settings.samples, values)
                return seen if only else [{name: roles.moved(array, name) for name, array in s.items()} for s in seen]

            base = self._weights if document is self.state.document else Weights(document, Budget())
            builder = Builder(match, document, self._taken, captured, roles.Moved(base, names, read, only), self._numbers)
            builder.most = sandbox.used_memory() + self._left
            return builder

        made = emission.emitted(match, chain, self.state.document, self.state.analysis, self._profile, builder_of)
        made.builder.give_back()
        return made

    def _prove(self, edits: Sequence[Edit], dear: Set[Match]) -> dict[Match, Verification]:
        """Verifications of the matches that hold."""
        settings, state = self._settings, self.state
        samples = held_out(settings.samples)[-BLOCK_FEEDS:]
        if edits:
            settings.progress("Proving blocks", 0, len(edits))
        proofs = dict(
            zip((e.match for e in edits), prove_edits(state.document, state.analysis, edits, settings.budget), strict=True)
        )
        blocks = BlockCheck(
            self._runtime, state.document, state.analysis, settings.feeds, samples, settings.seeds, settings.kinds, proofs,
            dear, budget=settings.budget,
        )  # fmt: skip
        verified = {}
        if not state.applied:
            state.reference = blocks.reference
        if edits:
            settings.progress("Verifying blocks", 0, len(edits))
        for done, (match, verification) in enumerate(blocks.compare(edits), 1):
            settings.progress("Verifying blocks", done, len(edits))
            if verification.verdict in ("equal", "close"):
                verified[match] = verification
            else:
                self._refuse(match, f"rolled back: {verification.reason or describe_difference(verification)}")
        return verified
