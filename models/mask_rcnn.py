"""Mask R-CNN: instance segmentation with proposals, region crops and suppression in one graph.

Image `[1, 3, 1024, 1024]`; ResNet-50 (or 101, by `build(depth=101)`) with batch norm of eps 1e-3 and TensorFlow's "same"
padding; pyramid P2 to P6 of 256 channels; region proposals from 261,888 anchors: the 6000 best, refined, clipped, suppressed
at an overlap of 0.7, the best 1000; RoiAlign on P2 to P5 by the region's size, 7x7 for the classifier head (conv7x7 to 1024,
conv1x1, two linears for 81 classes), suppression per class at 0.3, the best 100, 14x14 for the mask head (four conv3x3, a
transposed convolution, conv1x1). Wherever a selection gives too few, empty boxes fill up, so that all shapes are fixed.

Verdict: a job for two. Backbone, pyramid and the 3x3 convolutions of both heads run; those to 6, 12 and 81 channels and
both linears do once they are widened to whole blocks. The rest belongs to the host, as refused operators are everywhere in
between: ten rearrangements of anchors, two TopK, two NonMaxSuppression, ten Gather, eight RoiAlign, with the indices,
masks, exponentials and logarithms around them. It has next to no MACs.
"""

from __future__ import annotations

import dataclasses

import torch

from npu_guard.models.blocks import rcnn
from npu_guard.models.blocks.bottleneck import DEPTHS
from npu_guard.models.blocks.seeding import signed
from npu_guard.zoo.system import Expect, Fixed

ID = "C1"

TYPES = "float32, float16, bfloat16, int8, uint8, int16"


def build(size: str = "full", depth: int = 50) -> torch.nn.Module:
    """The network in eval mode; forward gives detections, masks, and what they were made of (see blocks/rcnn.py)."""
    full = dataclasses.replace(rcnn.Sizes(), depths=DEPTHS[depth])
    return rcnn.network(rcnn.TINY if size == "tiny" else full, seed=301)


def inputs(size: str = "full") -> dict[str, torch.Tensor]:
    """An image, normalised."""
    return {"image": signed((1, 3, *(rcnn.TINY if size == "tiny" else rcnn.Sizes()).image), seed=30)}


EXPECTED: dict[str, tuple[Expect, ...]] = {
    "aimotive-aiware": (
        # Five levels, two heads: channels last, and all positions in one list; the scores are normalised in pairs.
        Expect("NPU102", "error", scope="rpn", count=20),
        Expect("NPU101", "warning", scope="rpn", count=5),
        Expect("NPU401", "error", measured=6, allowed=8, scope="rpn", count=5),
        Expect("NPU401", "error", measured=12, allowed=8, scope="rpn", count=5),
        # TopK, three Gather for deltas, anchors and result, NonMaxSuppression and two Gather for its column and size.
        Expect("NPU101", "error", scope="proposals", count=7),
        Expect("NPU101", "warning", scope="proposals", count=2),  # Exp, Less
        Expect("NPU102", "error", scope="proposals"),  # the scores, as NonMaxSuppression wants them
        Expect("NPU404", "error", measured="int64", allowed=TYPES, scope="proposals"),  # Concat
        Expect("NPU404", "error", measured="bool", allowed=TYPES, scope="proposals"),
        # Four levels read, three times one of two kept; Log and Round choose.
        Expect("NPU101", "error", scope="box_align", count=4),
        Expect("NPU101", "warning", scope="box_align", count=8),
        Expect("NPU404", "error", measured="bool", allowed=TYPES, scope="box_align", count=3),
        Expect("NPU101", "error", scope="mask_align", count=4),
        Expect("NPU101", "warning", scope="mask_align", count=8),
        Expect("NPU404", "error", measured="bool", allowed=TYPES, scope="mask_align", count=3),
        # The two linears, on vectors of the regions; the deltas are split by class.
        Expect("NPU104", "warning", scope="classifier", count=3),
        Expect("NPU102", "error", scope="classifier"),
        Expect("NPU401", "error", measured=81, allowed=8, scope="classifier.score"),
        Expect("NPU401", "error", measured=324, allowed=8, scope="classifier.delta"),
        # The same seven as for the proposals; ArgMax, Equal, And, Where, Exp, Cast; deltas and boxes in lists.
        Expect("NPU101", "error", scope="detection", count=7),
        Expect("NPU101", "warning", scope="detection", count=6),
        # Boxes in lists twice; the best scores of each box, laid along the classes.
        Expect("NPU102", "error", scope="detection", count=3),
        Expect("NPU404", "error", measured="int64", allowed=TYPES, scope="detection", count=4),
        Expect("NPU404", "error", measured="bool", allowed=TYPES, scope="detection", count=2),
        Expect("NPU401", "error", measured=81, allowed=8, scope="mask.last"),
    )
}

# Widths and the first stage's lists are mended; the host's part stays the host's, and reads the maps in its own order.
_HOST = ("proposals", "box_align", "mask_align", "detection")
FIXED = {
    "aimotive-aiware": Fixed(
        findings=(
            *(e for e in EXPECTED["aimotive-aiware"] if e.scope in _HOST),
            Expect("NPU102", "error", scope="rpn", count=2),
            Expect("NPU102", "error", scope="classifier"),
            Expect("NPU104", "warning", scope="classifier", count=3),
        ),
        substitutions=("channels-to-aligned", "tensors-to-maps"),
    )
}
