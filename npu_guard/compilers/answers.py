"""What a compiler said of a model, as values without behaviour."""

from __future__ import annotations

from dataclasses import dataclass

TAKEN = ("npu", "decomposed", "merged")
"""On the NPU: as it is, as several operators, or as a part of another or of nothing."""
REFUSED = ("host", "refused")
"""Left to the CPU, or not compiled at all."""
UNKNOWN = ("not_run", "failed")
"""Not asked, or the compiler ended before it could tell."""


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """The compiler's word on one node: one of TAKEN, REFUSED or UNKNOWN, or `note` for a remark that decides nothing."""

    name: str
    """The node's name or first output; the log of a compiler says one or the other."""
    op_type: str
    word: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a compiler said of one model.

    `status` is `accepted`, `refused`, `failed` (crash, hang, memory, or a log that says nothing: no opinion at all) or
    `not_run` (some of the model could not be put to it, the rest it takes).
    """

    compiler: str
    status: str
    message: str = ""
    nodes: tuple[NodeAnswer, ...] = ()
    complete: bool = False
    """Whether a node that is not mentioned was accepted with the others."""
