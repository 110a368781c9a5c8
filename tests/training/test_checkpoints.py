"""What a checkpoint holds is told from it, and what cannot be converted is said in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import npu_guard.torch
from npu_guard.base.errors import UsageError
from npu_guard.training import attach, healing, resuming
from npu_guard.training.checkpoints import own_weights
from npu_guard.training.files import Block, Manifest, TensorEntry


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


WIDER = Block("2", "leaf", "nn.Conv2d(4, 8, 1)", "Conv2d", (), tensors=(TensorEntry("weight", (8, 4, 1, 1), True),))
MANIFEST = Manifest(1, "", "Sequential", "", (), "free", (WIDER,))


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.net.", "0."])
def test_a_prefix_of_all_names_is_found(prefix: str) -> None:
    net = network()
    found, own = own_weights({prefix + name: tensor for name, tensor in net.state_dict().items()}, net, MANIFEST)
    assert found == prefix
    assert own.keys() == net.state_dict().keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in net.state_dict().items())


def test_names_without_the_prefix_are_of_others() -> None:
    net = network()
    inner = {f"model.{name}": tensor for name, tensor in net.state_dict().items()}
    found, own = own_weights({"n_averaged": torch.zeros(()), **inner, "loss.weight": torch.zeros(3)}, net, MANIFEST)
    assert found == "model."
    assert own.keys() == net.state_dict().keys()


def states() -> list[tuple[object, str]]:
    net = network()
    state = net.state_dict()
    return [
        ("net.pt", "takes a state_dict, and this is a str"),
        ({"epoch": 3, "ema": state}, r"under 'ema'; convert checkpoint\['ema'\]"),
        (torch.optim.Adam(net.parameters()).state_dict(), "state of an optimizer"),
        ({**state, "epoch": 3}, "'epoch', which is no tensor"),
        ({k: v for k, v in state.items() if k != "0.bias"}, "lacks 1 of 9 weights .0.bias.; load it into the old network"),
        (state | {"2.weight": torch.zeros(8, 4, 1, 1)}, "of the network with blocks already"),
        (state | {"0.weight": torch.zeros(4, 5, 1, 1)}, r"another network: 0.weight has shape \(4, 5, 1, 1\) in it"),
        (state | {"9.weight": torch.zeros(1)}, "another network: its 9.weight is no weight of this one"),
        ({p + k: v for p in ("model.", "ema.") for k, v in state.items()}, "once, under 'ema.' and under 'model.'; convert"),
        (state | {f"ema.{k}": v for k, v in state.items()}, "once, at its top and under 'ema.'; convert"),
        ({}, "it is empty"),
    ]


@pytest.mark.parametrize(("state", "message"), states())
def test_what_is_no_checkpoint_of_the_old_network_is_named(state: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        own_weights(state, network(), MANIFEST)


def test_a_moving_average_is_looked_through() -> None:
    averaged = torch.optim.swa_utils.AveragedModel(network())
    assert attach.network_of(averaged) is averaged.module


def test_healing_says_what_it_cannot_use(tmp_path: Path) -> None:
    net, data = network().eval(), [torch.randn(4, 3, 5, 5) for _ in range(4)]
    with pytest.raises(UsageError, match="Sequential has no module 'nope'"):
        npu_guard.torch.heal(net, net, data, paths=["nope"])
    with pytest.raises(UsageError, match=r"does not take the first of data .*without targets"):
        npu_guard.torch.heal(net, net, [(x, torch.zeros(4)) for x in data], paths=["0"])
    file = tmp_path / "healing"
    file.write_bytes(b"other")
    with pytest.raises(UsageError, match="no file of an interrupted healing"):
        npu_guard.torch.heal(net, net, data, paths=["0"], resume=file)
    resuming.save(nn.Sequential(nn.Conv2d(3, 9, 1)), [{"path": "0", "before": 1.0, "solved": None, "after": 2.0}], file, 0)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(UsageError, match="another network, whose block '0' is not here"):
        npu_guard.torch.heal(net, net, data, paths=["0"], resume=file)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_data_that_can_be_read_once_is_enough() -> None:
    def drawn() -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(4, 3, 5, 5, generator=generator) for _ in range(8)]

    torch.manual_seed(0)
    teacher, results = network().eval(), []
    for data in (drawn(), iter(drawn())):
        torch.manual_seed(1)
        student = network().eval()
        results.append(npu_guard.torch.heal(student, teacher, data, paths=["2"], steps=3).blocks)
    assert results[0] == results[1]
    assert isinstance(results[0][0], healing.HealedBlock)
    assert results[0][0].after > results[0][0].before
