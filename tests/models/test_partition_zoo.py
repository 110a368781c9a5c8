"""Sample networks cut into pieces: what belongs where, and that the pieces together are the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from npu_guard.checking import registry
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.partitioning.files import verify_partition, write_partition
from npu_guard.partitioning.partition import Partition, partition_model
from npu_guard.pipeline.check import judged
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.rewriting.substitution import EXACT

Exported = Callable[[str, str], Path]
PROFILE = "aimotive-aiware"


def cut(path: Path, folder: Path) -> Partition:
    """With the default costs; compared on three seeded inputs, and what is on the NPU has no error of its own."""
    profile = registry.profile(PROFILE)
    document, analysis, checked = judged(str(path), profile, Config())
    found = partition_model(analysis, checked, profile)
    assert write_partition(document, found, folder).verdict == "equal"
    written = sorted(folder.glob("*-npu.onnx"))
    assert len(written) == sum(piece.side == "npu" for piece in found.pieces)
    for file in written:
        assert not judged(str(file), profile, Config())[2].blocked
    assert verify_partition(folder, str(path), seeds=(7,)).verdict == "equal"
    return found


def modules(found: Partition, side: str) -> set[str]:
    """Module paths of the convolutions of one side."""
    names = {
        node.metadata("pkg.torch.onnx.name_scopes") or ""
        for piece in found.pieces
        if piece.side == side
        for node in piece.nodes
        if node.op_type in ("Conv", "ConvTranspose")
    }
    return {name.split("'")[3] for name in names}


def test_attention_keeps_its_projections_on_the_npu(exported: Exported, tmp_path: Path) -> None:
    """Three 1x1 convolutions, 64 to 8, 8 and 64 channels; then the products: 4 x 6 positions, 24 x 24 x (8 + 64)."""
    found = cut(exported("self_attention", "dynamo"), tmp_path / "cut")
    assert [(p.side, p.macs) for p in found.pieces] == [("npu", 24 * 64 * (8 + 8 + 64)), ("host", 24 * 24 * (8 + 64))]
    assert {c.shape for c in found.crossings} == {(1, 8, 4, 6), (1, 64, 4, 6)}


def test_deformable_convolution_is_the_hosts(exported: Exported, tmp_path: Path) -> None:
    """Its offsets have 18 channels, which are no blocks of 8; compatible, they are more than half of the work."""
    found = cut(exported("deformable_conv", "dynamo"), tmp_path / "cut")
    assert [p.side for p in found.pieces] == ["host"]
    assert {tuple(n.op_type for n in b.nodes): b.pieces for b in found.breakers} == {
        ("Conv", "DeformConv"): 1, ("Conv",): 2, ("DeformConv",): 2,
    }  # fmt: skip


@pytest.mark.parametrize("fixed", [False, True])
def test_mask_rcnn(exported: Exported, tmp_path: Path, *, fixed: bool) -> None:
    """Convolutions here, selection there: backbone to proposals, classifier head, mask head, with the host in between."""
    path = exported("mask_rcnn", "dynamo")
    if fixed:
        exact = [s for s in catalog.substitutions() if s.exactness == EXACT]
        done = fix_model(str(path), registry.profile(PROFILE), Config(), exact, seeds=(), check_numbers=False)
        path = tmp_path / "fixed.onnx"
        save_document(done.document, path)
    found = cut(path, tmp_path / "cut")
    assert [p.side for p in found.pieces] == ["npu", "host", "npu", "host", "npu"] + ["host"] * (not fixed)
    on_host = modules(found, "host")
    if fixed:
        assert on_host == set()
        assert found.npu_macs_percent >= 95
        assert any(name.startswith("rpn") for name in modules(found, "npu"))
    else:  # 6, 12 and 81 channels
        assert {name.split(".")[0] for name in on_host} == {"rpn", "mask"}
