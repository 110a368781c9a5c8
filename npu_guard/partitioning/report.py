"""What a run of `partition` comes to, in values and sentences; `reports/partition/` shows it."""

from __future__ import annotations

from dataclasses import dataclass

from npu_guard.analysis.cost import uncounted
from npu_guard.base.text import printable
from npu_guard.partitioning.partition import Breaker, Partition
from npu_guard.results.summary import known_macs, percent, plural, si
from npu_guard.results.verification import Verification


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """What a run found. `written` is the folder, and `verification` what the comparison with the model said of it."""

    path: str
    sha256: str
    partition: Partition
    verification: Verification | None = None
    written: str | None = None
    mending: tuple[str, str] | None = None
    """How many of the errors, which put operators on the host, `fix` mends, and its command; None where that is none."""


def headline(p: Partition) -> str:
    """The result in a sentence."""
    npu = sum(q.side == "npu" for q in p.pieces)
    macs, rest = known_macs(uncounted(p.analysis.costs) if p.analysis.unknown else 0)
    shares = f"{percent(p.npu_macs_percent)} of the {macs} and {percent(p.npu_bytes_percent)} of the activation bytes"
    sizes = [c.bytes for c in p.crossings]
    known = sum(size for size in sizes if size is not None)
    more = f"{si(known)}B" + (" and what is not known" if None in sizes else "")
    crossing = f", {plural(len(sizes), 'tensor')} crossing ({more})" if sizes else ""
    pieces = f"{plural(npu, 'piece')} on the NPU, {plural(len(p.pieces) - npu, 'piece')} on the host"
    stays = "" if percent(p.runnable_macs_percent) == percent(p.npu_macs_percent) else (
        f" Of the {percent(p.runnable_macs_percent)} of the MACs that the device could run, the rest stays on the host, "
        "as handing it over costs more or it hangs on what the device does not have."
    )  # fmt: skip
    return f"{pieces}{crossing}: {shares} on the NPU{rest}.{stays}"


def advice(p: Partition) -> list[str]:
    """A sentence for each place that breaks the graph, what changes most first."""
    return [f"making {operators(b)}: {effect(b, p)}" for b in p.breakers]


def effect(b: Breaker, p: Partition) -> str:
    """`joins 3 pieces into 1 and moves 31.0 % of the MACs to the NPU`, all by working it out once more."""
    moved = b.npu_macs_percent - p.npu_macs_percent
    parts = []
    if b.pieces != len(p.pieces):
        parts.append(f"leaves {plural(b.pieces, 'piece')} of {len(p.pieces)}" if b.pieces < len(p.pieces)
                     else f"makes it {b.pieces} pieces instead of {len(p.pieces)}")  # fmt: skip
    if moved > 0:
        parts.append(f"moves {percent(moved)} of the MACs to the NPU")
    return " and ".join(parts) or "changes little"


def operators(b: Breaker) -> str:
    """`Conv conv1 compatible`, of several `Conv conv1 and 2 more compatible (Conv, Relu)`, of modules `a.*.eca compatible`."""
    if b.module and len(b.nodes) > 1:
        return f"{printable(b.module, 80)} compatible ({len(b.nodes)} operators: {_kinds(b)})"
    first = f"{printable(b.nodes[0].op, 40)} {printable(b.nodes[0].label, 60)}"
    if len(b.nodes) == 1:
        return f"{first} compatible"
    return f"{first} and {len(b.nodes) - 1} more compatible ({_kinds(b)})"


def _kinds(b: Breaker) -> str:
    kinds = list(dict.fromkeys(printable(n.op, 40) for n in b.nodes))
    return f"{', '.join(kinds[:6])}{', …' if len(kinds) > 6 else ''}"
