"""Whether the shapes that a node reads go together, where ONNX's inference does not ask: channels, axes, windows, counts.

A runtime would refuse such a model when it loads or when it runs it. Extents that are not known agree with everything.
What is asked of whom stands here; the questions themselves in `operands.py`, `convolutions.py` and `products.py`, and those
about values in `constant_operands.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from npu_guard.analysis.constants import Constants
from npu_guard.analysis.static import stated_scales
from npu_guard.analysis.validation import constant_operands, convolutions, operands, products
from npu_guard.base.errors import ModelError
from npu_guard.base.text import short
from npu_guard.file.tensors import MAX_DIM
from npu_guard.graph.graph import Model, Node


def after_inference(model: Model, constants: Constants | None = None) -> None:
    """Raise ModelError (`invalid`) where a node cannot run on what it is given."""
    values = constants if constants is not None else Constants()
    if any(_is_rounded_apart(node, values) for node in model.graph.walk() if node.op_type in ("Resize", "Upsample")):
        return
    for node in model.graph.walk():
        if node.op_type not in _ASKED or node.domain:
            continue
        problem = None
        for check in _CHECKS.get(node.op_type, ()):
            problem = problem or check(node)
        by_value = constant_operands.CHECKS.get(node.op_type)
        if by_value is not None:
            problem = problem or by_value(node, values)
        if problem is not None:
            raise ModelError("invalid", f"{model.skeleton.path}: node {short(node.label)!r} ({node.op}): {problem}")


def _is_rounded_apart(node: Node, values: Constants) -> bool:
    """Whether scale times extent is another whole number in double precision, as ONNX's inference has it, than in single.

    Runtimes multiply in single precision: 5 rows times 1.8 are 9 there and 8 here, so extents behind such a node are not known.
    """
    x = node.inputs[0] if node.inputs else None
    if node.domain or x is None or x.shape is None:
        return False
    axes = node.attributes.get("axes") or range(len(x.shape))
    sized = (
        (np.float32(scale), extent)
        for axis, scale in zip(axes, stated_scales(node, values) or (), strict=False)
        if -len(x.shape) <= axis < len(x.shape) and isinstance(extent := x.shape[axis], int) and abs(scale * extent) <= MAX_DIM
    )
    return any(math.floor(float(s) * e) != math.floor(s * np.float32(e)) for s, e in sized)


Check = Callable[[Node], str | None]
_CHECKS: dict[str, Sequence[Check]] = {
    "Conv": (convolutions.conv, convolutions.window),
    "ConvTranspose": (convolutions.conv,),
    "Gemm": (products.gemm, products.gemm_c, products.gemm_c_rows),
    "MatMul": (products.matmul,),
    "BatchNormalization": (operands.batch_norm,),
    "Transpose": (operands.transpose,),
    "PRelu": (operands.prelu, operands.prelu_first),
    "InstanceNormalization": (operands.per_channel,),
    "GroupNormalization": (operands.groups,),
    "Reshape": (operands.target, operands.count),
    "RoiAlign": (operands.regions, operands.region_counts),
    "Einsum": (products.einsum,),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), (convolutions.window,)),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), (convolutions.global_pool,)),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), (operands.depth_to_space,)),
    **dict.fromkeys(operands.GATES, (operands.recurrent,)),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), (operands.quantize,)),
    **dict.fromkeys(operands.AXES, (operands.axis,)),
    "LayerNormalization": (operands.axis, operands.layer_norm),
    "RMSNormalization": (operands.axis, operands.layer_norm),
    **dict.fromkeys(operands.LISTS, (operands.lists,)),
    "Split": (operands.axis, operands.lists, operands.split, operands.parts),
    "Clip": (operands.bounds,),
    "GatherElements": (operands.axis, operands.same_rank),
    "ScatterElements": (operands.axis, operands.same_rank),
    "Scatter": (operands.axis, operands.same_rank),
}
_ASKED = frozenset(_CHECKS) | frozenset(constant_operands.CHECKS)
"""All of these; one look-up is what every other node costs."""
