"""Which convolutions have a norm in their weights where the fixed model has a sum of several: an export has it there again.

Torch's exporter folds a norm into the one convolution before it. Behind a sum it would stay an operator, which the fixed file has
not. So the weights of before the fold are scaled as the exporter does it, and compared with those of the fixed model.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from npu_guard.training.graph import Array, Graph, Op
from npu_guard.training.merging import merged_bias, merged_weight, scale_of

CONVOLUTIONS = ("Conv", "ConvTranspose", "Gemm")
CLOSE = 1e-5
"""A difference of weights that roundings explain, relative to the peak of their channel."""


@dataclass(frozen=True, slots=True)
class Sum:
    """The first outputs of the convolutions, and that of the one with the bias."""

    outputs: tuple[str, ...]
    biased: str


def summed(
    graph: Graph, behind: str, names: Collection[str], old: Mapping[str, Array], state: Sequence[Array], epsilon: float
) -> Sum | None:
    """The convolutions whose sum the value `behind` is; None where it is no sum of such, or the exporter folds by itself.

    `names` are the constants of `graph` that follow from the weights before the norm, and `old` has them with the fold; `state`
    is weight, bias, mean and variance of all channels of the value.
    """
    ops = sorted({op for name in names for op in graph.consumers.get(name, ())}, key=lambda op: op.index)
    if graph.producer.get(behind) in ops or not all(_takes(op, names) for op in ops):
        return None
    biased = [op for op in ops if len(op.inputs) > 2 and op.inputs[2]]
    if len(biased) != 1 or biased[0].inputs[2] not in names:
        return None
    scale = scale_of(state[0], state[3], epsilon)
    for op in ops:
        groups = op.attributes.get("group", 1) if op.type == "ConvTranspose" else 0
        weight, wanted = graph.array(op.inputs[1]), old[op.inputs[1]]
        channels = weight.shape[1] * groups if groups else weight.shape[0]
        if channels != len(scale) or not _close(merged_weight(weight, scale, groups), wanted, 1 if groups else 0):
            return None
    bias = biased[0].inputs[2]
    if not _close(merged_bias(graph.array(bias), scale, state[1], state[2]), old[bias], 0):
        return None
    return Sum(tuple(op.outputs[0] for op in ops), biased[0].outputs[0])


def _takes(op: Op, names: Collection[str]) -> bool:
    """Whether it has a weight of the fold, and nothing of it elsewhere."""
    if op.type not in CONVOLUTIONS or (op.type == "Gemm" and not op.attributes.get("transB")):
        return False
    return op.inputs[1] in names and op.inputs[0] not in names


def _close(given: Array, wanted: Array, axis: int) -> bool:
    axes = tuple(i for i in range(wanted.ndim) if i != axis)
    return bool((np.abs(given - wanted) <= CLOSE * np.abs(wanted).max(axes, initial=0, keepdims=True)).all())
