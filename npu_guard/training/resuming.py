"""The file by which an interrupted healing goes on: weights of blocks that are done, with their figures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from npu_guard.base.errors import UsageError


def save(network: nn.Module, told: Sequence[Mapping[str, Any]], keep: Path, seed: int) -> None:
    """Write the blocks that are told, each with its `path`; the file is whole at any moment."""
    from safetensors.torch import save_file

    tensors = {
        f"{entry['path']}:{k}": v.contiguous().clone()
        for entry in told
        for k, v in network.get_submodule(entry["path"]).state_dict().items()
    }
    unfinished = keep.with_name(f"{keep.name}.part")
    save_file(tensors, unfinished, metadata={"blocks": json.dumps(told), "seed": str(seed)})
    os.replace(unfinished, keep)


def resumed(network: nn.Module, keep: Path | None, seed: int) -> dict[str, dict[str, Any]]:
    """Figures by path of blocks that an earlier run has healed, whose weights are put back; all of them or none.

    Raises UsageError where the file is none of a healing, or of another seed or network.
    """
    if keep is None or not os.path.isfile(keep):
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(keep, "pt") as file:
            meta = file.metadata() or {}
            told = {entry["path"]: entry for entry in json.loads(meta["blocks"])}
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UsageError(f"{keep}: is no file of an interrupted healing ({error}); name another file, or remove it") from error
    if meta.get("seed") != str(seed):
        raise UsageError(f"{keep}: is of a run with seed {meta.get('seed')}; name another file, or remove it")
    states = {p: {k.removeprefix(f"{p}:"): t for k, t in tensors.items() if k.startswith(f"{p}:")} for p in told}
    own = dict(network.named_modules())
    for path, state in states.items():
        wanted = own[path].state_dict() if path in own else {}
        if path not in own or {k: t.shape for k, t in wanted.items()} != {k: t.shape for k, t in state.items()}:
            raise UsageError(f"{keep}: is of another network, whose block {path!r} is not here; name another file, or remove it")
    for path, state in states.items():
        own[path].load_state_dict(state)
    return told
