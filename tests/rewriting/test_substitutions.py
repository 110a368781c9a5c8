"""Every substitution keeps its word: examples, refusals, numbers by an independent runtime, and a wrong mutant that is caught.

No substitution needs a test file of its own for this; what it declares is what runs here.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from npu_guard.analysis.analyze import analyze
from npu_guard.base.errors import Undecidable
from npu_guard.checking import registry
from npu_guard.checking.context import Context
from npu_guard.checking.engine import check
from npu_guard.checking.examples import case_model, profile_for
from npu_guard.checking.rule import Case
from npu_guard.file.document import Document
from npu_guard.file.load import load
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.fixing.driver import Fixed, Settings, fix_document
from npu_guard.project.config import Config
from npu_guard.results.proof import LABELS
from npu_guard.rewriting.substitution import EXACT, Builder, Example, Match, Refused, Substitution, closed
from npu_guard.verification.compare import accumulated_terms, compare_documents
from npu_guard.verification.feeds import fitting_feeds, input_specs, seeded_feeds
from npu_guard.verification.runtime import Runtime

SUBSTITUTIONS = catalog.substitutions()
EXAMPLES = [pytest.param(s, e, id=f"{s.name}-{i}") for s in SUBSTITUTIONS for i, e in enumerate(s.good)]
REFUSALS = [pytest.param(s, e, id=f"{s.name}-{i}") for s in SUBSTITUTIONS for i, e in enumerate(s.bad)]


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with Runtime() as running:
        yield running


def case(substitution: Substitution, example: Example) -> Case:
    limits = dict(substitution.limits if example.limits is None else example.limits)
    operators = dict(substitution.operators if example.operators is None else example.operators)
    return Case(example.graph, limits=limits, opset=example.opset, operators=operators, require=example.require)


def model_of(substitution: Substitution, example: Example) -> onnx.ModelProto:
    """The example's model; outputs that it leaves untyped get their types, as every exporter gives them."""
    return onnx.shape_inference.infer_shapes(case_model(case(substitution, example)))


def fix(substitution: Substitution, example: Example, folder: Path, runtime: Runtime) -> tuple[Fixed, Document]:
    source = folder / "model.onnx"
    source.write_bytes(model_of(substitution, example).SerializeToString())
    skeleton = load(source)
    document = Document.of(skeleton)
    analysis = analyze(skeleton)
    profile = profile_for(case(substitution, example))
    rules = registry.rules()
    wanted = input_specs(analysis.model.graph.inputs)
    feeds = seeded_feeds(wanted, 0)
    settings = Settings([substitution], feeds, fitting_feeds(wanted, [0]), (0,), "test", {}, warnings=True)
    return fix_document(document, analysis, lambda a: check(a, profile, rules, Config()), profile, settings, runtime), document


@pytest.mark.parametrize("substitution", SUBSTITUTIONS, ids=lambda s: s.name)
def test_contract(substitution: Substitution) -> None:
    module = type(substitution).__module__.rsplit(".", 1)[1]
    assert substitution.name == module.replace("_", "-")
    assert substitution.manual().splitlines()[0].endswith(".")
    assert len(substitution.manual().splitlines()) > 2, "the docstring states the algebra"
    assert len(substitution.good) >= 4
    assert len(substitution.bad) >= 3


@pytest.mark.parametrize("substitution", SUBSTITUTIONS, ids=lambda s: s.name)
def test_states_where_it_need_not_be_asked(substitution: Substitution, tmp_path: Path) -> None:
    """One that says that it replaces its root alone does so, and one that does not say it replaces more somewhere."""
    others = set()
    for example in (*substitution.good, *substitution.bad):
        file = tmp_path / "model.onnx"
        file.write_bytes(model_of(substitution, example).SerializeToString())
        analysis = analyze(load(file))
        ctx = Context(analysis, profile_for(case(substitution, example)))
        for node in analysis.nodes():
            if node.op_type in substitution.roots:
                with contextlib.suppress(Refused, Undecidable):
                    found = substitution.match(node, ctx) or []
                    matches = [found] if isinstance(found, Match) else found
                    others.update(n.label for m in matches for n in m.nodes if n is not node)
                    data = node.input(0)
                    if matches and substitution.rank:
                        assert data is not None
                        assert len(data.shape or ()) == substitution.rank
    assert substitution.alone == (not others)


@pytest.mark.parametrize(("substitution", "example"), EXAMPLES)
def test_example_is_replaced_and_proven(substitution: Substitution, example: Example, tmp_path: Path, runtime: Runtime) -> None:
    fixed, before = fix(substitution, example, tmp_path, runtime)
    source = tmp_path / "model.onnx"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert fixed.applied, [r.reason for r in fixed.refused]
    assert {a.verification.verdict for a in fixed.applied} <= (
        {"equal"} if substitution.exactness == EXACT else {"equal", "close"}
    )
    assert all(a.rules for a in fixed.applied), "each removes findings"
    if substitution.exactness == EXACT:
        labels = [a.verification.proof.label for a in fixed.applied if a.verification.proof is not None]
        assert max(labels, key=LABELS.index) == example.label, "the example states what is known of it"

    target = tmp_path / "fixed.onnx"
    save_document(fixed.document, target)
    onnx.checker.check_model(str(target), full_check=True)
    result = onnx.load(target)
    if example.ops:
        assert [n.op_type for n in result.graph.node] == list(example.ops)
    assert result.ir_version <= 10
    assert hashlib.sha256(source.read_bytes()).hexdigest() == digest

    saved = Document.of(load(target))
    feeds = [feed for seed in (5, 6) for feed in seeded_feeds(input_specs(fixed.analysis.model.graph.inputs), seed)]
    terms = 2 * accumulated_terms(fixed.analysis)
    outcome = compare_documents(
        runtime, before, saved, feeds, terms, exact=substitution.exactness == EXACT, seeds=(5, 6), kinds="test"
    )
    assert outcome.verdict in (("equal",) if substitution.exactness == EXACT else ("equal", "close")), outcome
    if substitution.exactness == EXACT:
        assert min(o.snr_db for o in outcome.outputs) >= 100

    again, _ = fix_again(substitution, example, target, runtime)
    assert not again.applied, "a second run finds nothing more to do"


def fix_again(substitution: Substitution, example: Example, path: Path, runtime: Runtime) -> tuple[Fixed, Document]:
    skeleton = load(path)
    document, analysis, profile = Document.of(skeleton), analyze(skeleton), profile_for(case(substitution, example))
    rules = registry.rules()
    wanted = input_specs(analysis.model.graph.inputs)
    feeds = seeded_feeds(wanted, 0)
    settings = Settings([substitution], feeds, fitting_feeds(wanted, [0]), (0,), "test", {}, warnings=True)
    return fix_document(document, analysis, lambda a: check(a, profile, rules, Config()), profile, settings, runtime), document


@pytest.mark.parametrize(("substitution", "example"), REFUSALS)
def test_refusal_gives_its_reason(substitution: Substitution, example: Example, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(model_of(substitution, example).SerializeToString())
    skeleton = load(source)
    document, analysis = Document.of(skeleton), analyze(skeleton)
    ctx = Context(analysis, profile_for(case(substitution, example)))
    reasons = []
    for node in analysis.nodes():
        if node.op_type in substitution.roots:
            try:
                match = substitution.match(node, ctx)
                for one in [match] if isinstance(match, Match) else match or []:
                    closed(one.nodes, one.replaced, ctx)
                    one.substitution.rewrite(one, builder(one, document))
            except Refused as refusal:
                reasons.append(refusal.reason)
    assert any(example.refused in reason for reason in reasons), reasons


def builder(match: Match, document: Document) -> Builder:
    def no_activations(values: object) -> list[dict[str, object]]:
        raise Refused("no activations in this test")

    return Builder(match, document, set(), no_activations)


@pytest.mark.parametrize("substitution", SUBSTITUTIONS, ids=lambda s: s.name)
def test_wrong_mutant_is_caught(substitution: Substitution, tmp_path: Path, runtime: Runtime) -> None:
    """The driver must roll a wrong rewrite back, whatever its author believed."""

    class Mutant(type(substitution)):  # type: ignore[misc]
        rewrite = type(substitution).mutant

    for example in substitution.good[:2]:
        fixed, _ = fix(Mutant(), example, tmp_path, runtime)
        assert not fixed.applied
        assert any("rolled back" in r.reason for r in fixed.refused), [r.reason for r in fixed.refused]
