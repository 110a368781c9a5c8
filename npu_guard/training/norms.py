"""BatchNorms that the exporter has folded into the operator before them, put back where channel i is still channel i.

In eval mode a folded convolution gives y = g (c - mean) / sqrt(var + eps) + b. A norm behind it with weight sqrt(g^2 + eps),
bias b, running mean b and running variance g^2 gives y again. In training, a batch with the statistics that were folded gives y
the mean b and the variance g^2, so that the norm gives what the original one does; channels that were added stay zero. The new
eps is the smallest that a channel asks for, eps g^2 / (var + eps): a larger one would shrink channels whose g is small.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from npu_guard.training.calls import Call, fused
from npu_guard.training.graph import Array, Graph, Op
from npu_guard.training.writer import Norm

LEAST = 1e-12
"""An eps below which no norm goes."""


def folded_norms(calls: Sequence[Call]) -> dict[str, tuple[Call, Call]]:
    """Pairs that the exporter has fused and whose second module is a BatchNorm, by the path of that."""
    return {after.path: (before, after) for before, after in fused(calls) if isinstance(after.module, _BatchNorm)}


def norm_of(graph: Graph, pairs: dict[str, tuple[Call, Call]]) -> Callable[[Op], Norm | None]:
    """Tells of an operator of the fixed model whether a folded norm goes behind it; each norm goes to one operator."""
    given: set[str] = set()

    def find(op: Op) -> Norm | None:
        pair = pairs.get(op.scope)
        if pair is None or op.scope in given or not keeps_channels(graph.values[op.outputs[0]], pair[1]):
            return None
        given.add(op.scope)
        return refilled(pair[1], graph.shape(op.outputs[0])[1])

    return find


def keeps_channels(value: Array, call: Call) -> bool:
    """Whether the first channels of the value are those that the norm gives on the example."""
    wanted = call.results[0].numpy()
    if value.ndim != wanted.ndim or value.ndim < 2 or value.shape[1] < wanted.shape[1]:
        return False
    first = value[:, : wanted.shape[1]]
    return first.shape == wanted.shape and bool(np.allclose(first, wanted, rtol=1e-3, atol=1e-5 * (1 + np.abs(wanted).max())))


def refilled(call: Call, channels: int) -> Norm | None:
    """The norm for so many channels; None where it keeps no running statistics."""
    old = call.module
    if not isinstance(old, _BatchNorm) or old.running_mean is None or old.running_var is None:
        return None
    more = channels - old.num_features
    ones, zeros = np.ones(old.num_features, np.float32), np.zeros(old.num_features, np.float32)
    gain = np.pad(ones if old.weight is None else old.weight.detach().numpy(), (0, more), constant_values=1.0)
    bias = np.pad(zeros if old.bias is None else old.bias.detach().numpy(), (0, more))
    variance = (gain.astype(np.float64) ** 2).astype(np.float32)
    spread = np.pad(old.running_var.detach().numpy(), (0, more), constant_values=1.0)
    epsilon = max(LEAST, float(f"{old.eps * float((variance / (spread + old.eps)).min()):.3g}"))
    state = {
        "weight": np.sqrt(variance + np.float32(epsilon)),
        "bias": bias,
        "running_mean": bias.copy(),
        "running_var": variance,
    }
    name = re.sub(r"\W", "_", call.path.split(".")[-1])
    options = f", eps={epsilon}"
    if old.momentum != 0.1:
        options += f", momentum={old.momentum}"
    return Norm(call.path, "norm" if name.isdigit() else name, f"nn.{type(old).__name__}({channels}{options})", state)


def is_leaf(module: nn.Module) -> bool:
    """Whether a module has no others inside."""
    return not any(True for _ in module.children())
