"""Mask R-CNN: its own operators against ONNX Runtime's, its layers against plain loops, and the whole in both exports."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor, nn

from npu_guard.analysis.analyze import analyze
from npu_guard.analysis.cost import elements
from npu_guard.file.load import load
from npu_guard.models import mask_rcnn
from npu_guard.models.blocks import rcnn
from npu_guard.models.blocks.bottleneck import DEPTHS, BottleneckResNet, SamePad
from npu_guard.models.blocks.boxes import Refine, anchors
from npu_guard.models.blocks.detection import DetectionLayer
from npu_guard.models.blocks.roi_align import PyramidAlign, roi_align
from npu_guard.models.blocks.rpn import ProposalLayer
from npu_guard.models.blocks.seeding import signed
from npu_guard.models.blocks.suppress import suppress
from npu_guard.project.export import export

Array = NDArray[Any]
TOLERANCE = 1e-4
"""Of an output's largest value; see test_zoo_numerics.py."""


def run(model: Path | onnx.ModelProto, **inputs: Tensor) -> list[Array]:
    """By ONNX Runtime, optimiser off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {key: value.numpy() for key, value in inputs.items()}))


def one_node(op_type: str, inputs: dict[str, Tensor], **attributes: Any) -> Array:
    """What ONNX Runtime's own operator gives."""
    types = {torch.float32: onnx.TensorProto.FLOAT, torch.int64: onnx.TensorProto.INT64}
    infos = [helper.make_tensor_value_info(k, types[v.dtype], list(v.shape)) for k, v in inputs.items()]
    kind = onnx.TensorProto.INT64 if op_type == "NonMaxSuppression" else onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(op_type, list(inputs), ["y"], **attributes)],
        "g",
        infos,
        [helper.make_tensor_value_info("y", kind, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return run(model, **inputs)[0]


def boxes_of(count: int, seed: int) -> Tensor:
    """Boxes of all sizes with corners in order, some at the image's border, the last one empty."""
    generator = np.random.default_rng(seed)
    centre, half = generator.random((count, 2)), 10 ** generator.uniform(-2.5, -0.3, (count, 2))
    boxes = np.concatenate([centre - half, centre + half], axis=1).clip(0, 1)
    boxes[-1] = 0
    return torch.from_numpy(boxes.astype(np.float32))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_suppression_is_that_of_onnx(seed: int) -> None:
    boxes, scores = boxes_of(60, seed), torch.rand(3, 60, generator=torch.Generator().manual_seed(seed))
    limits = {"per_class": torch.tensor([7]), "overlap": torch.tensor([0.3]), "floor": torch.tensor([0.2])}
    rows = one_node("NonMaxSuppression", {"boxes": boxes[None], "scores": scores[None], **limits})
    kept = suppress(boxes, scores, 7, 0.3, 0.2, 30)
    assert kept.tolist() == [*rows[:, 2].tolist(), *[60] * (30 - len(rows))]
    assert 8 <= len(rows) <= 21
    assert suppress(boxes, scores, 7, 0.3, 0.2, 4).tolist() == rows[:4, 2].tolist(), "what is too many is cut off"


def test_suppression_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0.0, 0.4, 0.4], [0.0, 0.2, 0.4, 0.6], [0.5, 0.5, 0.9, 0.9]])  # the first two share a third
    scores = torch.tensor([[0.8, 0.9, 0.7]])
    assert suppress(boxes, scores, 9, 0.34, 0.0, 4).tolist() == [1, 0, 2, 3]
    assert suppress(boxes, scores, 9, 0.33, 0.0, 4).tolist() == [1, 2, 3, 3]
    assert suppress(boxes, scores, 9, 0.34, 0.8, 2).tolist() == [1, 3], "a score of 0.8 is not above 0.8"


@pytest.mark.parametrize(("pool", "scale"), [(7, 1 / 4), (14, 1 / 32)])
def test_roi_align_is_that_of_onnx(pool: int, scale: float) -> None:
    pixels = torch.cat([boxes_of(20, 4), 3 * boxes_of(20, 5) - 1]) * 200  # the second half reaches out of the image
    x = signed((1, 5, math.ceil(170 * scale), math.ceil(200 * scale)), seed=6)
    given = {"x": x, "rois": pixels, "batch": torch.zeros(40, dtype=torch.int64)}
    size: dict[str, Any] = {"output_height": pool, "output_width": pool, "sampling_ratio": 2, "spatial_scale": scale}
    actual = roi_align(x, pixels, pool, scale).numpy()
    assert np.abs(actual - one_node("RoiAlign", given, **size)).max() < 1e-4
    older = one_node("RoiAlign", given, coordinate_transformation_mode="output_half_pixel", **size)
    assert np.abs(actual - older).max() > 0.1


def test_levels_by_hand() -> None:
    align = PyramidAlign(7, 7, (1024, 1024))
    extents = torch.tensor([[112, 112], [224, 224], [448, 448], [448, 112], [20, 20], [1024, 1024], [0, 5]]) / 1024
    boxes = torch.cat([torch.zeros(7, 2), extents], dim=1)
    assert align.level(boxes).flatten().tolist() == [3, 4, 5, 4, 2, 5, 2]


def test_crops_come_from_their_level(exporter: str, tmp_path: Path) -> None:
    """Each box is read from one map, as one loop over boxes would do it; the export does the same."""

    class Crops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.align = PyramidAlign(24, 3, (128, 192), canonical=28.0)

        def forward(self, boxes: Tensor, p2: Tensor, p3: Tensor, p4: Tensor, p5: Tensor) -> Tensor:
            result: Tensor = self.align(boxes, (p2, p3, p4, p5))
            return result

    module, boxes = Crops().eval(), boxes_of(24, 8)
    maps = [signed((1, 3, 128 >> i, 192 >> i), seed=i) for i in (2, 3, 4, 5)]
    levels = []
    for box, crop in zip(boxes, module(boxes, *maps), strict=True):
        width, height = (box[2] - box[0]).item() * 192, (box[3] - box[1]).item() * 128
        levels.append(min(max(round(4 + math.log2(math.sqrt(width * height) / 28)), 2), 5) if width * height else 2)
        pixels = (box * torch.tensor([192, 128, 192, 128]))[None]
        assert torch.allclose(crop, roi_align(maps[levels[-1] - 2], pixels, 3, 0.5 ** levels[-1])[0], atol=1e-5)
    assert set(levels) == {2, 3, 4, 5}
    inputs = dict(zip(("boxes", "p2", "p3", "p4", "p5"), (boxes, *maps), strict=True))
    export(module, inputs, tmp_path / "crops.onnx", exporter=exporter)
    assert np.abs(run(tmp_path / "crops.onnx", **inputs)[0] - module(*inputs.values()).numpy()).max() < 1e-4


def test_same_padding_is_that_of_tensorflow() -> None:
    one = torch.ones(1, 1, 1, 1)
    for extent, before, after in ((5, 1, 1), (6, 0, 1), (7, 1, 1), (512, 0, 1)):
        row = SamePad(3, 2)(one.expand(1, 1, 1, extent))[0, 0, :, :]
        padded = (row.sum(0) > 0).to(torch.int64).tolist()
        assert padded == [*[0] * before, *[1] * extent, *[0] * after]


def test_anchors_by_hand() -> None:
    full = rcnn.Sizes()
    made = anchors(full.image, rcnn.STRIDES, full.scales, rcnn.RATIOS)
    assert made.shape == (261_888, 4), "3 (256^2 + 128^2 + 64^2 + 32^2 + 16^2)"
    assert torch.allclose(made[1] * 1024, torch.tensor([-16.0, -16, 16, 16])), "a square of 32 pixels around the first pixel"
    # Second pixel of the second row of P3: at (8, 8), 64 pixels, twice as high as wide.
    sides = torch.tensor([64 / math.sqrt(2), 64 * math.sqrt(2)])
    expected = torch.cat([8 - sides / 2, 8 + sides / 2])
    assert torch.allclose(made[3 * (256**2 + 128 + 1) + 2] * 1024, expected, atol=1e-4)


def test_refinement_by_hand() -> None:
    boxes = torch.tensor([[0.2, 0.4, 0.4, 0.8]] * 4)
    deltas = torch.tensor([[0.0, 0, 0, 0], [1, -1, 0, 0], [0, 0, 5 * math.log(2), 0], [0, 40, 0, 0]])
    expected = torch.tensor([[0.2, 0.4, 0.4, 0.8], [0.22, 0.36, 0.42, 0.76], [0.1, 0.4, 0.5, 0.8], [0.2, 1, 0.4, 1]])
    assert torch.allclose(Refine()(boxes, deltas), expected, atol=1e-6)


def test_proposals_are_filled_up() -> None:
    boxes = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.1, 0.1, 0.5, 0.51], [0.6, 0.6, 0.9, 0.9], [0.0, 0.0, 0.2, 0.2]])
    layer = ProposalLayer(boxes, before=3, count=4)
    scores = torch.tensor([0.7, 0.9, 0.8, 0.1])
    proposals, real = layer(torch.stack([1 - scores, scores], dim=1)[None], torch.zeros(1, 4, 4))
    assert torch.allclose(proposals, torch.stack([boxes[1], boxes[2], torch.zeros(4), torch.zeros(4)]), atol=1e-6)
    assert real.tolist() == [True, True, False, False]


def detected(boxes: Array, real: Array, probabilities: Array, deltas: Array, count: int) -> Array:
    """The detection layer as loops over proposals and classes."""
    found: list[tuple[float, list[float]]] = []
    for label in range(1, probabilities.shape[1]):
        mine = [i for i in range(len(boxes)) if real[i] and probabilities[i].argmax() == label and probabilities[i, label] > 0.05]
        kept: list[Array] = []
        for i in sorted(mine, key=lambda i: -probabilities[i, label]):
            box = Refine()(torch.from_numpy(boxes[i : i + 1]), torch.from_numpy(deltas[i : i + 1, label]))[0].numpy()
            if all(overlap(box, other) <= 0.3 for other in kept):
                kept.append(box)
                found.append((probabilities[i, label], [*box, label, probabilities[i, label]]))
    rows = [row for _, row in sorted(found, key=lambda pair: -pair[0])][:count]
    return np.array([*rows, *[[0.0] * 6] * (count - len(rows))])


def overlap(a: Array, b: Array) -> float:
    """Intersection over union."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = sides.clip(0).prod()
    return float(common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common)) if common else 0.0


@pytest.mark.parametrize(("classes", "count"), [(4, 12), (4, 40), (30, 12)])
def test_detections_are_those_of_plain_loops(classes: int, count: int) -> None:
    proposals = boxes_of(40, 9)
    real = torch.arange(40) % 3 > 0
    probabilities = torch.softmax(3 * signed((40, classes), seed=10), dim=1)
    deltas = signed((40, classes, 4), seed=11)
    result = DetectionLayer(40, classes, count)(proposals, real, probabilities, deltas).numpy()
    expected = detected(proposals.numpy(), real.numpy(), probabilities.numpy(), deltas.numpy(), count)
    assert np.abs(result - expected).max() < 1e-5
    everything = detected(proposals.numpy(), np.ones(40, bool), probabilities.numpy(), deltas.numpy(), count)
    assert np.abs(everything - expected).max() > 1e-2, "proposals that are none would be seen"


def test_backbones_have_the_published_number_of_weights() -> None:
    """torchvision's without the classifier, 23,508,032 and 42,500,160, and a bias for each convolution."""
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in BottleneckResNet(DEPTHS[depth]).parameters()) for depth in (50, 101)]
        shapes = [tuple(f.shape) for f in BottleneckResNet(DEPTHS[50])(torch.zeros(1, 3, 1024, 1024))]
    assert sizes == [23_508_032 + 26_560, 42_500_160 + 52_672]
    assert shapes == [(1, 256, 256, 256), (1, 512, 128, 128), (1, 1024, 64, 64), (1, 2048, 32, 32)]


def worst(actual: list[Array], expected: tuple[Tensor, ...]) -> float:
    """Largest difference of the seven outputs, as part of the output's largest value; each column of the detections alone."""
    pairs = [(a, e.numpy()) for a, e in zip(actual, expected, strict=True)]
    detections, expected_detections = pairs.pop(0)
    pairs += zip(detections.T, expected_detections.T, strict=True)
    return float(max(np.abs(a - e).max() / np.abs(e).max() for a, e in pairs))


@pytest.fixture(scope="module")
def module() -> nn.Module:
    """The network at size tiny."""
    network: nn.Module = mask_rcnn.build("tiny")
    return network


def test_exports_agree_with_torch(module: nn.Module, exporter: str, exported: Callable[[str, str], Path]) -> None:
    """All seven outputs on three images; selections included, as no two scores are near each other."""
    path = exported("mask_rcnn", exporter)
    for seed in (50, 51, 52):
        image = signed((1, 3, *rcnn.TINY.image), seed=seed)
        with torch.no_grad():
            expected = module(image)
        assert worst(run(path, image=image), expected) < TOLERANCE


@pytest.mark.parametrize(
    ("op_type", "change"),
    [
        ("NonMaxSuppression", 3),  # the input with the overlap
        ("RoiAlign", {"coordinate_transformation_mode": "output_half_pixel"}),
        ("RoiAlign", {"sampling_ratio": 1}),
        ("TopK", {"largest": 0}),
    ],
)
def test_what_the_comparison_sees(
    op_type: str, change: int | dict[str, Any], module: nn.Module, exported: Callable[[str, str], Path]
) -> None:
    """One attribute or constant of an operator changed, and the outputs are others."""
    model = onnx.load(exported("mask_rcnn", "dynamo"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0.01], np.float32), "changed"))
    for node in model.graph.node:
        if node.op_type != op_type:
            continue
        if isinstance(change, int):
            node.input[change] = "changed"
        else:
            rest = [a for a in node.attribute if a.name not in change]
            del node.attribute[:]
            node.attribute.extend([*rest, *(helper.make_attribute(*pair) for pair in change.items())])
    image = signed((1, 3, *rcnn.TINY.image), seed=50)
    with torch.no_grad():
        expected = module(image)
    assert worst(run(model, image=image), expected) > 10 * TOLERANCE


def test_only_what_suppression_leaves_is_of_unknown_size(exporter: str, exported: Callable[[str, str], Path]) -> None:
    """NonMaxSuppression, one column of it, and that with its filling: from there on every shape is a number."""
    analysis = analyze(load(exported("mask_rcnn", exporter)))
    unknown = [node.op_type for node in analysis.nodes() if any(v and elements(v.shape) is None for v in node.outputs)]
    assert sorted(unknown) == ["Concat", "Concat", "Gather", "Gather", "NonMaxSuppression", "NonMaxSuppression"]
