"""Group B: the heads by their formulas, the resized mask by its definition, and the shapes of the real size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from npu_guard.models.blocks import mask_guided
from npu_guard.models.blocks.resnet3d import ResNet3d

Array = NDArray[Any]
HEADS = ("feature_masking", "weighted_gap", "soft_attention", "roi_pooling", "channel_weighting")


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def by_hand(head: str, x: Array, m: Array) -> Array:
    """The formulas of the systems' table, in float64."""
    space = (2, 3, 4)
    if head == "feature_masking":
        return (x * m).mean(space)
    if head == "weighted_gap":
        return (x * m).sum(space) / (m.sum(space) + 1e-6)
    if head == "soft_attention":
        return (x * sigmoid(10 * m)).mean(space)
    if head == "roi_pooling":
        b = (m > 0.5).astype(float)
        return (x * b).sum(space) / (b.sum(space) + 1e-6)
    w = sigmoid((x * m).mean(space, keepdims=True))
    return (x * w * m).mean(space)


def made(head: str) -> torch.nn.Module:
    name = "".join(part.title() for part in head.split("_"))
    module: torch.nn.Module = getattr(mask_guided, name)()
    return module


@pytest.mark.parametrize("head", HEADS)
def test_heads_by_their_formulas(head: str) -> None:
    generator = np.random.default_rng(7)
    x, m = generator.standard_normal((2, 5, 3, 4, 7)), generator.random((2, 1, 3, 4, 7))
    result = made(head)(torch.from_numpy(x), torch.from_numpy(m)).numpy()
    assert np.abs(result - by_hand(head, x, m)).max() < 1e-12
    others = [by_hand(other, x, m) for other in HEADS if other != head]
    assert min(np.abs(result - other).max() for other in others) > 1e-2, "the formulas can be told apart"


@pytest.mark.parametrize("head", ["weighted_gap", "roi_pooling"])
def test_a_mean_does_not_hang_on_the_size_of_the_region(head: str) -> None:
    x, m = torch.full((1, 3, 2, 3, 4), 2.5), torch.zeros(1, 1, 2, 3, 4)
    m[..., :2] = 0.75
    assert torch.allclose(made(head)(x, m), torch.tensor(2.5), atol=1e-5)
    assert torch.equal(made(head)(x, torch.zeros_like(m)), torch.zeros(1, 3)), "an empty region divides by 1e-6, not by 0"


def test_features_of_the_real_size() -> None:
    with torch.device("meta"):
        backbone = ResNet3d()
        shapes = [tuple(backbone(torch.zeros(1, 1, *extents)).shape) for extents in ((16, 64, 64), (33, 65, 100))]
    assert shapes == [(1, 512, 1, 2, 2), (1, 512, 2, 3, 4)]
    stages = ((64, 64), (64, 128), (128, 256), (256, 512))
    kernels = 64 * 7**3 + sum(27 * (i * o + 3 * o * o) + (i * o if i != o else 0) for i, o in stages)
    norms = 2 * 5 * (64 + 128 + 256 + 512)
    assert sum(p.numel() for p in backbone.parameters()) == kernels + norms == 33_160_000


def interpolated(mask: Array, sizes: tuple[int, ...]) -> Array:
    """Linear along one axis after the other, at half-pixel centres."""
    for axis, size in enumerate(sizes, start=2):
        extent = mask.shape[axis]
        places = np.clip((np.arange(size) + 0.5) * extent / size - 0.5, 0, extent - 1)
        low = np.floor(places).astype(int)
        part = (places - low).reshape(-1, *[1] * (4 - axis))
        mask = mask.take(low, axis) * (1 - part) + mask.take(np.minimum(low + 1, extent - 1), axis) * part
    return mask


def test_the_mask_is_resized_between_pixel_centres(exporter: str, exported: Callable[[str, str], Path]) -> None:
    """One slice of features lies in the middle of sixteen: runtimes that count a single output from 0 get it wrong."""
    model = onnx.load(exported("mask_guided_feature_masking", exporter))
    (resize,) = (node for node in model.graph.node if node.op_type == "Resize")
    model.graph.output.append(onnx.helper.make_tensor_value_info(resize.output[0], 1, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {key: value.numpy() for key, value in mask_guided.example("tiny", seed=5).items()}
    actual = session.run([resize.output[0]], inputs)[0]
    assert actual.shape == (1, 1, 1, 2, 3)
    assert np.abs(actual - interpolated(inputs["mask"], actual.shape[2:])).max() < 1e-6
    assert np.abs(actual - inputs["mask"][:, :, :1, 15:48:32, 15:80:32]).max() > 0.1
