"""Blocks in a network whose weights are others than those that the blocks were made of: half of it is one network, half another.

That is as it should be where a checkpoint is loaded next, as by a constructor that puts blocks in. So it is said when the network
runs, once.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn

from npu_guard.training.files import Block, Manifest
from npu_guard.training.graph import below
from npu_guard.training.norms import COUNTER

NOTHING = 3e-30
"""What counts as zero: where an export needs a bias, zeros of it are a little above (see landing.py)."""


def digest_of(module: nn.Module, keeps: tuple[str, ...] = ()) -> str:
    """Of the weights and statistics of a module without the children that stay; "" where they cannot be read."""
    found = blake2b(digest_size=16)
    tensors: dict[str, Tensor] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name in sorted(tensors):
        if name.endswith(COUNTER) or any(below(name, kept) for kept in keeps):
            continue
        tensor = tensors[name].detach()
        if tensor.is_meta:
            return ""
        if tensor.is_floating_point():
            tensor = torch.where(tensor.abs() <= NOTHING, torch.zeros_like(tensor), tensor)
        array = tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + array.tobytes())
    return found.hexdigest()


def others_in(network: nn.Module, manifest: Manifest) -> list[str]:
    """Paths of modules, before they are replaced, whose weights are not those that their block was made of."""
    return [block.path for block in manifest.blocks if block.weights and _is_other(network.get_submodule(block.path), block)]


def _is_other(module: nn.Module, block: Block) -> bool:
    kinds = {t.dtype for t in module.parameters() if t.is_floating_point()}
    return kinds <= {torch.float32} and digest_of(module, block.keeps) not in ("", block.weights)


class MixedGuard:
    """A hook before a network's forward, which warns of blocks with weights of another network, and one before it loads some."""

    def __init__(self, paths: list[str], manifest: Manifest, folder: str) -> None:
        self.paths, self.folder, self.is_told = paths, folder, False
        self.names = [(f"{b.path}." if b.path else "") + t.name for b in manifest.blocks if b.path in paths for t in b.tensors]

    def __getattr__(self, name: str) -> Any:
        """For torch.jit.script, which asks a hook for its name first: why that cannot compile it."""
        if name == "__name__":
            raise AttributeError(f"torch.jit.script takes no network as long as {self._said()}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __call__(self, module: nn.Module, _args: Any) -> None:
        """As torch calls a hook before a forward."""
        if not self.is_told and not torch.compiler.is_compiling():
            self.is_told = True
            warnings.warn(self._said(), stacklevel=2)

    def loads(self, module: nn.Module, state: Mapping[str, Any], prefix: str, *_others: Any) -> None:
        """As torch calls a hook before `load_state_dict`, which goes through these hooks: the blocks have what is loaded now."""
        if all(prefix + name in state for name in self.names):
            _remove(module._forward_pre_hooks)

    def _said(self) -> str:
        path = self.paths[0] or "the network"
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return (
            f"the block at {path}{more} has the weights of {self.folder}, and the network had others there: load "
            f'npu_guard.torch.convert(state_dict, model, "{self.folder}") of yours, or write the blocks again'
        )


def guard(network: nn.Module, paths: list[str], manifest: Manifest, folder: str) -> None:
    """Let the network say that it is two halves, where it is."""
    if paths:
        hook = MixedGuard(paths, manifest, folder)
        network.register_forward_pre_hook(hook)
        network.register_load_state_dict_pre_hook(hook.loads)  # type: ignore[no-untyped-call]  # of torch


def unguard(model: nn.Module) -> None:
    """Take the hooks out again, those of other owners stay."""
    for module in model.modules():
        _remove(module._forward_pre_hooks)
        _remove(module._load_state_dict_pre_hooks)


def _remove(hooks: dict[int, Any]) -> None:
    for key in [key for key, held in hooks.items() if _is_ours(getattr(held, "hook", held))]:
        del hooks[key]


def _is_ours(hook: Any) -> bool:
    return isinstance(hook, MixedGuard) or isinstance(getattr(hook, "__self__", None), MixedGuard)
