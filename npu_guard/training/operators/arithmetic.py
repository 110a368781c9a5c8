"""Element by element, reductions, matrix products and norms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from npu_guard.training.operators.kind import as_operator, axes, grouped, receiver
from npu_guard.training.writer import CannotWrite, Write

if TYPE_CHECKING:
    from npu_guard.training.graph import Op
    from npu_guard.training.writer import Writer

ROUNDING = 1e-6
"""By which an attribute may be off that torch writes as a float of 32 bits."""
UNARY = {
    "Relu": "F.relu({})", "Sigmoid": "torch.sigmoid({})", "Tanh": "torch.tanh({})", "Exp": "torch.exp({})",
    "Sqrt": "torch.sqrt({})", "Abs": "torch.abs({})", "Log": "torch.log({})", "Erf": "torch.erf({})",
    "Reciprocal": "torch.reciprocal({})", "HardSwish": "F.hardswish({})", "Mish": "F.mish({})",
    "Floor": "torch.floor({})", "Ceil": "torch.ceil({})", "Round": "torch.round({})", "Sin": "torch.sin({})",
    "Cos": "torch.cos({})", "Softsign": "F.softsign({})", "Sign": "torch.sign({})", "Not": "torch.logical_not({})",
    "Selu": "F.selu({})", "Tan": "torch.tan({})",
}  # fmt: skip
BINARY = {
    "Add": "+", "Sub": "-", "Mul": "*", "Div": "/", "Greater": ">", "Less": "<", "GreaterOrEqual": ">=", "LessOrEqual": "<=",
    "Equal": "==", "And": "&", "Or": "|", "Pow": "**",
}  # fmt: skip
REDUCE = {
    "ReduceMean": ("mean", "mean"), "ReduceSum": ("sum", "total"), "ReduceMax": ("amax", "peak"), "ReduceMin": ("amin", "low"),
    "ReduceLogSumExp": ("logsumexp", "total"),
}  # fmt: skip
HINTS = {"Sigmoid": "gate", "Softmax": "weights", "Sqrt": "root", "Exp": "power"}
TORCH_TYPES = {1: "torch.float32", 7: "torch.int64", 6: "torch.int32", 9: "torch.bool", 10: "torch.float16", 11: "torch.float64"}


def unary(w: Writer, op: Op) -> None:
    """A function of one tensor."""
    w.assign(op, HINTS.get(op.type, "y"), UNARY[op.type].format(w.value(op.inputs[0], False)))


def negated(w: Writer, op: Op) -> None:
    """Neg."""
    w.assign(op, "y", f"-{grouped(w.value(op.inputs[0], False))}")


def identity(w: Writer, op: Op) -> None:
    """Identity, and Dropout as it is in eval mode."""
    w.rename(op, w.value(op.inputs[0], False))


def binary(w: Writer, op: Op) -> None:
    """Two operands; one of them at least is a tensor."""
    a, b = op.inputs
    single = a in w.graph.constants and b in w.graph.constants
    w.assign(op, "y", f"{grouped(w.value(a, not single))} {BINARY[op.type]} {grouped(w.value(b))}")


def reduction(w: Writer, op: Op) -> None:
    """A reduction over axes, or over all of them."""
    over = axes(w, op, range(len(w.shape(op.inputs[0]))))
    method, hint = REDUCE[op.type]
    keep = ", keepdim=True" if op.attributes.get("keepdims", 1) else ""
    dim = str(over[0]) if len(over) == 1 else str(tuple(over))
    w.assign(op, hint, f"{receiver(w.value(op.inputs[0], False))}.{method}({dim}{keep})")


def length(w: Writer, op: Op) -> None:
    """ReduceL2."""
    keep = bool(op.attributes.get("keepdims", 1))
    expression = f"torch.linalg.vector_norm({w.value(op.inputs[0], False)}, dim={tuple(axes(w, op))}, keepdim={keep})"
    w.assign(op, "norm", expression)


def pairwise(w: Writer, op: Op) -> None:
    """Max and Min of several tensors, and Sum; bounds go first, as torch's exporter makes a Clip of two with bounds behind."""
    names = sorted(op.inputs, key=lambda name: name not in w.graph.constants) if op.type != "Sum" else op.inputs
    given = [w.value(name, False) for name in names]
    if op.type == "Sum":
        w.assign(op, "total", " + ".join(given))
        return
    expression = given[0]
    for other in given[1:]:
        expression = f"torch.{'maximum' if op.type == 'Max' else 'minimum'}({expression}, {other})"
    w.assign(op, "peak" if op.type == "Max" else "low", expression)


def clip(w: Writer, op: Op) -> None:
    """Clip, its bounds constants."""
    bounds = [w.value(n) if n else "None" for n in (*op.inputs[1:], "", "")[:2]]
    low, high = (op.attributes.get(k, b) for k, b in zip(("min", "max"), bounds, strict=True))
    w.assign(op, "y", f"{receiver(w.value(op.inputs[0], False))}.clamp({low}, {high})")


def softmax(w: Writer, op: Op) -> None:
    """Softmax and its logarithm over one axis; before opset 13 it was over all from there on."""
    method = "softmax" if op.type == "Softmax" else "log_softmax"
    w.assign(op, "weights", f"{receiver(w.value(op.inputs[0], False))}.{method}({op.attributes.get('axis', -1)})")


def activation(w: Writer, op: Op) -> None:
    """Activations with numbers of their own."""
    a, x = op.attributes, w.value(op.inputs[0], False)
    forms = {
        "Celu": lambda: f"F.celu({x}, {a.get('alpha', 1.0):.9g})",
        "Elu": lambda: f"F.elu({x}, {a.get('alpha', 1.0):.9g})",
        "LeakyRelu": lambda: f"F.leaky_relu({x}, {a.get('alpha', 0.01):.9g})",
        "HardSigmoid": lambda: _hard_sigmoid(x, a.get("alpha", 0.2), a.get("beta", 0.5)),
        "Gelu": lambda: f"F.gelu({x})" if a.get("approximate", "none") == "none" else f'F.gelu({x}, approximate="tanh")',
        "PRelu": lambda: _leaky(w, op, x),
    }
    w.assign(op, "y", forms[op.type]())


def softplus(w: Writer, op: Op) -> None:
    """Softplus, which torch exports with a comparison beside it."""
    as_operator(w, op, "y", f"F.softplus({w.value(op.inputs[0], False)})")


def _hard_sigmoid(x: str, alpha: float, beta: float) -> str:
    """As torch's own function where it has these numbers, which is exported as the operator again."""
    if abs(alpha - 1 / 6) < ROUNDING and beta == 0.5:
        return f"F.hardsigmoid({x})"
    return f"({grouped(x)} * {alpha:.9g} + {beta:.9g}).clamp(0.0, 1.0)"


def _leaky(w: Writer, op: Op, x: str) -> str:
    """As torch's own function where each channel has a slope, or all have one."""
    slope, shape = w.value(op.inputs[1], False), w.graph.shape(op.inputs[0])
    slopes = (*[1] * len(shape), *w.graph.shape(op.inputs[1]))[-len(shape) :]
    if len(shape) > 1 and slopes[1] in (1, shape[1]) and math.prod(slopes) == slopes[1]:
        return f"F.prelu({x}, {slope}.flatten())"
    return f"torch.where({x} > 0, {x}, {x} * {slope})"


def cast(w: Writer, op: Op) -> None:
    """Cast to one of torch's types. Raises CannotWrite for others."""
    kind = TORCH_TYPES.get(op.attributes["to"])
    if kind is None:
        raise CannotWrite(f"a Cast to ONNX type {op.attributes['to']} has no form in PyTorch here")
    w.assign(op, "y", f"{receiver(w.value(op.inputs[0], False))}.to({kind})")


def where(w: Writer, op: Op) -> None:
    """Where."""
    w.assign(op, "y", f"torch.where({', '.join(w.value(n, k > 0) for k, n in enumerate(op.inputs))})")


def matrix(w: Writer, op: Op) -> None:
    """Gemm and MatMul: a Linear where the second operand is a matrix of weights."""
    a, weight = op.attributes, op.inputs[1]
    if weight in w.graph.constants and len(w.shape(weight)) == 2 and op.type == "MatMul":
        name = w.tensor(weight, w.is_trained(weight), f"{w.hint(op, 'linear')}_weight")
        w.assign(op, w.hint(op, "y"), f"{w.value(op.inputs[0], False)} @ {name}")
        return
    if op.type == "MatMul":
        w.assign(op, "y", f"{grouped(w.value(op.inputs[0], False))} @ {grouped(w.value(weight, False))}")
        return
    if weight not in w.graph.constants or not a.get("transB") or a.get("transA"):
        raise CannotWrite("a Gemm that is no Linear has no form in PyTorch here")
    if a.get("alpha", 1.0) != 1.0 or a.get("beta", 1.0) != 1.0:
        raise CannotWrite("a Gemm with factors has no form in PyTorch here")
    outputs, inputs = w.shape(weight)
    bias = op.inputs[2] if len(op.inputs) > 2 and op.inputs[2] else None
    constructor = f"nn.Linear({inputs}, {outputs}{'' if bias else ', bias=False'})"
    module = w.module(op, w.hint(op, "linear"), constructor, {"weight": weight, "bias": bias})
    w.assign(op, w.hint(op, "y"), f"self.{module}({w.value(op.inputs[0], False)})")


def batch_norm(w: Writer, op: Op) -> None:
    """BatchNormalization over maps; over frames in the channels where it was that of a network over volumes."""
    if w.replaced_norm(op):
        return
    names = dict(zip(("weight", "bias", "running_mean", "running_var"), op.inputs[1:5], strict=True))
    dims = len(w.shape(op.inputs[0])) - 2
    epsilon = op.attributes.get("epsilon", 1e-5)
    constructor = f"nn.BatchNorm{max(1, dims)}d({w.shape(op.inputs[1])[0]}, eps={epsilon:.6g})"
    module = w.module(op, w.hint(op, "norm"), constructor, names)
    w.written.norms.append(op.scope)
    w.assign(op, w.hint(op, "y"), f"self.{module}({w.value(op.inputs[0], False)})")


def layer_norm(w: Writer, op: Op) -> None:
    """LayerNormalization over the last axes."""
    shape, bias = w.shape(op.inputs[1]), op.inputs[2] if len(op.inputs) > 2 and op.inputs[2] else None
    rank = len(w.shape(op.inputs[0]))
    if len(shape) != rank - op.attributes.get("axis", -1) % rank:
        raise CannotWrite("a LayerNormalization whose weight is broadcast has no form in PyTorch here")
    epsilon = op.attributes.get("epsilon", 1e-5)
    constructor = f"nn.LayerNorm({list(shape)}, eps={epsilon:.6g}{'' if bias else ', bias=False'})"
    module = w.module(op, w.hint(op, "norm"), constructor, {"weight": op.inputs[1], "bias": bias})
    w.assign(op, w.hint(op, "y"), f"self.{module}({w.value(op.inputs[0], False)})")


def instance_norm(w: Writer, op: Op) -> None:
    """InstanceNormalization, of which torch also makes a GroupNorm."""
    x, scale, bias = (w.value(name, False) for name in op.inputs)
    epsilon = op.attributes.get("epsilon", 1e-5)
    w.assign(op, w.hint(op, "y"), f"F.instance_norm({x}, weight={scale}, bias={bias}, eps={epsilon:.6g})")


WRITERS: dict[str, Write] = {
    **dict.fromkeys(UNARY, unary), **dict.fromkeys(BINARY, binary), **dict.fromkeys(REDUCE, reduction),
    **dict.fromkeys(("Max", "Min", "Sum"), pairwise), **dict.fromkeys(("Identity", "Dropout"), identity),
    **dict.fromkeys(("Celu", "Elu", "LeakyRelu", "HardSigmoid", "Gelu", "PRelu"), activation),
    **dict.fromkeys(("Gemm", "MatMul"), matrix),
    "Softplus": softplus, "Neg": negated, "ReduceL2": length, "Clip": clip, "Softmax": softmax, "LogSoftmax": softmax,
    "Cast": cast, "Where": where,
    "BatchNormalization": batch_norm, "LayerNormalization": layer_norm, "InstanceNormalization": instance_norm,
}  # fmt: skip
