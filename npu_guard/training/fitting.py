"""Whether a network is the one that blocks were written for: shapes and settings of all that is inside of the replaced modules.

A block has its own weights and computes with the settings of the module that it was written for. Another dilation, kernel or
number of channels at its place is another network, which `convert` refuses as the same steps give something else there.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

TORCH = "torch.nn."
TRAINING_ONLY = frozenset(("p", "momentum", "inplace", "dropout"))
"""Settings of torch's modules that change nothing in eval mode: a network may be trained with others."""
CLASS, SHAPE = "class", "shape "


def described(module: nn.Module) -> dict[str, dict[str, str]]:
    """By path below the module, "" for itself: class, settings, and shapes of the module's own tensors."""
    return {
        path: {CLASS: _class_of(inner), **dict(_settings(inner)), **dict(_shapes(inner))}
        for path, inner in module.named_modules()
        if "Drop" not in type(inner).__name__
    }


def difference(wanted: dict[str, dict[str, str]], module: nn.Module, where: str) -> str:
    """The first thing by which a module is another one than was described, as a sentence; "" where nothing is.

    What only one of both has is a difference where it is a module or a tensor: versions of torch differ in settings.
    """
    here = described(module)
    for path in (*wanted, *here):
        place = ".".join(part for part in (where, path) if part) or "the network"
        if path not in here:
            return f"there is no {place}, and the block is for a module that has it"
        if path not in wanted:
            return f"there is {place}, and the block is for a module without it"
        mine, its = here[path], wanted[path]
        for name in (*its, *mine):
            given, needed = mine.get(name, "none"), its.get(name, "none")
            both = name in mine and name in its
            if given != needed and (both or (given + needed).startswith((SHAPE, f"none{SHAPE}"))):
                what = "" if name == CLASS else f"{name} of "
                given, needed = given.removeprefix(SHAPE), needed.removeprefix(SHAPE)
                return f"{what}{place} is {given}, and the block is for {needed}"
    return ""


def _class_of(module: nn.Module) -> str:
    """The class's name, one for all of torch's BatchNorms: they are exchanged for SyncBatchNorm."""
    torch_s = type(module).__module__.startswith(TORCH)
    return "BatchNorm" if torch_s and isinstance(module, _BatchNorm) else type(module).__name__


def _settings(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Attributes that have the name of an argument of the constructor, as Python writes them.

    Of the user's own modules with others inside only whole numbers: flags and rates there are often about training.
    """
    values = vars(module)
    for kind in type(module).__mro__:
        if "__init__" not in vars(kind) or kind is nn.Module or not issubclass(kind, nn.Module):
            continue
        simple = kind.__module__.startswith(TORCH) or not module._modules
        for name in inspect.signature(kind.__init__).parameters:
            if name in values and name not in TRAINING_ONLY and _is_simple(values[name], simple):
                value = values[name]
                yield name, repr(tuple(value) if isinstance(value, list) else value)


def _is_simple(value: Any, words: bool) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_simple(v, words) for v in value)
    return type(value) is int or (words and (value is None or type(value) in (bool, float, str)))


def _shapes(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Of what is in the module's own part of a state_dict."""
    tensors: dict[str, Tensor | None] = {**module._parameters, **module._buffers}
    for name, tensor in tensors.items():
        if tensor is not None and name not in module._non_persistent_buffers_set and not is_lazy(tensor):
            yield name, f"{SHAPE}{tuple(tensor.shape)}"
