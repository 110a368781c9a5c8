"""Gradients of parameters that keep name and shape, and calls with something that is no tensor.

Gradients are compared in float64: in float32 the bias before a norm has one of roundings alone, as its true one is zero.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

import npu_guard.torch
from npu_guard.project.config import Config
from npu_guard.training import proving, reach
from npu_guard.training.landing import Options
from npu_guard.training.steps import land_in


class Kernels(nn.Module):
    """Places in leaves: a kernel with a stride, a depthwise one, groups of a transposed one, each before a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 9, 2, 4), nn.BatchNorm2d(16), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(16, 16, 9, 1, 4, groups=16), nn.BatchNorm2d(16), nn.ReLU())
        self.up, self.norm = nn.ConvTranspose2d(16, 8, 4, 2, 1, groups=4), nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(torch.relu(self.norm(self.up(self.deep(self.stem(x))))))
        return result


class Gates(nn.Module):
    """Places in a forward: maxima over channels, a softmax over them, a Resize, pads that reflect."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU())
        self.gate, self.up = nn.Conv2d(2, 1, 7, padding=3), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.pads, self.last = nn.ReflectionPad2d(2), nn.Conv2d(12, 6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y = y * torch.sigmoid(self.gate(torch.cat([y.mean(1, True), y.amax(1, True)], 1)))
        return torch.softmax(functional.silu(self.last(self.pads(self.up(y)))), 1)


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    model = copy.deepcopy(model).double().train()
    outputs = [t for t in pytree.tree_leaves(model(x.double())) if isinstance(t, Tensor)]
    weights = torch.Generator().manual_seed(5)
    total = sum(((t * torch.randn(t.shape, generator=weights)).sum() for t in outputs), torch.zeros(()))
    torch.autograd.backward(total)
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("kind", "places"), [(Kernels, {"stem.0", "up"}), (Gates, {"", "up", "pads"})])
def test_what_stays_has_the_gradients_of_before(kind: type[nn.Module], places: set[str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = kind().eval()
    x = torch.randn(4, 3, 16, 20)
    done = npu_guard.torch.land(network, x[:1], tmp_path / "npu", profile="ti-tidl:AM68A")
    assert {b.path for b in done.manifest.blocks} >= places
    wanted = gradients(network, x)
    given = gradients(npu_guard.torch.apply(copy.deepcopy(network), tmp_path / "npu"), x)
    both = [name for name in wanted if name in given and given[name].shape == wanted[name].shape]
    assert len(both) > len(wanted) / 2
    peak = max(float(t.abs().max()) for t in wanted.values())
    assert max(float((wanted[name] - given[name]).abs().max()) for name in both) < 1e-6 * peak
    assert proving.difference([wanted[both[0]]], [0.99 * given[both[0]]]) > 1e-3


class Gate(nn.Module):
    """A gate by a convolution along the channels; it is told how strong it is, and gives no second result."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 5, padding=2, bias=False)

    def forward(self, x: Tensor, power: int, mask: Tensor | None, *, mode: str) -> tuple[Tensor, None]:
        w = self.conv(x.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(-1)
        return x * torch.sigmoid(w) ** power if mode == "power" and mask is None else x, None


class Told(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.power, self.out = Gate(), 2, nn.Conv2d(16, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(self.gate(x, self.power, None, mode="power")[0])
        return result


def test_a_module_may_be_given_what_is_no_tensor_and_expects_the_same_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, x = Told().eval(), torch.randn(1, 16, 6, 8)
    done = land_in(network, {"x": x}, tmp_path / "npu", Options(Config()))
    assert [b.path for b in done.manifest.blocks] == ["gate"]
    assert done.proof.block < proving.BLOCK
    text = (tmp_path / "npu" / "blocks.py").read_text()
    assert 'assert power == 2\n        assert mask is None\n        assert mode == "power"' in text
    assert "-> tuple[Tensor, None]:" in text
    new = npu_guard.torch.apply(copy.deepcopy(network), tmp_path / "npu")
    with torch.no_grad():
        assert proving.difference([network(x)], [new(x)]) < 1e-6
    new.power = 3
    with pytest.raises(AssertionError):
        new(x)


class Partly(nn.Module):
    """A head whose result is detached, beside one that is trained, and a convolution that another keeps from a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.watch = nn.Conv2d(8, 12, 1), nn.Conv2d(12, 8, 1), nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.relu(self.body(x))
        return self.head(y), self.watch(y).detach()


def test_only_gradients_that_are_lost_are_told(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, batch = Partly().eval(), {"x": torch.randn(2, 8, 5, 4)}
    done = npu_guard.torch.land(model, torch.randn(1, 8, 5, 4), tmp_path / "npu")
    assert "watch" in [b.path for b in done.manifest.blocks]
    assert done.proof.trained == 4
    assert not done.proof.without_gradient
    new = npu_guard.torch.apply(copy.deepcopy(model), tmp_path / "npu")
    before, after = (reach.reached(m, batch, training=True) for m in (model, new))
    assert {n.split(".")[0] for n in after.lacks} == {"watch"}
    lacking = [*after.lacks, *(n for n in after.has if n.startswith("head"))]  # as if the block kept these from a gradient
    assert reach.lost(lacking, before, done.manifest) == [n for n in after.has if n.startswith("head")]


class Tied(nn.Module):
    """Two layers over tokens with one weight, and one for three parts that are taken from each other."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.first, self.second, self.parts = nn.Linear(20, 20), nn.Linear(20, 20), nn.Linear(20, 24)
        if tied:
            self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.second(torch.relu(self.first(x.flatten(2).transpose(1, 2))))
        query, key, value = self.parts(tokens).chunk(3, 2)
        result: Tensor = (query * torch.sigmoid(key) - value).mean(1)
        return result


@pytest.mark.parametrize("tied", [False, True])
def test_weights_that_were_one_and_are_trained_apart_are_told(tied: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    done = npu_guard.torch.land(Tied(tied).eval(), torch.randn(1, 20, 3, 4), tmp_path / "npu")
    notes = [note for note in done.proof.notes if "trained apart" in note]
    assert [note.split(" (")[0].split(": ")[1] for note in notes] == (["first.weight, second.weight"] if tied else [])
    assert all(note in (tmp_path / "npu" / "README.md").read_text() for note in notes)
