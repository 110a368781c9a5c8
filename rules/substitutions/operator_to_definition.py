from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx

from npu_guard.results.proof import SAMPLED
from npu_guard.rewriting.arithmetic import FLOATS
from npu_guard.rewriting.definitions import definition
from npu_guard.rewriting.substitution import Builder, Example, Match, Refused, Substitution

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

_PRIMITIVES = dict.fromkeys(
    (
        *(
            "Add",
            "Sub",
            "Mul",
            "Div",
            "Pow",
            "Sqrt",
            "Exp",
            "Log",
            "Tanh",
            "Sigmoid",
            "Relu",
            "Max",
            "Min",
            "Abs",
            "Neg",
            "Softplus",
        ),
        *("Less", "Greater", "Equal", "Where", "Cast", "ReduceMean", "ReduceSum", "ReduceMax", "MatMul", "Softmax"),
        *("Reshape", "Transpose", "Slice", "Split", "Concat", "Gather", "Squeeze", "Unsqueeze", "Expand", "Pad", "Clip"),
    ),
    "supported",
)


class OperatorToDefinition(Substitution):
    """An operator that ONNX defines by others becomes these.

    The definition is the one in ONNX's own schemas, as of the model's opset, with its attributes put in; what follows from
    shapes is worked out, and what does nothing for the types at hand is left out. Rotary position embedding becomes products
    with cosine and sine of halves, RMSNormalization a mean of squares, Shrink comparisons. Norms that ONNX defines by the
    mean of squares less the square of the mean are left to other forms: of numbers far from 0 nothing is left of that.
    """

    name = "operator-to-definition"
    last = True  # others have shorter forms
    roots = (
        *("RotaryEmbedding", "Shrink", "ThresholdedRelu", "Celu", "Selu", "Mish", "Swish", "SwiGLU"),
        *("RMSNormalization", "LinearAttention", "CastLike"),
        *("CenterCropPad", "AffineGrid", "ReduceLogSum", "ReduceL1", "LogSoftmax", "GreaterOrEqual"),
        *("LessOrEqual", "CausalConvWithState"),
    )
    alone = True
    operators = _PRIMITIVES
    good = (
        Example(
            """g (float[1,2,3,8] x, float[1,3,4] c, float[1,3,4] s) => (y) { y = RotaryEmbedding(x, c, s) }""",
            opset=23,
            title="rotary position embedding",
        ),
        Example(
            """g (float[2,3,20] x) => (float[2,3,20] y) <float[5,4] c, float[5,4] s, int64[2,3] p = {0,1,2,4,3,2}>
            { y = RotaryEmbedding<num_heads = 2, rotary_embedding_dim = 8, interleaved = 1>(x, c, s, p) }""",
            opset=23,
            title="of a part of each head, in pairs, at given positions",
        ),
        Example("g (float[1,8,4,4] x) => (y) { y = Shrink<lambd = 0.5, bias = 0.25>(x) }", title="a threshold on both sides"),
        Example("g (float[1,8,4,4] x) => (y) { y = ThresholdedRelu<alpha = 0.5>(x) }", title="a threshold"),
        Example("g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Mish(x) }", opset=22, label=SAMPLED, title="an activation"),
        Example(
            "g (float[1,6,8] x) => (float[1,6,8] y) <float[8] s> { y = RMSNormalization(x, s) }",
            opset=23,
            title="a norm without a mean",
        ),
    )
    bad = (
        Example('g (float[1,8,"H",4] x) => (y) { y = Shrink(x) }', refused="its shapes are not known"),
        Example("g (int32[1,8,4,4] x) => (y) { y = Shrink(x) }", refused="neither float32, float16 nor double"),
        Example(
            "g (float[1,8,4,4] x) => (y) { y = ThresholdedRelu(x) }",
            opset=17,
            refused="ONNX has no definition of it in opset 17",
        ),
    )

    def match(self, node: Node, ctx: Context) -> Match | None:
        if node.input(0) is None or ctx.input(node, 0).dtype not in FLOATS:
            raise Refused("its elements are neither float32, float16 nor double")
        found = definition(node, ctx)
        replaced = [v for v in node.outputs if v is not None and (v.consumers or v.is_output)]
        return Match(self, node, (node,), tuple(replaced), found)

    def rewrite(self, match: Match, build: Builder) -> Mapping[Value, str]:
        return _written(match, build)

    def mutant(self, match: Match, build: Builder) -> Mapping[Value, str]:
        """A hundredth more."""
        made = _written(match, build)
        kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(match.root.output.dtype))
        return {v: build.op("Mul", name, build.constant(np.asarray(1.01, kind), "number")) for v, name in made.items()}


def _written(match: Match, build: Builder) -> Mapping[Value, str]:
    node, made = match.root, match.facts
    names: dict[str, str] = {"": ""}
    names |= {name: value.name for name, i in made.inputs.items() if (value := node.inputs[i]) is not None}
    names |= {name: build.constant(array, "number") for name, array in made.constants.items()}
    for step in made.steps:
        given = [names[i] or None for i in step.inputs]
        outputs = build.op_many(step.op_type, *given, outputs=len(step.outputs), **dict(step.attributes))
        names |= dict(zip(step.outputs, outputs, strict=True))
    return {v: names[n] for v, n in zip(node.outputs, made.outputs, strict=False) if v in match.replaced and n}
