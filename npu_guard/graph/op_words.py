"""The words of `ops.py` for type checkers and tests: kinds of operators and roles of inputs. Nothing imports them at run time."""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal[
    "unary", "broadcasting", "gate", "reduction", "view", "identity", "data mover", "selection", "convolution", "pooling",
    "global pooling", "product", "attention", "recurrent", "normalization", "softmax", "quantization", "resampling",
    "cumulative", "transform", "embedding", "mixture", "query", "generator", "random", "control", "sequence", "text", "loss",
    "classical", "unknown",
]  # fmt: skip
"""What an operator does to its data input:

- unary: a function of each element by itself; broadcasting: of operands that are broadcast; gate: of two of one shape;
- view: the same elements in the same order under another shape; identity: nothing, at inference; data mover: elsewhere;
- reduction: over axes; convolution, pooling: over windows; global pooling: over all of space; product: sums of products;
- selection: elements or indices that depend on values; query: of the shape alone; generator: nothing is read but sizes.
"""
Role = Literal[
    "data", "weight", "bias", "scale", "zero_point", "output_scale", "output_zero_point", "mean", "variance", "axes", "extents",
    "position", "step", "padding", "fill", "bound", "mask", "condition", "state", "lengths", "type", "parameter",
]  # fmt: skip
"""What an input is for. In a product and a convolution the second operand is the weight, whether it is constant or not; scale and
zero point are those of quantization, while the learned scale of a normalization is its weight."""
KINDS: tuple[Kind, ...] = get_args(Kind)
ROLES: tuple[Role, ...] = get_args(Role)
