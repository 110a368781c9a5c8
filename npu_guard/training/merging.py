"""What is exported in the place of a network with blocks: a copy whose norms behind sums of convolutions are in their weights.

In training such a norm has to go over the sum. Torch's exporter does not fold it there, so an export would have an operator more
than the fixed file, and other roundings. The copy has exactly what the exporter makes of one convolution and its norm.

Nothing is merged where the modules are not those of the blocks any more, such as convolutions that compute their weights, or are
watched by hooks: the norm is exported as an operator there, which is the same function.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.parametrize import is_parametrized

from npu_guard.project.export import EXPORT_FORM
from npu_guard.training import compiled
from npu_guard.training.files import Merge
from npu_guard.training.graph import Array
from npu_guard.training.writer import FRAMES

CODE = "npu_guard_blocks_"
WRITTEN = (FRAMES, "Masked")
"""Classes of blocks.py that are norms or convolutions; see layout.py."""
TYPES = (torch.float16, torch.float32, torch.float64)


class Merging:
    """The form in which `npu_guard.export` writes a network."""

    def __init__(self, merges: Sequence[Merge]) -> None:
        self.merges = tuple(merges)

    def __call__(self, network: nn.Module) -> nn.Module:
        """A copy with the norms in the weights; the network itself where it holds what cannot be copied, and a warning."""
        try:
            made = copy.deepcopy(network)
        except Exception as error:  # whatever the user's modules raise, as for a result that they keep
            warnings.warn(
                f"{type(network).__name__} cannot be copied ({type(error).__name__}: {str(error)[:100]}), so that norms behind "
                "sums of convolutions stay operators in the export",
                stacklevel=2,
            )
            return network
        del made.__dict__[EXPORT_FORM]
        compiled.unwrap(made)
        for one in self.merges:
            merge(made, one)
        return made


def let_merge(network: nn.Module, merges: Sequence[Merge]) -> None:
    """Let the network be exported with these norms in the weights, and with those of blocks that it has already."""
    before = network.__dict__.get(EXPORT_FORM)
    known = before.merges if isinstance(before, Merging) else ()
    if merges:
        network.__dict__[EXPORT_FORM] = Merging([*known, *merges])


def merge(network: nn.Module, one: Merge) -> bool:
    """Put a norm into the weights of the convolutions before it, in place; False, and nothing done, where that cannot be."""
    try:
        norm = network.get_submodule(one.norm)
        convolutions = {path: network.get_submodule(path) for path in one.weights}
    except AttributeError:
        return False
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None or not all(map(is_plain, (norm, *convolutions.values()))):
        return False
    weight, bias, mean, variance = (array_of(t) for t in tensors_of(norm))
    if any(_channels_of(module) != len(mean) for module in convolutions.values()):
        return False
    scale = scale_of(weight, variance, norm.eps)
    for path, module in convolutions.items():
        assert isinstance(module, (_ConvNd, nn.Linear))
        old = module.weight
        groups = module.groups if isinstance(module, _ConvTransposeNd) else 0
        _put(module, "weight", merged_weight(array_of(old), scale, groups), old)
        if path == one.bias:
            own = np.zeros_like(mean) if module.bias is None else array_of(module.bias)
            _put(module, "bias", merged_bias(own, scale, bias, mean), old)
    network.set_submodule(one.norm, nn.Identity())
    return True


def scale_of(weight: Array, variance: Array, epsilon: float) -> Array:
    """What the norm multiplies each channel with. The arithmetic is that of torch's exporter, to the bit."""
    return np.asarray(weight / np.sqrt(variance + epsilon))


def merged_weight(weight: Array, scale: Array, groups: int = 0) -> Array:
    """The weight of a convolution or of a Linear with the scale of its output channels; `groups` of a transposed one, else 0."""
    if not groups:
        return np.asarray(weight * scale.reshape(-1, *[1] * (weight.ndim - 1)))
    by_group = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    return np.asarray((by_group * scale.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))).reshape(weight.shape))


def merged_bias(own: Array, scale: Array, bias: Array, mean: Array) -> Array:
    """The bias of the convolution, and what the norm adds."""
    return np.asarray((own - mean) * scale + bias)


def tensors_of(norm: _BatchNorm) -> list[Tensor]:
    """Weight, bias, mean and variance for each channel of what it is given: those of a norm over frames for all frames."""
    frames, more = getattr(norm, "frames", 1), getattr(norm, "more", 0)
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    weight = torch.ones_like(mean) if norm.weight is None else norm.weight
    bias = torch.zeros_like(mean) if norm.bias is None else norm.bias
    pairs = ((weight, 1.0), (bias, 0.0), (mean, 0.0), (variance, 1.0))
    return [nn.functional.pad(t.repeat(frames), (0, more), value=filler) for t, filler in pairs]


def array_of(tensor: Tensor) -> Array:
    """Its elements."""
    return np.asarray(tensor.detach().cpu().numpy())


def is_plain(module: nn.Module) -> bool:
    """Whether it does what torch's own or a block's does: nobody looks at what it takes or gives, or computes its tensors."""
    kind = type(module)
    own = kind.__module__.startswith("torch.nn.") or (kind.__module__.startswith(CODE) and kind.__name__.startswith(WRITTEN))
    return own and not module._forward_hooks and not module._forward_pre_hooks and not is_parametrized(module)


def _channels_of(module: nn.Module) -> int:
    """Those that a convolution or a Linear gives; 0 of other modules, and where the weight is of a type that numpy lacks."""
    if not isinstance(module, (_ConvNd, nn.Linear)) or module.weight.dtype not in TYPES:
        return 0
    return module.out_features if isinstance(module, nn.Linear) else module.out_channels


def _put(module: nn.Module, name: str, array: Array, like: Tensor) -> None:
    """A parameter of its own: another module may hold the old one."""
    module.register_parameter(name, nn.Parameter(torch.from_numpy(array).to(like.device, like.dtype), like.requires_grad))
