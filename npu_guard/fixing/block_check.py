"""Check one replaced block on its own: cut it out, feed it the activations of the real model, compare."""

from __future__ import annotations

import functools
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from msgspec.structs import replace as with_fields

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.analysis.cost import size_bytes
from npu_guard.base.errors import ModelError
from npu_guard.file.document import Document
from npu_guard.fixing.blocks import block_model, boundary
from npu_guard.graph.graph import Node, Value
from npu_guard.graph.origin import source_of
from npu_guard.results.findings import Applied, Work
from npu_guard.results.proof import REFUTED, SAMPLED, Proof
from npu_guard.results.verification import Verification
from npu_guard.rewriting.edit import Edit
from npu_guard.rewriting.substitution import EXACT, Array, Builder, Match
from npu_guard.rewriting.weights import Budget
from npu_guard.verification.accumulation import ROUNDING, node_terms
from npu_guard.verification.capture import capture, capture_bytes
from npu_guard.verification.compare import judge_outputs, measure_uncertainty, not_run, run_document
from npu_guard.verification.description import describe_output, worst_output
from npu_guard.verification.drawing import Spec, draw
from npu_guard.verification.feeds import Feed
from npu_guard.verification.run_limits import run_limits
from npu_guard.verification.runtime import CannotRun, LacksMemory, Runtime

PROMISE_SLACK = 0.5
"""dB by which an approximate block may miss what its fit promised: float32 against float64, no more."""
OWN_KINDS = ("normal", "negative", "large")
"""Inputs of a block that the model's own bring to nothing finite, as behind a range that two of these have to agree on."""
TOGETHER = 32
"""Blocks that are run beside each other in one model: to load one for each takes longer than to run it."""


def describe_difference(verification: Verification) -> str:
    """The worst output of a comparison, in words."""
    worst = worst_output(verification)
    return verification.reason if worst is None else describe_output(worst)


@dataclass(frozen=True, slots=True)
class BlockCheck:
    """Compares old and new nodes of each match, alone, on the activations that reach them in the real model."""

    runtime: Runtime
    document: Document
    analysis: Analysis
    feeds: Sequence[Feed]
    samples: Sequence[Feed]
    """Inputs for approximate blocks, of the kind that they are fitted on; of others a fit says nothing."""
    seeds: Sequence[int]
    kinds: str
    proofs: Mapping[Match, Proof] = field(default_factory=dict)
    """What is known of matches without running them: of a proved one, one input is enough."""
    dear: Set[Match] = frozenset()
    """Those whose new nodes take many times what the old ones did: one input as well, as the whole model runs with all."""
    reference: dict[int, dict[str, Array]] = field(default_factory=dict)
    """What the model gives for feeds, by their identity, once blocks have been run with them."""
    budget: Budget = field(default_factory=Budget)

    def compare(self, edits: Sequence[Edit]) -> Iterator[tuple[Match, Verification]]:
        """A verification for each match; the model runs once for as many matches as fit into memory."""
        groups: dict[str, list[Edit]] = {"one": [], "all": [], "samples": []}
        for entry in edits:
            proof = self.proofs.get(entry.match)
            if proof is not None and proof.label == REFUTED:
                yield entry.match, Verification("differs", proof.way, tuple(self.seeds), "", proof.reason, (), proof)
            elif entry.match.substitution.exactness != EXACT:
                groups["samples"].append(entry)
            else:
                known = proof is not None and proof.label != SAMPLED
                groups["one" if known or entry.match in self.dear else "all"].append(entry)
        for kind, chosen in groups.items():
            feeds = {"one": one_of_each_shape(self.feeds), "all": self.feeds, "samples": self.samples}[kind]
            entries = {entry.match: entry for entry in chosen}
            for match, verification in replace(self, feeds=feeds)._compare_with(chosen, known=kind != "samples"):
                if kind == "one" and verification.verdict == "differs":  # on this one input it may be ill-conditioned
                    groups["all"].append(entries[match])
                    continue
                yield match, with_fields(verification, proof=self.proofs.get(match))

    def _compare_with(self, edits: Sequence[Edit], *, known: bool) -> Iterator[tuple[Match, Verification]]:
        most = capture_bytes(self.runtime)
        for group in self._by_memory(edits, most):
            values = dict.fromkeys(v for _, builder, _ in group for v in self._watched(builder))
            missing = known and any(id(feed) not in self.reference for feed in self.feeds)
            outputs = self.analysis.model.graph.outputs if missing else []
            try:
                samples = capture(self.runtime, self.document, self.feeds, list(dict.fromkeys((*values, *outputs))))
            except (CannotRun, ModelError) as error:
                yield from ((match, not_run(str(error), self.seeds)) for match, _, _ in group)
                continue
            if outputs:
                for feed, sample in zip(self.feeds, samples, strict=True):
                    self.reference[id(feed)] = {v.name: sample[v.name] for v in outputs}
            for several in self._by_memory(group, most // 4, TOGETHER):
                yield from self._compare(several, samples)

    def _by_memory(self, edits: Sequence[Edit], most: int, number: int = sys.maxsize) -> Iterator[list[Edit]]:
        """Matches in groups whose activations fit into memory together, so many matches at most."""
        group: list[Edit] = []
        held = 0
        for entry in edits:
            size = len(self.feeds) * sum(size_bytes(v) for v in self._watched(entry.builder))
            if group and (held + size > most or len(group) == number):
                yield group
                group, held = [], 0
            group.append(entry)
            held += size
        if group:
            yield group

    def _watched(self, builder: Builder) -> tuple[Value, ...]:
        return (*boundary(self.analysis, builder), *builder.match.replaced)

    def _compare(self, edits: Sequence[Edit], samples: Sequence[Feed]) -> Iterator[tuple[Match, Verification]]:
        """Blocks beside each other in one model. Where that does not run, halves tell which of them it is."""
        try:
            after = self._ran(*self._beside(edits, samples))
        except (CannotRun, ModelError) as error:
            if len(edits) == 1:
                yield edits[0].match, not_run(str(error), self.seeds)
                return
            for half in (edits[: len(edits) // 2], edits[len(edits) // 2 :]):
                yield from self._compare(half, samples)
        else:
            yield from ((entry.match, self._judge(entry, samples, after)) for entry in edits)

    def _ran(self, blocks: Document, fed: Sequence[Feed]) -> list[dict[str, Array]]:
        """What new nodes give. They may need more memory than the model, and get it by the same reckoning. Raises CannotRun."""
        try:
            return run_document(self.runtime, blocks, fed)
        except LacksMemory:
            models = (self.document, self.analysis), (blocks, analyze(blocks.skeleton()))
            granted = run_limits(self.document.limits, *models)
            if granted.memory <= self.runtime.limits.memory:
                raise
            self.runtime.limits = granted
            return run_document(self.runtime, blocks, fed)

    def _beside(self, edits: Sequence[Edit], samples: Sequence[Feed], *, old: bool = False) -> tuple[Document, list[Feed]]:
        """A model of the new nodes of some matches, or of the old ones, and what was captured for it."""
        inputs = {v: None for _, builder, _ in edits for v in boundary(self.analysis, builder)}
        # Samples of several batches: the analysis has the shapes for one of them only.
        varying = {v for v in inputs if len({sample[v.name].shape for sample in samples}) > 1}
        fed: list[Feed] = [{v.name: sample[v.name] for v in inputs} for sample in samples]
        return block_model(self.document, self.analysis, edits, varying, old=old), fed

    def _judge(self, entry: Edit, samples: Sequence[Feed], after: Sequence[Feed]) -> Verification:
        """What the new nodes gave for captured inputs, against the captured outputs of the old ones."""
        match, builder, outputs = entry
        names = {v.name: outputs[v] for v in match.replaced}
        # A rewrite sums what the old nodes did, in another order, and some eight roundings for each of its own.
        types = [*(v.dtype for v in match.replaced), *filter(None, [builder.coarsest])]
        own = 8 * len(builder.nodes) * max(ROUNDING.get(t, 1.0) for t in types)
        terms = sum(node_terms(self.analysis, n) for n in match.nodes) + own
        exact = match.substitution.exactness == EXACT
        least = max(match.substitution.minimum_snr_db, builder.promised_db - PROMISE_SLACK)
        told = functools.partial(
            judge_outputs, names=names, terms=terms, exact=exact, seeds=self.seeds, kinds=self.kinds, minimum_snr_db=least
        )
        judge = functools.partial(told, samples, after)
        result = judge()
        if exact and result.verdict == "not_run" and (own_inputs := self._drawn(entry, samples)) is not None:
            return told(*own_inputs)
        if exact and result.verdict == "differs" and self.budget.noises:
            # A gate on large numbers, say, moves with their last bits, and no spelling of it is better than that.
            self.budget.noises -= 1
            alone = self._beside([entry], samples, old=True)
            result = judge(noise=measure_uncertainty(self.runtime, *alone, samples, list(names), self.analysis))
        return result

    def _drawn(self, entry: Edit, samples: Sequence[Feed]) -> tuple[list[dict[str, Array]], list[dict[str, Array]]] | None:
        """What old and new nodes give for inputs of their own, where the model's make nothing finite of them; None where neither
        runs. Whole numbers, which may be indices, are what they were."""
        old, fed = self._beside([entry], samples, old=True)
        specs = {name: Spec(name, array.dtype, array.shape) for name, array in fed[0].items() if array.dtype.kind == "f"}
        kinds = zip(fed, OWN_KINDS, strict=False)
        own: list[Feed] = [{**feed, **{name: draw(spec, kind, 0) for name, spec in specs.items()}} for feed, kind in kinds]
        try:
            before = run_document(self.runtime, old, own)
            after = run_document(self.runtime, self._beside([entry], samples)[0], own)
        except (CannotRun, ModelError):
            return None
        old_names = [v.name for v in entry.match.replaced]
        return [{name: given[name] for name in old_names} for given in before], after


def one_of_each_shape(feeds: Sequence[Feed]) -> Sequence[Feed]:
    """The first input of each batch: a proof is about one."""
    found: dict[Hashable, Feed] = {}
    for feed in feeds:
        found.setdefault(tuple(sorted((name, np.shape(value)) for name, value in feed.items())), feed)
    return list(found.values())


def applied_entry(made: Edit, verification: Verification, before: Analysis, analysis: Analysis, root: Path | None) -> Applied:
    """The entry of the report, but for what the whole pass tells. `analysis` is that of the new model."""
    match, builder, _ = made
    values = analysis.model.graph.values
    new = {v.producer: None for n in builder.nodes for o in n.output if (v := values.get(o)) is not None}
    return Applied(
        substitution=match.substitution.name, exactness=match.substitution.exactness, node=match.root.label,
        rules=(), nodes_before=tuple(n.label for n in match.nodes),
        nodes_after=tuple(n.name for n in builder.nodes), verification=verification, note=builder.note,
        at=match.root.output.name, op_type=match.root.op, source=source_of(match.root, root),
        before=_work(before, match.nodes), after=_work(analysis, [n for n in new if n is not None]),
    )  # fmt: skip


def _work(analysis: Analysis, nodes: Sequence[Node]) -> Work:
    costs = [analysis.costs[n] for n in nodes if n in analysis.costs]
    return Work(len(costs), sum(c.macs for c in costs), sum(c.output_bytes for c in costs), sum(c.params for c in costs))
