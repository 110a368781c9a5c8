"""A partition as the full report shows it: finished values, and the piece of each layer."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.types import DTYPE_NAMES
from npu_guard.checking.engine import Checked
from npu_guard.device import Profile
from npu_guard.device.partition import partition_settings
from npu_guard.graph.origin import scope_of
from npu_guard.partitioning.partition import partition_model
from npu_guard.partitioning.report import effect, headline, operators
from npu_guard.project.config import Config
from npu_guard.results.findings import LayerRow
from npu_guard.results.pieces import BreakerRow, CrossingRow, PieceRow, Pieces


def with_pieces(
    layers: Sequence[LayerRow], analysis: Analysis, checked: Checked, profile: Profile, config: Config
) -> tuple[Pieces | None, tuple[LayerRow, ...]]:
    """The pieces and the layers with their numbers; None where all is one piece on the NPU, of which there is nothing to say."""
    found = partition_model(analysis, checked, profile, partition_settings(profile.partition, config.partition))
    if all(piece.side == "npu" for piece in found.pieces):
        return None, tuple(layers)
    homes = {(node.graph.path, node.output.name): piece.index for piece in found.pieces for node in piece.nodes}
    for piece in found.pieces:
        for node in piece.nodes:
            for _, body in node.subgraphs:
                homes.update(((inner.graph.path, inner.output.name), piece.index) for inner in body.walk())
    pieces = Pieces(
        headline=headline(found),
        pieces=tuple(
            PieceRow(p.index, p.side, len(p.nodes), p.macs, p.bytes, len(p.inputs), len(p.outputs)) for p in found.pieces
        ),
        crossings=tuple(
            CrossingRow(c.tensor, c.shape, DTYPE_NAMES.get(c.dtype), c.bytes, c.source, c.targets) for c in found.crossings
        ),
        breakers=tuple(
            BreakerRow(operators(b), effect(b, found), scope_of(b.nodes[0]), b.nodes[0].output.name, b.nodes[0].graph.path)
            for b in found.breakers
        ),
    )
    return pieces, tuple(replace(row, piece=homes.get((row.location.graph, row.location.output))) for row in layers)
