"""The new nodes of a site in earnest, with their weights, and the forms that follow in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.checking.context import Context
from npu_guard.device import Profile
from npu_guard.file.document import Document
from npu_guard.fixing import block_check as blocks
from npu_guard.fixing.choice import Link
from npu_guard.fixing.judge import expect_all
from npu_guard.rewriting import edit
from npu_guard.rewriting.substitution import Builder, Refused, Site

NewBuilder = Callable[[Site, Document], Builder]


def emitted(
    site: Site, chain: Sequence[Link], document: Document, analysis: Analysis, profile: Profile, builder_of: NewBuilder
) -> blocks.Edit:
    """What takes the place of the site: the nodes of its form, and of those that follow. Raises Refused."""
    builder = builder_of(site, document)
    try:
        made = site, builder, site.substitution.rewrite(site, builder)
        expect_all(*made)
        if chain:
            _follow(made, chain, document, analysis, profile, builder_of)
    except BaseException:
        builder.give_back()
        raise
    return made


def _follow(
    made: blocks.Edit, chain: Sequence[Link], document: Document, analysis: Analysis, profile: Profile, builder_of: NewBuilder
) -> None:
    """Put other forms in the place of some of the new nodes, which the device refuses."""
    builder = made[1]
    block = blocks.block_model(document, analysis, [made])
    inner = analyze(block.skeleton())
    context, values, edits = Context(inner, profile), inner.model.graph.values, []
    for link in chain:
        anchor = values[builder.nodes[link.at].output[0]].producer
        matched = None if anchor is None else link.substitution.match(anchor, context)
        sites = [matched] if isinstance(matched, Site) else matched or ()
        site = next((s for s in sites if s.variant == link.variant), None)
        if site is None:
            raise Refused(f"{link.substitution.name} does not follow as the sketch has told")
        following = emitted(site, link.chain, block, inner, profile, builder_of)
        edits.append(following)
        builder.names += following[1].names
    graph = edit.replace(block, inner.model.graph.nodes, edits).proto.graph
    old = analysis.model.graph.values
    builder.nodes = [n for n in graph.node if not any(o in old for o in n.output)]
    builder.initializers = [t for t in graph.initializer if t.name not in old]
