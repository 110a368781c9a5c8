"""Healing: least squares where a block is linear, steps where it is not, and never further away than before."""

from __future__ import annotations

import copy
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import npu_guard.torch
from npu_guard.base.errors import UsageError
from npu_guard.training import healing, tuning


class Net(nn.Module):
    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Conv2d(2, 4, 3, padding=1), middle, nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(self.middle(torch.relu(self.first(x))))
        return result


def pair(middle: nn.Module, seed: int = 0) -> tuple[Net, Net, list[Tensor]]:
    """A network with a 3x3 convolution in the middle, and one with something smaller there."""
    torch.manual_seed(seed)
    teacher = Net(nn.Conv2d(4, 4, 3, padding=1)).eval()
    student = copy.deepcopy(teacher)
    student.middle = middle.eval()
    return teacher, student, [torch.randn(4, 2, 6, 5) for _ in range(8)]


def test_a_linear_block_is_solved_as_by_normal_equations() -> None:
    teacher, student, data = pair(nn.Conv2d(4, 4, 1))
    healed = npu_guard.torch.heal(student, teacher, data, paths=["middle"], steps=0)
    assert healed.blocks[0].solved is not None
    assert healed.blocks[0].after == healed.blocks[0].solved > healed.blocks[0].before
    rows, wanted = [], []
    with torch.no_grad():
        for i, x in enumerate(data):
            if i % healing.HELD_OUT:
                h = torch.relu(teacher.first(x))
                rows.append(h.permute(0, 2, 3, 1).reshape(-1, 4).numpy())
                wanted.append(teacher.middle(h).permute(0, 2, 3, 1).reshape(-1, 4).numpy())
    matrix = np.concatenate([np.concatenate(rows), np.ones((sum(len(r) for r in rows), 1))], 1)
    best = np.linalg.lstsq(matrix, np.concatenate(wanted), rcond=None)[0]
    assert np.allclose(student.middle.weight.detach().numpy()[:, :, 0, 0], best[:4].T, atol=1e-3)
    assert np.allclose(student.middle.bias.detach().numpy(), best[4], atol=1e-3)


def test_a_block_that_is_not_linear_takes_steps() -> None:
    middle = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    teacher, student, data = pair(middle)
    healed = npu_guard.torch.heal(student, teacher, data, paths=["middle"], steps=80, rate=1e-2)
    assert healed.blocks[0].solved is None
    assert healed.blocks[0].after > healed.blocks[0].before + 3


def test_what_comes_no_closer_is_put_back() -> None:
    teacher, student, data = pair(nn.Conv2d(4, 4, 3, padding=1))
    student.middle.load_state_dict(teacher.middle.state_dict())
    state = copy.deepcopy(student.state_dict())
    healed = npu_guard.torch.heal(student, teacher, data, paths=["middle"], steps=5, rate=1.0)
    assert healed.blocks[0].after == healed.blocks[0].before
    assert all(torch.equal(state[k], v) for k, v in student.state_dict().items())


def test_seeds_repeat_and_a_run_goes_on(tmp_path: Path) -> None:
    results = []
    for _ in range(2):
        teacher, student, data = pair(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)))
        npu_guard.torch.heal(student, teacher, data, paths=["middle"], steps=10, resume=tmp_path / "kept.safetensors")
        results.append(copy.deepcopy(student.state_dict()))
    assert all(torch.equal(results[0][k], v) for k, v in results[1].items())
    with pytest.raises(UsageError, match="another file"):
        npu_guard.torch.heal(student, teacher, data, paths=["middle"], seed=7, resume=tmp_path / "kept.safetensors")


def test_the_users_own_figure_and_fine_tuning() -> None:
    teacher, student, data = pair(nn.Conv2d(4, 4, 1))

    def metric(model: nn.Module) -> float:
        with torch.no_grad():
            return float((model(data[0]) - teacher(data[0])).pow(2).mean())

    healed = npu_guard.torch.heal(student, teacher, data, paths=["middle"], steps=20, metric=metric)
    assert healed.metric["original"] == 0
    assert healed.metric["after"] < healed.metric["before"]
    with torch.no_grad():
        batches = [(x, teacher(x)) for x in data]
    losses = npu_guard.torch.fine_tune(student, batches, nn.functional.mse_loss, epochs=2)
    assert losses[1] < losses[0]
    assert metric(student) < healed.metric["after"]


def test_approximate_blocks_that_landed_are_healed(nets: ModuleType, tmp_path: Path) -> None:
    """The bottleneck in the place of ECA only comes close; the blocks around it are exact and stay as they are."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.eca = nn.Conv2d(3, 32, 3, 2, 1), nets.ECA()

        def forward(self, image: Tensor) -> Tensor:
            result: Tensor = self.eca(torch.relu(self.stem(image)))
            return result

    torch.manual_seed(0)
    model = Small().eval()
    calibration = tmp_path / "data.npz"
    np.savez(calibration, image=torch.randn(12, 3, 8, 8).numpy())
    prefer = ("eca-to-bottleneck-se",)
    done = npu_guard.torch.land(
        model, torch.randn(1, 3, 8, 8), tmp_path / "npu", approximate=True, calibration=calibration, prefer=prefer
    )
    assert [b.exact for b in done.manifest.blocks] == [False]
    npu_guard.torch.apply(model, tmp_path / "npu")
    healed = npu_guard.torch.heal(model, None, [torch.randn(4, 3, 8, 8) for _ in range(8)], steps=40)
    assert [b.path for b in healed.blocks] == ["eca"]
    assert healed.blocks[0].after >= healed.blocks[0].before


def test_a_teacher_keeps_a_network_near_where_labels_say_nothing() -> None:
    results = {}
    for taught in (False, True):
        teacher, student, data = pair(nn.Conv2d(4, 4, 1))
        labelled = [(x, torch.zeros(len(x), 2, 6, 5)) for x in data]
        teacher.train()
        before = copy.deepcopy(teacher.state_dict())
        npu_guard.torch.fine_tune(
            student, labelled, lambda found, wanted: 1e-3 * (found - wanted).pow(2).mean(), rate=1e-2, epochs=20,
            teacher=teacher if taught else None,
        )  # fmt: skip
        assert teacher.training
        assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
        assert all(p.grad is None for p in teacher.parameters())
        with torch.no_grad():
            results[taught] = sum(float((student(x) - teacher(x)).pow(2).mean()) for x in data)
    assert results[True] < 0.5 * results[False]


def test_each_tensor_counts_by_its_variance() -> None:
    wanted = torch.tensor([0.0, 2.0, 4.0, 6.0]), torch.tensor([1.0, 1.0])
    found = torch.tensor([1.0, 3.0, 5.0, 7.0]), torch.tensor([1.0, 3.0])
    each = float(tuning.distance(found[0], wanted[0])), float(tuning.distance(found[1], wanted[1]))
    assert each == pytest.approx((1 / (20 / 3), 2.0))  # the second has no variance, so its differences count as they are
    assert float(tuning.distance(list(found), {"a": wanted[0], "b": wanted[1]})) == pytest.approx(sum(each))
    with pytest.raises(UsageError, match=r"gives tensors of \(2,\) and its teacher of \(4,\)"):
        tuning.distance(found[1], wanted[0])
