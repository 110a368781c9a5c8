"""A network with blocks refuses weights of the network that it was, instead of a list of names that are missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from npu_guard.base.errors import UsageError
from npu_guard.training.files import Manifest


class CheckpointGuard:
    """A hook before `load_state_dict`. Raises UsageError where weights are those of modules that blocks took the place of.

    Weights of the network with its blocks, whole or in part, and those of other networks are left to torch.
    """

    def __init__(self, manifest: Manifest, folder: str) -> None:
        tensors = [(f"{b.path}." if b.path else "", t) for b in manifest.blocks for t in b.tensors]
        self.blocks = {path + t.name: tuple(t.shape) for path, t in tensors}
        self.sources = sorted({source for _, t in tensors for source in t.sources})
        self.folder = folder

    def __call__(self, module: nn.Module, state: Mapping[str, Any], prefix: str, *_others: Any) -> None:
        """As torch calls a hook that was registered with `register_load_state_dict_pre_hook`."""
        given = {name: tuple(t.shape) for name, t in state.items() if isinstance(t, Tensor)}
        here = {name: tuple(t.shape) for name, t in module.state_dict().items()}
        old = [s for s in self.sources if prefix + s in given and here.get(s) != given[prefix + s]]
        if old and any(given.get(prefix + name) != shape for name, shape in self.blocks.items()):
            raise UsageError(
                f"the checkpoint is of the network without the blocks of {self.folder}: it has {prefix + old[0]}; load "
                f'npu_guard.torch.convert(state_dict, model, "{self.folder}"), and make the optimizer anew'
            )


def guard(network: nn.Module, manifest: Manifest, folder: str) -> None:
    """Let the network say what to do with weights of the old one."""
    network.register_load_state_dict_pre_hook(CheckpointGuard(manifest, folder))  # type: ignore[no-untyped-call]  # of torch


def unguard(model: nn.Module) -> None:
    """Take the hooks out again, those of other owners stay."""
    for module in model.modules():
        hooks = module._load_state_dict_pre_hooks
        for key in [key for key, held in hooks.items() if isinstance(getattr(held, "hook", held), CheckpointGuard)]:
            del hooks[key]
