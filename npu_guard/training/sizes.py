"""Blocks that hold for one resolution refuse others, instead of computing something else there."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from npu_guard.training.files import Manifest

SPACE = 2
"""Axes before those of the resolution: batch and channels."""


class SizeGuard:
    """A hook before a network's forward. Raises ValueError where an input has another resolution than the blocks are for."""

    def __init__(self, manifest: Manifest, folder: str) -> None:
        self.sizes = tuple(entry.shape[SPACE:] for entry in manifest.inputs)
        self.folder = folder

    def __getattr__(self, name: str) -> Any:
        """For torch.jit.script, which asks a hook for its name first: why that cannot compile it."""
        if name == "__name__":
            raise AttributeError(
                "torch.jit.script takes no network whose blocks are for one resolution: its hook that refuses others is no "
                "function; torch.jit.trace takes it"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """As torch calls a hook that was registered with `with_kwargs=True`."""
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        if len(given) != len(self.sizes):
            return  # inputs in lists or with defaults, which nothing here can pair
        for value, wanted in zip(given, self.sizes, strict=True):
            found = _size(value)
            if wanted and found != wanted:
                raise ValueError(
                    f"the blocks of {self.folder} are for {_said(wanted)}, and the input is {_said(found)}; write them again "
                    "with --input-shape, or take them out with npu_guard.torch.remove(model)"
                )


def _size(value: Tensor) -> tuple[int, ...]:
    """As numbers also while torch.jit.trace runs, which has tensors there and warns of each that is read."""
    if not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]  # torch says neither of its own function
        return tuple(value.shape[SPACE:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(int(extent) for extent in value.shape[SPACE:])


def guard(network: nn.Module, manifest: Manifest, folder: str) -> None:
    """Let the network refuse other resolutions, where its blocks do not hold for them."""
    if manifest.resolution == "fixed":
        network.register_forward_pre_hook(SizeGuard(manifest, folder), with_kwargs=True)


def unguard(model: nn.Module) -> None:
    """Take the hooks out again, those of other owners stay."""
    for module in model.modules():
        for key in [key for key, hook in module._forward_pre_hooks.items() if isinstance(hook, SizeGuard)]:
            del module._forward_pre_hooks[key]
            module._forward_pre_hooks_with_kwargs.pop(key, None)


def _said(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))
