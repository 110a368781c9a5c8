"""A proof for each replaced block before anything runs, and what follows from all of them for the whole model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from npu_guard.analysis.analyze import Analysis
from npu_guard.base import sandbox
from npu_guard.base.text import short
from npu_guard.file.document import Document
from npu_guard.fixing.blocks import block_model, boundary
from npu_guard.graph.graph import Value
from npu_guard.results.findings import Applied
from npu_guard.results.proof import LABELS, REFUTED, SAMPLED, Proof
from npu_guard.results.verification import Verification
from npu_guard.rewriting.edit import Edit
from npu_guard.rewriting.substitution import EXACT
from npu_guard.rewriting.weights import Budget

BLOCKS = "each replaced block is, and all else is as it was"
MEMORY = 1 << 30
"""Bytes that a proof may take beyond what the process has."""
WHOLE, LONG = 1 << 27, 1 << 33
"""MACs of a whole model up to which it is proved: without being asked, and where a label is required."""
STEPS_BACK = 16
"""Operators between two values of which one is found to follow from the other."""
WAYS = 8
"""Evaluations of a model that its MACs are granted for: two models, in some ways of reading their constants."""


def prove_edits(document: Document, analysis: Analysis, edits: Sequence[Edit], budget: Budget) -> Iterator[Proof]:
    """A proof for each edit, in turn, as long as the run's budget lasts."""
    for entry in edits:
        if entry.match.substitution.exactness != EXACT:
            yield Proof(SAMPLED, reason="it is approximate")
        elif budget.proof_macs <= 0:
            yield Proof(SAMPLED, reason="this run has used up what it may compute for proofs")
        else:
            yield _prove_edit(document, analysis, entry, budget)


def _prove_edit(document: Document, analysis: Analysis, entry: Edit, budget: Budget) -> Proof:
    from npu_guard.proof import arithmetic
    from npu_guard.proof.prove import MACS, prove

    fed = independent(analysis, boundary(analysis, entry.builder))
    before = block_model(document, analysis, [entry], old=True, fed=fed)
    granted = min(MACS, budget.proof_macs)
    if _products(analysis, before) > granted:
        return Proof(SAMPLED, reason=arithmetic.USED_UP)
    own, after = arithmetic.Budget(granted), block_model(document, analysis, [entry], fed=fed)
    try:
        with sandbox.bounded(sandbox.used_memory() + MEMORY):
            return prove(before, after, own, entry.builder.exact)
    except MemoryError:
        return Proof(SAMPLED, reason="a proof takes more memory than it is given")
    finally:
        budget.proof_macs -= granted - own.left


def _products(analysis: Analysis, block: Document) -> int:
    """MACs of a block's matrix products, each of which a proof multiplies out: the least that it takes."""
    nodes = {
        v.producer
        for proto in block.proto.graph.node
        if proto.op_type == "MatMul" and not proto.domain and (v := analysis.model.graph.values.get(proto.output[0])) is not None
    }
    return sum(analysis.costs[n].macs for n in nodes if n is not None and n in analysis.costs)


def independent(analysis: Analysis, read: Sequence[Value]) -> list[Value]:
    """Those of the values that a block reads that do not follow from the others: a pool's result from the map, say.

    What follows is computed in both models; as an input of its own it would take any value.
    """
    kept = list(read)
    for value in read:
        others = set(kept) - {value}
        stack, seen = [value], 0
        while stack and seen <= STEPS_BACK:
            node = stack.pop().producer
            if node is None:
                break
            seen += 1
            stack += [v for v in node.inputs if v is not None and v not in others and not analysis.is_constant(v)]
        else:
            if not stack:
                kept.remove(value)
    return kept


def with_proof(
    result: Verification, before: Document, after: Document, analysis: Analysis, shapes: Mapping[str, Sequence[int]], granted: int
) -> Verification:
    """What was found by running two whole models, with a proof where they agreed. What is refuted differs, whatever was run."""
    if result.verdict != "equal":
        return result
    found = _prove_models(before, after, sum(cost.macs for cost in analysis.costs.values()), shapes, granted)
    if found.label == REFUTED:
        return replace(result, verdict="differs", reason=found.reason, proof=found)
    return replace(result, proof=found)


def _prove_models(before: Document, after: Document, macs: int, shapes: Mapping[str, Sequence[int]], granted: int) -> Proof:
    from npu_guard.proof import arithmetic
    from npu_guard.proof.prove import prove

    if macs > granted:
        why = f"the models take {macs:,} MACs, more than the {granted:,} that a proof of the whole is granted"
        return Proof(SAMPLED, reason=f"{why}; fix proves block by block")
    try:
        with sandbox.bounded(sandbox.used_memory() + MEMORY):
            return prove(before, after, arithmetic.Budget(WAYS * granted), shapes=shapes)
    except MemoryError:
        return Proof(SAMPLED, reason="a proof takes more memory than it is given")


def shortfall(applied: Sequence[Applied], whole: Verification, label: str) -> str:
    """Which replaced block, or the whole model, is not as well proved as is required; empty where all are."""
    parts = [(f"{a.substitution} at {short(a.node)!r}", a.verification.proof) for a in applied]
    for what, found in (*parts, ("the whole model", whole.proof)):
        if found is None:
            return f"{what} is not {label}"
        if not found.reaches(label):
            return f"{what} is not {label} but {found.label} ({found.reason or 'constants are rounded'})"
    return ""


def proof_of_whole(applied: Sequence[Applied]) -> Proof:
    """What is known of the whole model: the least of what is known of its replaced blocks, as all else was left as it was.

    A block is a function of all that comes into it, so a model in which blocks are replaced by equal functions is the same one.
    """
    proofs = [a.verification.proof or Proof(SAMPLED) for a in applied]
    worst = max(proofs, key=lambda p: LABELS.index(p.label))
    if worst.label == SAMPLED:
        number = sum(p.label == SAMPLED for p in proofs)
        return Proof(SAMPLED, reason=f"{number} of {len(proofs)} replaced blocks {'is' if number == 1 else 'are'} not proved")
    return Proof(
        worst.label, BLOCKS, tuple(dict.fromkeys(c for p in proofs for c in p.constants)),
        tuple(sorted({a for p in proofs for a in p.assumptions})), min(1.0, sum(p.bound for p in proofs)),
    )  # fmt: skip
