"""What became of a model in a simplifier before it was judged."""

from __future__ import annotations

from msgspec import Struct


class Moved(Struct, frozen=True):
    """A finding that only one of the two models has: rule and node, and the fingerprint of it."""

    rule: str
    node: str
    fingerprint: str


class Simplified(Struct, frozen=True):
    """A simplifier and what it did. Counts are of operators, those in bodies included."""

    by: str
    """Name and version, such as `onnxsim 0.8.1`."""
    nodes_before: int
    nodes_after: int
    removes: tuple[Moved, ...] = ()
    """Findings of the model as it is in the file that are not there behind the simplifier."""
    adds: tuple[Moved, ...] = ()
    """Findings that are there only behind it."""
    verification: str = ""
    """`equal`, `differs` or `not_run`, as `verify` says of the two models; empty where nobody asked."""
    reason: str = ""
    """Why it is not `equal`."""
