"""What a network is given and is made of: equal inputs, their names, other types of floats, parameters that are frozen."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import npu_guard
import npu_guard.torch
from npu_guard.base.errors import UsageError
from npu_guard.training import files
from npu_guard.training.landing import distinct


class Wide(nn.Module):
    """More channels than a device takes, and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.norm = nn.Conv2d(3, 12, 19, padding=9), nn.BatchNorm2d(12)
        self.head = nn.Conv2d(12, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(torch.relu(self.norm(self.wide(x))))
        return result


class Fused(nn.Module):
    """Two maps in a list, each with its own convolution, as one module that is written as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 1), nn.LayerNorm(8)

    def forward(self, maps: list[Tensor]) -> Tensor:
        tokens = (self.a(maps[0]) - self.b(maps[1])).flatten(2).transpose(1, 2)
        result: Tensor = self.norm(tokens).transpose(1, 2).reshape(maps[0].shape[0], 8, *maps[0].shape[2:])
        return result


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fused, self.out = Fused(), nn.Conv2d(8, 8, 1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        result: Tensor = self.out(torch.relu(self.fused([left, right])))
        return result


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    target = tmp_path_factory.mktemp("wide") / "npu"
    npu_guard.torch.land(Wide().eval(), torch.randn(1, 3, 8, 9), target)
    return target


def test_equal_inputs_are_told_apart(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, same = Two().eval(), torch.zeros(1, 3, 6, 5)
    done = npu_guard.torch.land(model, {"left": same, "right": same}, tmp_path / "npu")
    assert [b.path for b in done.manifest.blocks] == ["fused"]
    new = npu_guard.torch.apply(copy.deepcopy(model), tmp_path / "npu")
    new.load_state_dict(npu_guard.torch.convert(model.state_dict(), Two(), tmp_path / "npu"))
    given = torch.randn(2, 3, 6, 5), torch.randn(2, 3, 6, 5)
    assert torch.allclose(new(*given), model(*given), atol=1e-5)


def test_only_inputs_that_tell_nothing_get_noise() -> None:
    image, numbers, nothing = torch.randn(1, 3, 4, 4), torch.zeros(1, 4, dtype=torch.long), torch.full((1, 3), float("-inf"))
    mask, none = torch.ones(1, 1, 4, 4), torch.zeros(1, 3, 0, 4)
    given = {"image": image, "again": image.clone(), "numbers": numbers, "nothing": nothing, "mask": mask, "none": none}
    found = distinct(given)
    assert found["image"] is image
    assert all(found[name] is given[name] for name in ("numbers", "nothing", "none"))
    assert not torch.equal(found["again"], image)
    assert float(found["mask"].min()) >= 1
    assert float(found["mask"].std()) > 0.1


def test_the_network_keeps_the_names_of_its_inputs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 19, padding=9), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 30, 8)).eval()
    example = {"input": torch.randn(1, 3, 6, 5)}
    done = npu_guard.torch.land(model, example, tmp_path / "npu")
    assert "" in [b.path for b in done.manifest.blocks]
    new = npu_guard.torch.apply(copy.deepcopy(model), tmp_path / "npu")
    npu_guard.export(new, tmp_path / "net.onnx", example)
    assert torch.allclose(new(**example), model(**example), atol=1e-5)


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_other_types_are_landed_as_float32_and_kept(kind: torch.dtype, wide: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = Wide().to(kind).eval()
    x = torch.randn(2, 3, 8, 9).to(kind)
    with pytest.raises(UsageError, match=rf"wide\.weight is of {kind}.*copy\.deepcopy\(model\)\.float\(\)"):
        npu_guard.torch.land(model, x[:1], tmp_path / "npu")
    near = {torch.float16: 2e-2, torch.float64: 1e-5}[kind]
    made = npu_guard.torch.exported(model, wide)
    loaded = npu_guard.torch.apply(Wide().to(kind).eval(), wide)
    loaded.load_state_dict(npu_guard.torch.convert(model.state_dict(), model, wide))
    for new in (made, loaded):
        assert {p.dtype for p in new.parameters()} == {kind}
        assert float((new(x) - model(x)).detach().abs().max()) < near


def test_what_is_frozen_when_it_lands_can_be_trained_later(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Wide().eval()
    model.wide.requires_grad_(False)
    npu_guard.torch.land(model, torch.randn(1, 3, 8, 9), tmp_path / "npu")
    block = next(b for b in files.read_manifest(tmp_path / "npu").blocks if b.path == "wide")
    assert all(t.trained for t in block.tensors if t.sources)
    new = npu_guard.torch.apply(copy.deepcopy(model), tmp_path / "npu")
    assert not any(p.requires_grad for p in new.wide.parameters())
    assert all(p.requires_grad for p in new.head.parameters())
    new.requires_grad_(True).train()
    new(torch.randn(2, 3, 8, 9)).pow(2).mean().backward()
    own = dict(new.wide.named_parameters())
    assert {n.split(".")[-1] for n in own} == {"weight", "bias"}
    assert all(p.grad is not None for p in own.values())


def test_blocks_go_into_a_network_without_storage(wide: Path) -> None:
    torch.manual_seed(0)
    model = Wide().eval()
    with torch.device("meta"):
        new = Wide()
    npu_guard.torch.apply(new, wide)
    assert {t.device.type for t in new.state_dict().values()} == {"meta"}
    new.to_empty(device="cpu").load_state_dict(npu_guard.torch.apply(copy.deepcopy(model), wide).state_dict())
    x = torch.randn(2, 3, 8, 9)
    assert torch.allclose(new.eval()(x), model(x), atol=1e-5)


def test_of_a_wrapper_the_network_inside_lands(wide: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    done = npu_guard.torch.land(nn.DataParallel(Wide().eval()), {"x": torch.randn(1, 3, 8, 9)}, tmp_path / "npu")
    assert done.manifest.network == "Wide"
    assert [b.path for b in done.manifest.blocks] == [b.path for b in files.read_manifest(wide).blocks]
