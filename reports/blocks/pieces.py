"""Parts of what `partition` says that text and Markdown share."""

from __future__ import annotations

from collections.abc import Sequence

from npu_guard.analysis.types import DTYPE_NAMES
from npu_guard.base.text import printable
from npu_guard.graph.graph import Value
from npu_guard.partitioning.partition import Crossing
from npu_guard.results.summary import plural, si
from npu_guard.results.verification import Verification

MOST = 40
"""Lines of a table for people; the rest is counted."""


def verdict_text(v: Verification) -> str:
    """A comparison in a sentence."""
    if v.verdict == "not_run":
        return f"NOT VERIFIED: {v.reason}"
    return f"{v.verdict} on {v.inputs} ({v.backend}), largest difference {max(o.max_abs for o in v.outputs):.2g}"


def targets_text(c: Crossing) -> str:
    """`2, 3`: the pieces that a tensor goes to."""
    return ", ".join(map(str, c.targets))


def size_text(c: Crossing) -> str:
    """What a tensor takes, where that is known."""
    return "unknown" if c.bytes is None else f"{si(c.bytes)}B"


def shape_text(value: Value) -> str:
    """`1x64x56x56 float32`."""
    dims = "x".join("?" if d is None else printable(str(d), 40) for d in value.shape or ()) or "scalar"
    return f"{dims} {DTYPE_NAMES.get(value.dtype, '')}"


def left_out(count: int, what: str) -> Sequence[str]:
    """A line that counts what a table for people leaves out."""
    return [f"  … and {plural(count - MOST, what)} more"] if count > MOST else []
