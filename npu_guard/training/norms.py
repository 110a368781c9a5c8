"""BatchNorms that the exporter has folded into the operator before them, put back where channel i is still channel i.

Where the operator has the weights of before the fold again (see unfolding.py), the norm goes back as it is. Channels that were
added stay zero, also where they lie between others, as behind a Concat of two padded maps.

Elsewhere the norm is one behind folded weights. These give y = g (c - mean) / sqrt(var + eps) + b in eval mode. A norm behind
them with weight sqrt(g^2 + eps), bias b, running mean b and running variance g^2 gives y again. In training, a batch with the
statistics that were folded gives y the mean b and the variance g^2, so that the norm gives what the original one does. The new
eps is the smallest that a channel asks for, eps g^2 / (var + eps): a larger one would shrink channels whose g is small.

Where frames lie behind each other in the channels, channel d C + c being channel c of frame d, the norm goes over all frames of a
channel together, as BatchNorm3d does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from npu_guard.rewriting import roles
from npu_guard.rewriting.roles import Role
from npu_guard.training.calls import Call
from npu_guard.training.channels import live_channels
from npu_guard.training.graph import Array, Graph, Op
from npu_guard.training.sums import Sum
from npu_guard.training.writer import FRAMES, Norm, Parameter

NEUTRAL = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
"""Tensors of a norm, and what they are where it passes a value on."""
COUNTER = "num_batches_tracked"
LEAST = 1e-12
"""An eps below which no norm goes."""
MOST_STEPS = 64
"""Numbers that are tried for a variance; about one in eight does not do."""


@dataclass(slots=True)
class Folded:
    """Norms that the exporter has folded, by path, each with the call of the module before it and its own.

    `whole` are those before which the fixed model has the weights of before the fold, each with the value behind which it goes.
    """

    pairs: dict[str, tuple[Call, Call]]
    whole: dict[str, str] = field(default_factory=dict)
    sums: dict[str, Sum] = field(default_factory=dict)
    """Of those, the ones behind a sum of convolutions."""

    def norm(self, path: str, shape: Sequence[int], frames: int, at: Array) -> Norm | None:
        """The one at the path, for a value of that shape of which it has the channels `at`; None where it has no statistics."""
        call = self.pairs[path][1]
        return kept(call, shape, frames, at) if path in self.whole else refilled(call, shape, frames, at)

    def stays(self, path: str, shape: Sequence[int], at: Array) -> bool:
        """Whether the module that is there goes on being the norm: for as many channels, and a value of as many axes."""
        given = self.pairs[path][1].results[0]
        return path in self.whole and shape[1] == len(at) and len(shape) == given.ndim


def folded_norms(pairs: Sequence[tuple[Call, Call]]) -> Folded:
    """Of pairs that the exporter has fused, those whose second module is a BatchNorm."""
    return Folded({after.path: (before, after) for before, after in pairs if isinstance(after.module, _BatchNorm)})


def norm_of(graph: Graph, folded: Folded, calls: Sequence[Call] = ()) -> Callable[[Op], Norm | None]:
    """Tells of an operator of the fixed model which norm goes behind it, as it was folded, or in its place; each goes to one.

    In the place of a BatchNormalization goes one over frames, where it is one; `calls` are those of the norms.
    """
    given: set[str] = set()
    pairs = folded.pairs
    alone = {c.path: c for c in calls if isinstance(c.module, _BatchNorm) and c.path not in pairs and len(c.results) == 1}

    def find(op: Op) -> Norm | None:
        if op.type == "BatchNormalization" and op.scope in alone and op.scope not in given:
            call = alone[op.scope]
            at = channels_of(graph, op, call.module)
            frames = frames_of(graph.values[op.outputs[0]], call, at)
            given.add(op.scope)
            return kept(call, graph.shape(op.outputs[0]), frames, at) if frames > 1 or _same(graph, op, call.module) else None
        if op.scope not in pairs or op.scope in given:
            return None
        at = channels_of(graph, op, pairs[op.scope][1].module)
        frames = frames_of(graph.values[op.outputs[0]], pairs[op.scope][1], at)
        if not frames:
            return None
        given.add(op.scope)
        return folded.norm(op.scope, graph.shape(op.outputs[0]), frames, at)

    return find


def channels_of(graph: Graph, op: Op, norm: nn.Module) -> Array:
    """Which channels of an operator's output are those of the norm: the others are of filters that depend on no weight.

    The first ones, where the weights do not tell as many.
    """
    count: int = norm.num_features if isinstance(norm, _BatchNorm) else 0
    live = live_channels(graph, op.outputs[0])
    return np.flatnonzero(live) if live is not None and live.sum() == count else np.arange(count)


def frames_of(value: Array, call: Call, at: Array) -> int:
    """Frames that the value has of what the norm gives on the example, 1 in the channels `at`; 0 where it has something else.

    More frames lie in its first channels. The positions of a channel may be in any order, frames among them: statistics go over
    all of them: tokens `[B, C, H W]` that are a map `[B, C, H, W]` now, or a map whose patches lie in its rows.
    """
    wanted = normalized(call)
    if value.ndim > 1 and len(at) and at[-1] >= len(at) and at[-1] < value.shape[1]:
        value = value[:, at]
    if value.ndim < 2 or wanted.ndim < 2 or value.shape[0] != wanted.shape[0] or 0 in (*value.shape, *wanted.shape):
        return 0
    batch, channels = wanted.shape[:2]
    positions, all_positions = math.prod(value.shape[2:]), math.prod(wanted.shape[2:])
    frames = all_positions // positions
    if frames * positions != all_positions or value.shape[1] < frames * channels:
        return 0
    first = value.reshape(batch, -1, positions)[:, : frames * channels]
    together = first.reshape(batch, frames, channels, positions).swapaxes(1, 2).reshape(batch, channels, all_positions)
    mine, its = (np.sort(values.reshape(batch, channels, -1), 2) for values in (together, wanted))
    return frames if np.allclose(mine, its, rtol=1e-3, atol=1e-5 * (1 + np.abs(wanted).max())) else 0


def normalized(call: Call) -> Array:
    """What the norm gives in eval mode: not what its module gives where that has an activation behind it, as a subclass may."""
    old, given = call.module, call.arguments[0]
    if not isinstance(old, _BatchNorm) or old.running_mean is None or old.running_var is None:
        return call.results[0].numpy()
    with torch.no_grad():
        made = functional.batch_norm(given, old.running_mean, old.running_var, old.weight, old.bias, eps=old.eps)
    return made.numpy()


def kept(call: Call, shape: Sequence[int], frames: int, at: Array) -> Norm | None:
    """The norm as it is, for a value of that shape of which it has the channels `at`; None where it keeps no statistics."""
    state = state_of(call.module, shape, frames, at)
    return None if state is None else _norm(call, shape, frames, epsilon_of(call), state)


def state_of(old: nn.Module, shape: Sequence[int], frames: int, at: Array) -> dict[str, Array] | None:
    """The tensors of a norm in the channels `at`, over several frames all of them; others pass a value on, but for its eps."""
    if not isinstance(old, _BatchNorm) or old.running_mean is None or old.running_var is None:
        return None
    features = old.num_features if frames > 1 else shape[1]
    at = np.arange(features) if frames > 1 else at
    state = {}
    for name, filler in NEUTRAL.items():
        state[name] = np.full(features, filler, np.float32)
        if (tensor := getattr(old, name)) is not None:
            state[name][at] = tensor.detach().numpy()
    return state | counted(old)


def refilled(call: Call, shape: Sequence[int], frames: int, at: Array) -> Norm | None:
    """The norm behind folded weights, likewise."""
    state = state_of(call.module, shape, frames, at)
    if state is None:
        return None
    bias, old = state["bias"], epsilon_of(call)
    variance = (state["weight"].astype(np.float64) ** 2).astype(np.float32)
    epsilon = max(LEAST, float(f"{old * float((variance / (state['running_var'] + old)).min()):.3g}"))
    variance = invertible(variance, np.float32(epsilon))
    state |= {"weight": np.sqrt(variance + np.float32(epsilon)), "running_mean": bias.copy(), "running_var": variance}
    return _norm(call, shape, frames, epsilon, state)


def epsilon_of(call: Call) -> float:
    """What the norm adds to the variance."""
    assert isinstance(call.module, _BatchNorm)
    return call.module.eps


def invertible(variance: Array, epsilon: np.float32) -> Array:
    """Each variance, some roundings above where it has to be so that 1 / s is divided out by s = sqrt(variance + epsilon).

    Runtimes multiply with the reciprocal of s. Otherwise a norm that stays an operator, as behind a sum, changes the last bit.
    """
    found = variance.copy()
    for steps in range(MOST_STEPS):
        root = np.sqrt(found + epsilon)
        open_ones = root * (np.float32(1) / root) != 1
        if not open_ones.any():
            break
        found = np.where(open_ones, variance + np.float32(steps + 1) * np.spacing(variance + epsilon), found)
    return found


def counted(norm: _BatchNorm) -> dict[str, Array]:
    """How many batches the statistics are of, which is the rate at which they move where a norm has no momentum."""
    batches = norm.num_batches_tracked
    return {} if batches is None else {COUNTER: batches.detach().numpy()}


def _same(graph: Graph, op: Op, norm: nn.Module) -> bool:
    """Whether an operator has the tensors of the norm as they are."""
    tensors = (getattr(norm, name) for name in ("weight", "bias", "running_mean", "running_var"))
    pairs = zip(op.inputs[1:5], tensors, strict=True)
    return all(i in graph.constants and t is not None and np.array_equal(graph.array(i), t.detach().numpy()) for i, t in pairs)


def _norm(call: Call, shape: Sequence[int], frames: int, epsilon: float, state: Mapping[str, Array]) -> Norm:
    features, momentum = len(state["weight"]), call.module.momentum
    name = re.sub(r"\W", "_", call.path.split(".")[-1])
    options = f", eps={epsilon}" + (f", momentum={momentum}" if momentum != 0.1 else "")
    kind = f"nn.BatchNorm{max(1, len(shape) - 2)}d"
    if frames > 1:
        more = shape[1] - frames * features
        kind, options = FRAMES, f", {frames}{f', {more}' if more else ''}{options}"
    tensors = {part: _parameter(call.path, part, array) for part, array in state.items()}
    return Norm(
        call.path, "norm" if name.isdigit() else name, f"{kind}({features}{options})", tensors, FRAMES if frames > 1 else ""
    )


def _parameter(path: str, part: str, array: Array) -> Parameter:
    """A tensor of a norm that is written anew, from that at the path: its weights are trained, its statistics are not."""
    trained = part in ("weight", "bias")
    return Parameter(array, Role(roles.TRAINED, (f"{path}.{part}",)) if trained else Role(roles.FIXED), trained)


def is_leaf(module: nn.Module) -> bool:
    """Whether a module has no others inside."""
    return not any(True for _ in module.children())
