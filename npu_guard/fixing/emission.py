"""The new nodes of a match in earnest, with their weights, and the forms that follow in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.base import sandbox
from npu_guard.checking.context import Context
from npu_guard.device import Profile
from npu_guard.file.document import Document
from npu_guard.fixing.blocks import block_model
from npu_guard.fixing.choice import Link
from npu_guard.fixing.idle import without_idle
from npu_guard.fixing.judge import SPARE, expect_all
from npu_guard.rewriting.edit import Edit, replace_matches
from npu_guard.rewriting.substitution import Builder, Match, Refused

NewBuilder = Callable[[Match, Document], Builder]


def emitted(
    match: Match, chain: Sequence[Link], document: Document, analysis: Analysis, profile: Profile, builder_of: NewBuilder
) -> Edit:
    """What takes the place of the match: the nodes of its form, and of those that follow, but for those that do nothing.

    Raises Refused.
    """
    made = _emitted(match, chain, document, analysis, profile, builder_of)
    try:
        without_idle(made, document, analysis)
    except BaseException:
        made.builder.give_back()
        raise
    return made


def _emitted(
    match: Match, chain: Sequence[Link], document: Document, analysis: Analysis, profile: Profile, builder_of: NewBuilder
) -> Edit:
    builder = builder_of(match, document)
    try:
        with sandbox.bounded(builder.most + SPARE):  # the weights alone: what is known of the new nodes takes what it takes
            made = Edit(match, builder, match.substitution.rewrite(match, builder))
        expect_all(*made)
        if chain:
            _follow(made, chain, document, analysis, profile, builder_of)
    except BaseException:
        builder.give_back()
        raise
    return made


def _follow(
    made: Edit, chain: Sequence[Link], document: Document, analysis: Analysis, profile: Profile, builder_of: NewBuilder
) -> None:
    """Put other forms in the place of some of the new nodes, which the device refuses."""
    builder = made.builder
    block = block_model(document, analysis, [made])
    inner = analyze(block.skeleton())
    context, values, edits = Context(inner, profile), inner.model.graph.values, []
    for link in chain:
        root = values[builder.nodes[link.at].output[0]].producer
        matched = None if root is None else link.substitution.match(root, context)
        matches = [matched] if isinstance(matched, Match) else matched or ()
        match = next((s for s in matches if s.variant == link.variant), None)
        if match is None:
            raise Refused(f"{link.substitution.name} does not follow as the sketch has told")
        following = _emitted(match, link.chain, block, inner, profile, builder_of)
        edits.append(following)
        builder.names += following.builder.names
        builder.exact |= following.builder.exact
    graph = replace_matches(block, inner.model.graph.nodes, edits).proto.graph
    old = analysis.model.graph.values
    builder.nodes = [n for n in graph.node if not any(o in old for o in n.output)]
    builder.initializers = [t for t in graph.initializer if t.name not in old]
