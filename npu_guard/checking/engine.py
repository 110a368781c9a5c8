"""Rules x graph x profile. Rules are asked node by node; what they raise stays with them."""

from __future__ import annotations

import collections
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path

import msgspec
from msgspec import Struct, field

from npu_guard.analysis.analyze import Analysis
from npu_guard.base.errors import ModelError, Undecidable
from npu_guard.base.limits import exceeded
from npu_guard.base.text import short
from npu_guard.checking.context import Context, context_of
from npu_guard.checking.replacements import usual_replacement
from npu_guard.checking.rule import Draft, Rule
from npu_guard.checking.selection import of_plain, selected_rules
from npu_guard.checking.toolchain import Refusal, of_format, of_groups
from npu_guard.device import Limit, Profile, Requirement
from npu_guard.device.keys import EVERY
from npu_guard.device.pattern import Pattern
from npu_guard.graph import origin
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.origin import input_location, location_of, source_of
from npu_guard.graph.plain_names import PLAIN
from npu_guard.project.config import Config
from npu_guard.results.findings import Evidence, Finding, Outcome, Remedy, RuleCrash, Severity


class Checked(Struct, frozen=True):
    """What the rules said of one model."""

    findings: tuple[Finding, ...]
    crashes: tuple[RuleCrash, ...]
    not_applicable: tuple[str, ...]
    blocked: frozenset[Node]
    """Nodes with a finding of severity error that is not suppressed, and `followers`."""
    asked: tuple[str, ...] = ()
    """Codes of the rules that ran."""
    files: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    """What was looked for in the project: see `origin.Lookups`."""
    followers: frozenset[Node] = frozenset()
    """Nodes that only say how tensors are held, and leave the device with the operator that they stand beside."""


def check(analysis: Analysis, profile: Profile, rules: Sequence[Rule], config: Config, root: Path | None = None) -> Checked:
    """Ask every selected rule about every node that the device has to run."""
    ctx = context_of(analysis, profile)
    selected, own, wanted, spoken = selected_rules(profile, rules, config)
    needed = sorted((r for r in own if r.needed(ctx)), key=attrgetter("code"))
    asked_of: dict[str, tuple[list[Rule], Sequence[tuple[Rule, Requirement]]]] = {}
    """Rules and limits that are asked about an operator, by its name; made for those that the model has."""

    run = _Run(ctx, config, root)
    for value in analysis.model.graph.inputs:
        if value.initializer is None:
            for rule in own:
                run.ask(rule, None, value)
    run.refuse(selected, of_format(ctx))
    groups = profile.groups(analysis.nodes(), ctx)
    members = ctx.quantized.members
    for node in analysis.nodes():
        op, before = node.op, len(run.findings)
        if node in members:
            run.ask_member(node, wanted.get(op, ()))
            continue
        if op not in asked_of:
            names = {EVERY, op, PLAIN.get(op, op)}  # what is said of the plain operator holds for one that is it in other words
            rules_of = [r for r in needed if not names.isdisjoint(r.ops) and r.needed_at(node, ctx)]
            limits = [] if ctx.refuses(node) else [*wanted.get(op, ()), *of_plain(wanted, op), *wanted.get(EVERY, ())]
            asked_of[op] = rules_of, limits  # where it is refused, all that is wrong with the node follows from NPU101
        asking, required = asked_of[op]
        for rule in asking:
            run.ask(rule, node, node.output)
        for rule, requirement in required:
            run.require(rule, requirement, node)
        if node in groups and len(run.findings) > before:
            run.take(node, groups[node][0], before)
    if profile.faults:
        run.refuse(selected, of_groups(ctx))
    run.finish()
    if profile.followers and run.blocked:
        run.follow([n for n in analysis.nodes() if n.op in profile.followers], selected)
    findings: tuple[Finding, ...] = ()
    if run.findings:
        from npu_guard.results.fingerprint import with_fingerprints  # a model without any starts faster

        findings = with_fingerprints(run.findings)
    asked = tuple(r.code for r in selected if r in own or r.code in spoken)
    left_out = tuple(r.code for r in selected if r.code not in asked)
    return Checked(findings, tuple(run.crashes), left_out, frozenset(run.blocked), asked, run.files, frozenset(run.followers))


UNSUPPORTED = "NPU101"
"""The rule that says that an operator does not run on the device."""


class _Run:
    """Collects what the rules say; turns drafts into findings."""

    def __init__(self, ctx: Context, config: Config, root: Path | None) -> None:
        self.ctx = ctx
        self.config = config
        self.root = root
        self.findings: list[Finding] = []
        self.crashes: list[RuleCrash] = []
        self.blocked: set[Node] = set()
        self.followers: set[Node] = set()
        self.files: origin.Lookups = {}
        self._told: dict[Hashable, bool] = {}
        self._remedies: dict[tuple[str, str], Remedy] = {}
        self._defaults: list[tuple[Rule, Node | None, Value, Draft]] = []

    def ask(self, rule: Rule, node: Node | None, value: Value) -> None:
        drafts: Iterable[Draft]
        try:
            drafts = rule.check_input(value, self.ctx) if node is None else rule.check(node, self.ctx)
            for draft in drafts:
                self._add(rule, node, value, draft, Outcome.FAIL)
        except Undecidable as undecidable:
            draft = Draft(f"cannot tell: {undecidable.reason}", limit=rule.limits[0] if rule.limits else None)
            self._doubt(rule, node, value, draft, undecidable.reason)
        except ModelError:
            raise
        except Exception as error:  # a bug of ours in one rule must not hide what the others have to say
            where = node.label if node is not None else value.name
            self.crashes.append(RuleCrash(rule.code, short(where), f"{type(error).__name__}: {error}"))

    def require(self, rule: Rule, requirement: Requirement, node: Node) -> None:
        """Ask whether a node keeps to one limit on its operator."""
        try:
            breach = requirement.check(node, self.ctx)
            if breach is not None and breach.about is not None:
                told, of_forms = (rule.code, node, breach.about, breach.severity), bool(requirement.alternatives)
                if told in self._told and (of_forms or self._told[told]):  # a form can be refused for what a limit refuses alone
                    return
                self._told[told] = of_forms
            if breach is not None:
                draft = Draft(
                    breach.message, breach.limit, breach.measured, breach.allowed, breach.severity,
                    consequence=breach.consequence,
                )  # fmt: skip
                self._add(rule, node, node.output, draft, Outcome.FAIL)
        except Undecidable as undecidable:
            text = f"cannot tell: {undecidable.reason}"
            draft = Draft(text, requirement.key, severity=requirement.severity, consequence=requirement.consequence)
            self._doubt(rule, node, node.output, draft, undecidable.reason)
        except ModelError:
            raise
        except Exception as error:  # as above
            self.crashes.append(RuleCrash(rule.code, short(node.label), f"{type(error).__name__}: {error}"))

    def ask_member(self, node: Node, wanted: Iterable[tuple[Rule, Requirement]]) -> None:
        """A node that only says how a unit's tensors are held is no operator: what counts is what a device says of it by name."""
        if not self.ctx.refuses(node):
            for rule, requirement in wanted:
                self.require(rule, requirement, node)

    def refuse(self, rules: Sequence[Rule], refusals: Iterable[Refusal]) -> None:
        """Say what the compiler as a whole does not take, where NPU101 is asked."""
        rule = next((r for r in rules if r.code == UNSUPPORTED), None)
        if rule is None:
            return
        for node, value, draft in refusals:
            self._add(rule, node, value, draft, Outcome.FAIL)

    def take(self, node: Node, pattern: Pattern, before: int) -> None:
        """A note in the place of what was found of a node since: the compiler takes it as a part of something else."""
        first = self.findings[before]
        text = f"{node.op} is taken as part of {pattern.name}"
        self.findings[before:] = [
            msgspec.structs.replace(
                first, severity=Severity.NOTE, outcome=Outcome.FAIL, message=text, evidence=None, consequence=""
            )
        ]
        self.blocked.discard(node)

    def follow(self, followers: Sequence[Node], rules: Sequence[Rule]) -> None:
        """Take along the followers of operators that leave the device: all that they lead to is outside, or where they come from.

        A QuantizeLinear behind an operator that reads what a follower gives is computed with it; behind one that stays it stays
        too, whatever reads it. One between followers, or behind an input, goes where its readers go. Where it says no more than
        how a unit holds a tensor, the finding is the operator's alone.
        """
        rule = next((r for r in rules if r.code == UNSUPPORTED), None)
        own, waiting = set(followers), collections.deque(followers)
        while rule is not None and waiting:
            node = waiting.popleft()
            value, given = node.output, node.inputs[0] if node.inputs else None
            producer = self.ctx.analysis.origin(given).producer if given is not None else None
            ends = list(self.ctx.analysis.reading(value))
            readers = [reader for reader in ends if reader is not None]
            free = producer is None or producer in own or producer in self.blocked
            gone = free and None not in ends and all(reader in self.blocked for reader in readers)
            with_it = producer is not None and producer not in own and self._reads(producer, own)
            after = producer in self.blocked and (with_it or gone or not readers)
            if node in self.blocked or not (after or (gone and readers)):
                continue
            if node in self.ctx.quantized.members:
                self.blocked.add(node)
                self.followers.add(node)
            else:
                beside = producer if after and producer is not None else readers[0]
                draft = Draft(
                    f"{node.op} stays with {beside.op}, which runs outside the NPU", severity=Severity.ERROR, consequence="host"
                )
                self._add(rule, node, value, draft, Outcome.FAIL)
            if node in self.blocked:  # and with it, perhaps, those beside it
                waiting += [n for n in (producer, *readers) if n in own and n not in self.blocked]

    def _reads(self, node: Node, own: Collection[Node]) -> bool:
        """Whether a follower gives the first operand of a node."""
        first = node.inputs[0] if node.inputs else None
        return first is not None and self.ctx.analysis.origin(first).producer in own

    def _doubt(self, rule: Rule, node: Node | None, value: Value, draft: Draft, reason: str) -> None:
        """Note what cannot be told; of weights that a caller may override, `finish` says it once for the whole model."""
        if reason in self.ctx.overridable:
            self._defaults.append((rule, node, value, draft))
        else:
            self._add(rule, node, value, draft, Outcome.UNDECIDED)

    def finish(self) -> None:
        """Say once of weights that are inputs as well what hangs on them, where it weighs most."""
        if not self._defaults:
            return
        order = list(Severity)
        rule, node, value, draft = max(self._defaults, key=lambda d: order.index(self._severity(d[0], d[3])))
        weights = sum(v.initializer is not None for v in self.ctx.analysis.model.graph.inputs)
        name = short(next(iter(self.ctx.overridable.values())).name)
        what = (
            f"{name!r} is an input"
            if weights == 1
            else f"{name!r} and {weights - 1} other weight{'s' * (weights > 2)} are inputs"
        )
        operators = len({d[1] for d in self._defaults})
        many = "" if weights == 1 else f", and so for {operators} operator{'s' * (operators > 1)}"
        message = f"cannot tell: {what} of the model as well, so a caller may override {'it' if weights == 1 else 'them'}{many}"
        told = msgspec.structs.replace(
            draft, message=f"{message}; --freeze-weights takes {'it as a constant' if weights == 1 else 'them as constants'}"
        )
        self._add(rule, node, value, told, Outcome.UNDECIDED)
        self.blocked.update(n for r, n, _, d in self._defaults if n is not None and self._severity(r, d) is Severity.ERROR)

    def _limit(self, rule: Rule, draft: Draft) -> Limit | None:
        return self.ctx.profile.limits.get(draft.limit) if draft.limit is not None and draft.limit in rule.limits else None

    def _severity(self, rule: Rule, draft: Draft) -> Severity:
        limit = self._limit(rule, draft)
        return (
            self.config.severity.get(rule.code)
            or self.ctx.profile.severity.get(rule.code)
            or draft.severity
            or (limit.severity if limit is not None else None)
            or rule.severity
        )

    def _add(self, rule: Rule, node: Node | None, value: Value, draft: Draft, outcome: Outcome) -> None:
        location = location_of(node) if node is not None else input_location(value)
        severity = self._severity(rule, draft)
        limit = self._limit(rule, draft)
        entry = self.config.suppression(rule.code, rule.name, location)
        expired = entry is not None and entry.expired()
        suppressed = entry.reason if entry is not None and not expired else None
        after = f" (the suppression expired on {entry.expires}: {entry.reason})" if entry is not None and expired else ""
        if node is not None and severity is Severity.ERROR and suppressed is None:
            self.blocked.add(node)
        if len(self.findings) >= self.config.limits.findings:
            have, path = len(self.findings), self.ctx.analysis.model.skeleton.path
            raise exceeded(path, "findings: more than", have, "findings", have)
        self.findings.append(
            Finding(
                rule=rule.code,
                name=rule.name,
                severity=severity,
                outcome=outcome,
                location=location,
                message=draft.message + (limit.beyond if limit is not None and outcome is Outcome.FAIL else "") + after,
                tensor=self.ctx.tensor(draft.value or value),
                evidence=self._evidence(draft, outcome),
                source=source_of(node, self.root, self.files) if node is not None else None,
                remedy=self._remedy(rule, node),
                suppressed=suppressed,
                macs=cost.macs if node is not None and (cost := self.ctx.analysis.costs.get(node)) is not None else 0,
                consequence=draft.consequence or (limit.consequence if limit is not None else ""),
            )
        )

    def _remedy(self, rule: Rule, node: Node | None) -> Remedy:
        op = node.op_type if node is not None and rule.replaces and not node.domain else ""
        if (rule.code, op) not in self._remedies:
            advice = (usual_replacement(op) if op else "") or rule.section("What to do")
            self._remedies[rule.code, op] = Remedy(None, None, advice)
        return self._remedies[rule.code, op]

    def _evidence(self, draft: Draft, outcome: Outcome) -> Evidence | None:
        if draft.limit is None or draft.measured is None or outcome is Outcome.UNDECIDED:
            return None
        allowed = draft.allowed if draft.allowed is not None else self.ctx.limit(draft.limit)
        return Evidence(draft.limit, draft.measured, allowed)


def macs_share(analysis: Analysis, blocked: frozenset[Node]) -> float:
    """Share of the MACs, in percent, on nodes that no error keeps off the device; 100 where there are none."""
    costs: Mapping[Node, object] = analysis.costs
    total = sum(map(attrgetter("macs"), analysis.costs.values()))
    held = sum(analysis.costs[n].macs for n in blocked if n in costs)
    return 100.0 if total == 0 and not blocked else 0.0 if total == 0 else 100.0 * (total - held) / total
