"""What a checkpoint holds: weights of the old network, under a prefix perhaps, or something else, which is told from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from npu_guard.base.errors import UsageError
from npu_guard.training.files import Manifest

SHOWN = 2
"""Names that a message gives."""


def own_weights(state: Any, network: nn.Module, manifest: Manifest) -> tuple[str, dict[str, Tensor]]:
    """The prefix of its names, such as `module.` of a wrapper, and the weights of the old network by their names in it.

    Names without the prefix are of others, such as the `n_averaged` of a moving average.

    Raises UsageError, which says what the checkpoint holds instead and what to give.
    """
    expect_mapping(state)
    wanted = network.state_dict()
    _expect_weights(state, wanted)
    prefix = _prefix(state, wanted)
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    _expect_old(own, wanted, manifest)
    missing, more = [n for n in wanted if n not in own], [n for n in own if n not in wanted]
    if missing and len(missing) < len(wanted):
        raise UsageError(
            f"the checkpoint lacks {len(missing)} of {len(wanted)} weights ({_said(missing)}); load it into the old network with "
            "strict=False, and convert the state_dict of that"
        )
    if missing or more:
        why = f"its {_said(more)} is no weight of this one" if more else "it is empty"
        raise UsageError(f"the checkpoint is of another network: {why}")
    for name, tensor in own.items():
        if tensor.shape != wanted[name].shape:
            raise UsageError(
                f"the checkpoint is of another network: {name} has shape {tuple(tensor.shape)} in it, "
                f"and {tuple(wanted[name].shape)} here"
            )
    return prefix, own


def expect_mapping(state: Any) -> None:
    """Refuse what is no state_dict. Raises UsageError."""
    if not isinstance(state, Mapping):
        raise UsageError(
            f"convert takes a state_dict, and this is a {type(state).__name__}; "
            "torch.load(path, weights_only=True) reads a file, model.state_dict() is that of a network"
        )


def _expect_weights(state: Mapping[Any, Any], wanted: Mapping[str, Tensor]) -> None:
    if "param_groups" in state:
        raise UsageError(
            "this is the state of an optimizer, and the weights that it is about are others with blocks; "
            "make the optimizer anew behind npu_guard.torch.apply"
        )
    inner = [k for k, v in state.items() if isinstance(v, Mapping) and any(isinstance(t, Tensor) for t in v.values())]
    if inner and not wanted.keys() & state.keys():
        raise UsageError(f"the checkpoint holds weights under {inner[0]!r}; convert checkpoint[{inner[0]!r}]")
    odd = [k for k, v in state.items() if not isinstance(k, str) or not isinstance(v, Tensor)]
    if odd:
        raise UsageError(f"the checkpoint has {odd[0]!r}, which is no tensor; convert the state_dict alone")


def _prefix(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """What stands before its names: as of DataParallel, torch.compile, or a class that holds the network and others."""
    found = {name[: -len(own)] for own in wanted for name in state if name == own or name.endswith(f".{own}")}
    whole = [p for p in found if all(p + own in state for own in wanted)]
    if len(whole) > 1:
        under = " and ".join(f"under {p!r}" if p else "at its top" for p in sorted(whole))
        raise UsageError(f"the checkpoint holds this network more than once, {under}; convert the weights of one")
    if whole:
        return whole[0]
    shared = [p for p in found if all(name.startswith(p) for name in state)]
    return max(shared, key=lambda p: (sum(p + own in state for own in wanted), -len(p)), default="")


def _expect_old(own: Mapping[str, Tensor], wanted: Mapping[str, Tensor], manifest: Manifest) -> None:
    """Refuse what has the blocks in it: their own names, or their shapes at names that stay."""
    told = {(f"{b.path}." if b.path else "") + t.name: t.shape for b in manifest.blocks for t in b.tensors}
    changed = {n: s for n, s in told.items() if n not in wanted or tuple(wanted[n].shape) != tuple(s)}
    if changed and all(n in own and tuple(own[n].shape) == tuple(s) for n, s in changed.items()):
        raise UsageError(
            "the checkpoint is of the network with blocks already, and there is no way back from their weights; "
            "load it behind npu_guard.torch.apply"
        )


def _said(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
