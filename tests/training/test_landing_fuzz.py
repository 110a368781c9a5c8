"""The fuzz of landings finds a block with one wrong weight, and what is left behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import npu_guard.torch
from npu_guard.training import files

sys.path.insert(0, str(Path(__file__).parents[2] / "fuzz"))

import landings
import torch_networks

SEED, DEVICE = 1, "aimotive-aiware"


def test_a_wrong_weight_and_a_module_that_stays_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = npu_guard.torch.land(torch_networks.network(SEED), torch_networks.inputs(SEED), tmp_path / "npu", profile=DEVICE)
    landings.examine(SEED, done, DEVICE)
    file = tmp_path / "npu" / "weights.safetensors"
    weights = load_file(file)
    name = next(n for n, t in weights.items() if t.is_floating_point() and t.dim() == 4)
    with monkeypatch.context() as other:
        other.setattr(npu_guard.torch, "remove", lambda model: model)
        with pytest.raises(landings.Wrong, match="remove leaves another state_dict"):
            landings.examine(SEED, done, DEVICE)
    save_file(weights | {name: weights[name] * 1.01}, file)
    files.write_manifest(done.manifest, file.parent)
    with pytest.raises(landings.Wrong, match="differs by"):
        landings.examine(SEED, done, DEVICE)


def test_networks_are_those_of_their_seed() -> None:
    first, again, other = torch_networks.network(5), torch_networks.network(5), torch_networks.network(5, weights=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    kinds = {type(m).__name__ for seed in range(40) for m in torch_networks.network(seed).modules()}
    assert {"ECA", "SE", "Attention", "Tokens", "Spatial", "Ghost", "Shuffle", "Split", "Giver", "Residual"} <= kinds
    assert isinstance(first, nn.Module)
