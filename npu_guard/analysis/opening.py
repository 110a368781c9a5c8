"""A model file opened to be written again: the document that can be edited, and what is known of it, about the same nodes.

Whoever changes a model, or names its values to a runtime, needs both to agree: shapes that were given are stated in the document,
and an If of known condition is the branch that is taken in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.analysis.interface import hold_inputs, state_shapes, unlist_weights
from npu_guard.base.limits import DEFAULT, Limits
from npu_guard.file import load
from npu_guard.file.constant_inputs import Held
from npu_guard.file.document import Document


def open_to_write(
    path: str, shapes: Mapping[str, Sequence[int]], limits: Limits = DEFAULT, held: Held | None = None
) -> tuple[Document, Analysis]:
    """The document of a model file and its analysis with the shapes that are given. The file is not touched.

    Raises ModelError where it cannot be read or is none that could run, UsageError for shapes or values that do not go with it.
    """
    skeleton = load.load(path, limits)
    if held is not None:
        hold_inputs(skeleton, held)
    unlist_weights(skeleton)
    document = Document.of(skeleton)
    analysis = analyze(skeleton, shapes)
    if shapes:
        state_shapes(document.proto, shapes, analysis)
    analysis.write_branches(document.proto)
    return document, analysis
