"""Blocks go into the network that they were written for, and into no other one."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn

import npu_guard.torch
from npu_guard.base.errors import UsageError
from npu_guard.training import files


class Heads(nn.Module):
    """A setting that no tensor's shape shows, and one that is about training."""

    def __init__(self, channels: int = 8, heads: int = 2, saving: bool = False) -> None:
        super().__init__()
        self.heads, self.saving, self.calls = heads, saving, 0
        self.mix, self.act, self.drop = nn.Linear(channels, channels), nn.ReLU(), nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(self.act(self.mix(x.mean((2, 3)))))
        return x * torch.sigmoid(y.view(len(x), self.heads, -1).mean(2).repeat_interleave(8 // self.heads, 1))[:, :, None, None]


class Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.gate = nn.Conv2d(8, 8, (1, 19), padding=(0, 9)), Heads()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.gate(self.wide(x))
        return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    target = tmp_path_factory.mktemp("fitting") / "npu"
    npu_guard.torch.land(Wide().eval(), torch.randn(1, 8, 6, 20), target)
    return target


def changed(name: str, module: nn.Module) -> nn.Module:
    model = Wide()
    model.set_submodule(name, module)
    return model


OTHERS: list[tuple[nn.Module, str]] = [
    (changed("wide", nn.Conv2d(8, 8, (1, 19), padding=(0, 18), dilation=(1, 2))), r"padding of wide is \(0, 18\)"),
    (
        changed("wide", nn.Conv2d(8, 8, (1, 21), padding=(0, 10))),
        r"kernel_size of wide is \(1, 21\), and the block is for \(1, 19\)",
    ),
    (changed("wide", nn.Conv2d(8, 16, (1, 19), padding=(0, 9))), "out_channels of wide is 16, and the block is for 8"),
    (changed("wide", nn.Conv2d(8, 8, (1, 19), padding=(0, 9), bias=False)), r"bias of wide is none, and the block is for \(8,\)"),
    (changed("gate", Heads(heads=4)), "heads of gate is 4, and the block is for 2"),
    (changed("gate.act", nn.GELU()), "gate.act is GELU, and the block is for ReLU"),
    (changed("gate.act", nn.Sequential(nn.ReLU())), "gate.act is Sequential"),
    (changed("gate.more", nn.ReLU()), "there is gate.more, and the block is for a module without it"),
]


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize(("model", "why"), OTHERS)
def test_other_shapes_and_settings_are_refused_before_anything_changes(
    model: nn.Module, why: str, swap: bool, folder: Path
) -> None:
    state, classes = {k: v.clone() for k, v in model.state_dict().items()}, [type(m) for m in model.modules()]
    with pytest.raises(UsageError, match=why):
        npu_guard.torch.apply(model, folder, swap_at_export=swap)
    assert [type(m) for m in model.modules()] == classes
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in state.items())
    npu_guard.torch.apply(Wide(), folder, swap_at_export=swap)


def test_what_is_about_training_may_be_otherwise(folder: Path) -> None:
    model = changed("gate", Heads(saving=True))
    model.gate.act.inplace, model.gate.drop.p, model.gate.calls = True, 0.5, 7
    assert type(npu_guard.torch.apply(model, folder).gate).__name__ == "HeadsNpu"


def test_a_folder_of_an_older_version_is_taken_by_its_classes(folder: Path, tmp_path: Path) -> None:
    older = shutil.copytree(folder, tmp_path / "npu")
    manifest = files.read_manifest(older)
    blocks = tuple(msgspec.structs.replace(b, old={}) for b in manifest.blocks)
    files.write_manifest(msgspec.structs.replace(manifest, blocks=blocks), older)
    npu_guard.torch.apply(Wide(), older)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t * float("nan"), "weights.safetensors: .* has elements that are no numbers"),
        (lambda t: t.to(torch.int32), "is of torch.float32, and its weights are of torch.int32.*nothing was changed"),
    ],
)
def test_weights_that_are_none_are_refused(change: Callable[[Tensor], Tensor], why: str, folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    other = shutil.copytree(folder, tmp_path / "npu")
    weights = load_file(other / files.WEIGHTS)
    save_file({k: change(v) if v.is_floating_point() else v for k, v in weights.items()}, other / files.WEIGHTS)
    files.write_manifest(files.read_manifest(other), other)
    with pytest.raises(UsageError, match=why):
        npu_guard.torch.apply(Wide(), other)


def test_blocks_that_cannot_be_imported_are_named_with_the_reason(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "npu")
    with (other / files.BLOCKS).open("a") as file:
        file.write("\nimport nothing_of_that_name\n")
    why = r"blocks\.py: cannot be imported \(ModuleNotFoundError: No module named 'nothing_of_that_name'\)"
    with pytest.raises(UsageError, match=why):
        npu_guard.torch.apply(Wide(), other)
    with pytest.raises(UsageError, match=why):
        npu_guard.torch.convert(Wide().state_dict(), Wide(), other)


def test_blocks_that_come_at_the_export_are_not_put_in_as_well(folder: Path) -> None:
    model = npu_guard.torch.apply(Wide(), folder, swap_at_export=True)
    with pytest.raises(UsageError, match=r"by swap_at_export already; npu_guard.torch.remove\(model\)"):
        npu_guard.torch.apply(model, folder)
    npu_guard.torch.apply(npu_guard.torch.remove(model), folder)
    with pytest.raises(UsageError, match="has its block already"):
        npu_guard.torch.apply(model, folder, swap_at_export=True)


@pytest.mark.parametrize("swap", [False, True])
def test_a_folder_that_was_edited_is_refused(swap: bool, folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    edited = shutil.copytree(folder, tmp_path / "npu")
    text = (edited / files.NAME).read_text()
    (edited / files.NAME).write_text(text.replace('"padding": "(0, 9)"', '"padding": "(9, 0)"'))
    with pytest.raises(UsageError, match=r"manifest.json: was changed after it was written"):
        npu_guard.torch.apply(Wide(), edited, swap_at_export=swap)
    (edited / files.NAME).write_text(json.dumps(json.loads(text)))  # the same, laid out otherwise
    npu_guard.torch.apply(Wide(), edited, swap_at_export=swap)
    save_file({k: 2 * v for k, v in load_file(edited / files.WEIGHTS).items()}, edited / files.WEIGHTS)
    with pytest.raises(UsageError, match=r"weights.safetensors: is not the file that was written with manifest.json"):
        npu_guard.torch.apply(Wide(), edited, swap_at_export=swap)


@pytest.mark.parametrize("name", [files.BLOCKS, files.WEIGHTS, files.PLAN])
def test_what_an_export_needs_is_looked_at_before_the_training(name: str, folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "npu")
    (broken / name).write_text("broken = ")
    model = Wide()
    with pytest.raises(UsageError, match=name):
        npu_guard.torch.apply(model, broken, swap_at_export=True)
    assert npu_guard.torch.exported(model) is model


def test_blocks_of_other_weights_are_named_once_the_network_runs(folder: Path) -> None:
    """Not before: a constructor puts blocks in, and then a checkpoint is loaded."""
    x, other = torch.randn(1, 8, 6, 20), Wide()
    mixed = npu_guard.torch.apply(copy.deepcopy(other), folder)
    loaded, removed = copy.deepcopy(mixed), npu_guard.torch.remove(copy.deepcopy(mixed))
    with pytest.warns(UserWarning, match=r"the block at wide and 1 more has the weights of .*npu, and the network had others"):
        mixed(x)
    mixed(x)
    loaded.load_state_dict(npu_guard.torch.convert(other.state_dict(), other, folder))
    assert torch.allclose(loaded(x), other(x), atol=1e-5)
    removed(x)
    torch.manual_seed(0)
    npu_guard.torch.apply(Wide(), folder)(x)


def test_hooks_that_do_not_run_any_more_are_named(folder: Path) -> None:
    torch.manual_seed(0)
    model, calls = Wide(), list[str]()
    for path in ("gate", "gate.mix", "wide"):
        model.get_submodule(path).register_forward_hook(lambda *_, path=path: calls.append(path))
    with pytest.warns(
        UserWarning, match=r"npu: hooks do not run any more on gate\.mix \(Linear\), whose place blocks have taken"
    ) as told:
        npu_guard.torch.apply(model, folder)
    assert [w.filename for w in told] == [__file__]
    model(torch.randn(1, 8, 6, 20))
    assert set(calls) == {"gate", "wide"}


@pytest.mark.parametrize("kind", ["hooks", "parametrizations"])
@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning", "ignore:.*hooks do not run any more")
def test_parametrizations_that_are_gone_are_named(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Wide()
    if kind == "hooks":  # before there were parametrizations
        torch.nn.utils.spectral_norm(model.wide)
        torch.nn.utils.spectral_norm(model.gate.mix)
        with torch.no_grad():  # until its vectors move no more, as they do in each step of training
            [model(torch.randn(1, 8, 6, 20)) for _ in range(50)]
    else:
        torch.nn.utils.parametrizations.weight_norm(model.wide)
        torch.nn.utils.parametrizations.spectral_norm(model.gate.mix)
    done = npu_guard.torch.land(model.eval(), torch.randn(1, 8, 6, 20), tmp_path / "npu")
    lost = [name for block in done.manifest.blocks for name in block.lost]
    first = "SpectralNorm" if kind == "hooks" else "WeightNorm"
    assert {f"wide ({first} of weight)", "gate.mix (SpectralNorm of weight)"} == {name for name in lost if "drop" not in name}
    if kind == "hooks":
        keys, blocks = set(model.state_dict()), npu_guard.torch.apply(model, done.folder)
        blocks(torch.randn(1, 8, 6, 20))
        npu_guard.torch.remove(model)(torch.randn(1, 8, 6, 20))
        assert set(model.state_dict()) == keys
        assert model.wide._forward_pre_hooks
    assert f"What does something in training, and is gone: {', '.join(lost)}." in (done.folder / files.README).read_text()
