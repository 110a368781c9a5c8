"""Non-maximum suppression of a fixed output size: one operator for torch, a few of ONNX's own in both exports.

torch has no such operator without torchvision, and ONNX's NonMaxSuppression gives as many boxes as survive. Detectors
are deployed with a fixed number: what is missing is filled with the index N, one past the last box. A Gather of the first
so many indices, and not a Slice, cuts off the rest, as shape inference then knows how many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_BOX = 2
"""Column of the box's index in NonMaxSuppression's rows (batch, class, box)."""


def suppress(boxes: Tensor, scores: Tensor, per_class: int, overlap: float, floor: float, size: int) -> Tensor:
    """Indices `[size]` (int64) of the boxes that remain, by class and falling score, then N.

    `boxes` is `[N, 4]`, `scores` `[classes, N]`. Of each class remain at most `per_class`, with scores above `floor`,
    whose intersection over union with a better one of the class is at most `overlap`.
    """
    if torch.onnx.is_in_onnx_export() and not torch.compiler.is_exporting():  # the tracing exporter
        count = int(boxes.shape[0])
        traced: Tensor = _Traced.apply(boxes, scores, per_class, overlap, floor, size, count)  # type: ignore[no-untyped-call]
        return traced
    # Nothing to differentiate: indices are no function of the scores that has a slope.
    result: Tensor = padded_suppression(boxes.detach(), scores.detach(), per_class, overlap, floor, size)
    return result


@torch.library.custom_op("npu_guard::padded_suppression", mutates_args=())
def padded_suppression(boxes: Tensor, scores: Tensor, per_class: int, overlap: float, floor: float, size: int) -> Tensor:
    """`suppress` in plain torch: greedy, by ONNX's definition."""
    kept = [index for row in scores for index in _one_class(boxes, row, per_class, overlap, floor)]
    kept = [*kept[:size], *[boxes.shape[0]] * (size - len(kept))]
    return torch.tensor(kept, dtype=torch.int64)


@padded_suppression.register_fake
def _(boxes: Tensor, scores: Tensor, per_class: int, overlap: float, floor: float, size: int) -> Tensor:
    return boxes.new_empty(size, dtype=torch.int64)


def _one_class(boxes: Tensor, scores: Tensor, limit: int, overlap: float, floor: float) -> list[int]:
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[scores[order] > floor]
    low, high = boxes[order, :2], boxes[order, 2:]
    areas = (high - low).prod(dim=1)
    alive = torch.ones(len(order), dtype=torch.bool)
    kept: list[int] = []
    for position, index in enumerate(order.tolist()):
        if len(kept) == limit:
            break
        if not alive[position]:
            continue
        kept.append(index)
        sides = torch.minimum(high, high[position]) - torch.maximum(low, low[position])
        common = sides.clamp(min=0).prod(dim=1)
        # Empty boxes overlap with nothing.
        alive &= ~((common > 0) & (common / (areas + areas[position] - common) > overlap))
    return kept


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For torch's exporter: how the operator is written in ONNX."""
    from onnxscript import opset18

    op: Any = opset18  # its types do not know that a constant can be of the type that is wanted

    def write(boxes: Any, scores: Any, per_class: int, overlap: float, floor: float, size: int) -> Any:
        selected = op.NonMaxSuppression(
            op.Unsqueeze(boxes, op.Constant(value_ints=[0])),
            op.Unsqueeze(scores, op.Constant(value_ints=[0])),
            op.Constant(value_ints=[per_class]),
            op.Constant(value_floats=[overlap]),
            op.Constant(value_floats=[floor]),
        )
        found = op.Gather(selected, op.Constant(value_int=_BOX), axis=1)
        filler = op.Constant(value_ints=[int(boxes.shape[0])] * size)
        padded = op.Concat(found, filler, axis=0)
        return op.Gather(padded, op.Constant(value_ints=list(range(size))), axis=0)

    return {torch.ops.npu_guard.padded_suppression.default: write}


class _Traced(torch.autograd.Function):
    """The same for torch's tracing exporter."""

    @staticmethod
    def forward(
        ctx: Any, boxes: Tensor, scores: Tensor, per_class: int, overlap: float, floor: float, size: int, count: int
    ) -> Tensor:
        result: Tensor = padded_suppression(boxes, scores, per_class, overlap, floor, size)
        return result

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, per_class: int, overlap: float, floor: float, size: int, count: int) -> Any:
        def constant(value: Any, dtype: torch.dtype = torch.int64) -> Any:
            return g.op("Constant", value_t=torch.tensor(value, dtype=dtype))

        selected = g.op(
            "NonMaxSuppression",
            g.op("Unsqueeze", boxes, constant([0])),
            g.op("Unsqueeze", scores, constant([0])),
            constant([per_class]),
            constant([overlap], torch.float32),
            constant([floor], torch.float32),
        )
        found = g.op("Gather", selected, constant(_BOX), axis_i=1)
        filler = constant([count] * size)
        padded = g.op("Concat", found, filler, axis_i=0)
        return g.op("Gather", padded, constant(list(range(size))), axis_i=0)
