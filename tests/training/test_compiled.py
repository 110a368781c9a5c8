"""Modules inside of a network that torch.compile holds are found, replaced and named as others, and stay held."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import npu_guard
import npu_guard.torch
from npu_guard.training.compiled import HELD, held_name, plain_names
from npu_guard.training.steps import Landed

HOLDS = ("tokens", "eca.conv", "fc", "stem")
"""A module that becomes a block, a child of one that does, a leaf, and a module that stays."""


def held(network: nn.Module) -> nn.Module:
    for path in HOLDS:
        module: Any = torch.compile(network.get_submodule(path), backend="eager")
        network.get_submodule(path.rpartition(".")[0]).register_module(path.rpartition(".")[2], module)
    return network


def holds(network: nn.Module) -> list[str]:
    return sorted(path for path, module in network.named_modules() if type(module).__name__ == "OptimizedModule")


def outputs(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = network.eval()(x)
    return result


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_blocks_go_into_what_is_held_and_come_out_again(landed: Landed, nets: ModuleType, x: Tensor) -> None:
    network, wanted = held(nets.build()), outputs(nets.build(), x)
    before = dict(network.named_modules())
    npu_guard.torch.apply(network, landed.folder)
    assert holds(network) == ["fc", "stem", "tokens"]
    assert network.get_submodule("tokens") is before["tokens"]
    assert type(network.get_submodule(f"tokens.{HELD}")).__name__ != "TokenBlock"
    torch.testing.assert_close(outputs(network, x), wanted, rtol=1e-4, atol=1e-5)
    npu_guard.torch.remove(network)
    assert {path: type(m) for path, m in network.named_modules()} == {path: type(m) for path, m in before.items()}
    assert network.get_submodule("eca.conv") is before["eca.conv"]
    assert torch.equal(outputs(network, x), outputs(held(nets.build()), x))


def test_a_network_that_holds_modules_lands_as_one_that_does_not(landed: Landed, nets: ModuleType, tmp_path: Path) -> None:
    network = held(nets.build())
    done = npu_guard.torch.land(network, nets.inputs(), tmp_path / "npu")
    assert [b.path for b in done.manifest.blocks] == [b.path for b in landed.manifest.blocks]
    assert not done.manifest.refused
    assert holds(network) == sorted(HOLDS)
    assert (tmp_path / "npu" / "blocks.py").read_bytes() == (landed.folder / "blocks.py").read_bytes()


@pytest.mark.parametrize("swapped", [False, True])
def test_the_export_is_that_of_the_network_that_holds_none(
    landed: Landed, nets: ModuleType, tmp_path: Path, swapped: bool
) -> None:
    files = [tmp_path / "held.onnx", tmp_path / "plain.onnx"]
    for network, file in zip((held(nets.build()), nets.build()), files, strict=True):
        npu_guard.torch.apply(network, landed.folder, swap_at_export=swapped)
        npu_guard.export(network, file, nets.inputs())
    kinds = [[node.op_type for node in onnx.load(file).graph.node] for file in files]
    assert kinds[0] == kinds[1]


def test_a_checkpoint_keeps_the_names_of_what_is_held(landed: Landed, nets: ModuleType, x: Tensor) -> None:
    network, old = npu_guard.torch.apply(held(nets.build()), landed.folder), held(nets.build())
    for model in (nets.build(), old):
        new = npu_guard.torch.convert(old.state_dict(), model, landed.folder)
        assert new.keys() == network.state_dict().keys()
    network.load_state_dict(new)
    torch.testing.assert_close(outputs(network, x), outputs(nets.build(), x), rtol=1e-4, atol=1e-5)


def test_a_moving_average_keeps_its_counter(landed: Landed, nets: ModuleType) -> None:
    old, new = AveragedModel(nets.build()), AveragedModel(npu_guard.torch.apply(nets.build(), landed.folder))
    old.n_averaged += 7
    new.load_state_dict(npu_guard.torch.convert(old.state_dict(), nets.build(), landed.folder))
    assert new.n_averaged == 7


@pytest.mark.parametrize(
    ("name", "plain", "holders"),
    [
        ("a.b", "a.b", set()),
        (f"{HELD}.a.b", "a.b", {""}),
        (f"module.{HELD}.a.{HELD}.b.weight", "module.a.b.weight", {"module.", "module.a."}),
    ],
)
def test_names(name: str, plain: str, holders: set[str]) -> None:
    assert plain_names([name]) == ({plain: name}, holders)
    assert held_name(plain, holders) == name
