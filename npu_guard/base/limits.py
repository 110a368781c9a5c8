"""How much of a machine a model may claim: `[tool.npu-guard.limits]` of a project, and the message where one is exceeded.

ONNX puts exhaustion of resources out of its scope, so the bounds are ours. The defaults leave any real network alone.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from npu_guard.base.errors import ModelError

Count = Annotated[int, msgspec.Meta(ge=1, le=2**62)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Bounds on what a model file may say. Each refuses the model with kind `limit` and names itself."""

    nodes: Count = 100_000
    """Operators in all graphs, model-local functions expanded."""
    tensors: Count = 100_000
    """Initializers in all graphs."""
    values: Count = 200_000
    """Inputs, outputs and values whose shape is noted, of a graph."""
    attributes: Count = 400_000
    """Attributes of all nodes."""
    findings: Count = 100_000
    """What all rules have to say of a model for one device."""
    structure_bytes: Count = 64 << 20
    """What is left of a file without its weights."""
    fields: Count = 1 << 22
    """Protobuf fields that are read one by one: a graph of 100,000 nodes has 300,000."""
    parsed_bytes: Count = 256 << 20
    """What is left of a file once it is parsed, by an estimate: 50,000 convolutions with weights and shapes take 150 MB."""
    nesting: Annotated[int, msgspec.Meta(ge=1, le=32)] = 32
    """Graphs inside nodes inside graphs. Protobuf's 100 messages and ONNX Runtime end at 32, so it can only be lowered."""
    graphs: Count = 10_000
    """Graphs inside nodes, in all; ONNX's inference takes the square of their number."""
    call_depth: Annotated[int, msgspec.Meta(ge=1, le=512)] = 128
    """Model-local functions that call each other; the inliner recurses over them."""
    name_bytes: Count = 1 << 20
    """The longest name of a node, value or operator."""
    text_bytes: Count = 1 << 26
    """A file in ONNX's text format, which is for models written by hand."""
    elements: Count = 2**40
    """Elements of one tensor, whether it has data or not."""
    run_seconds: Count | None = None
    """What ONNX Runtime may take for a request to run a model; without it, that follows from the model (see `run_limits.py`)."""
    run_bytes: Annotated[int, msgspec.Meta(ge=1 << 26, le=2**62)] | None = None
    """Memory that it may take for that, in the same way."""
    external_data: Literal["checked", "unchecked"] = "checked"
    """Whether files of weights beside the model have to be there, plain and long enough. They are never opened for that."""


DEFAULT = Limits()


def exceeded(path: str, what: str, have: int, key: str, limit: int) -> ModelError:
    """`what` describes what there is too much of; `key` is the limit's name in the settings."""
    return ModelError("limit", f"{path}: {what} {have}; the limit is {limit} ({key!r} in [tool.npu-guard.limits])")
