"""A fix lands in PyTorch: the network with its blocks is the fixed model, and goes on being trained."""

from __future__ import annotations

import copy
import json
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

import msgspec
import onnx
import pytest
import torch
from torch import Tensor, nn

import npu_guard.torch
from npu_guard.base.errors import NotVerified, UsageError
from npu_guard.project.config import Config
from npu_guard.training import proving, sizes
from npu_guard.training.files import manifest_schema
from npu_guard.training.landing import Options
from npu_guard.training.steps import Landed, land_in

ROOT = Path(__file__).parents[2]


def outputs(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = model(x)
    return result


def close(a: Tensor, b: Tensor, by: float = 1e-4) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= by * a.abs().max())


def test_every_place_lands_and_is_the_fixed_model(landed: Landed) -> None:
    assert not landed.manifest.refused
    assert landed.proof.exported < 1e-6  # the norm behind the sum of convolutions stays an operator
    assert not landed.proof.without_gradient
    assert landed.proof.training is not None
    assert landed.proof.training < proving.TRAINING
    kinds = {block.path: block.kind for block in landed.manifest.blocks}
    assert kinds["wide"] == kinds["fc"] == "leaf"
    assert kinds["eca"] == kinds["attention"] == kinds["tokens"] == "module"
    assert not {"stem", "stem.0"} & kinds.keys()


def test_blocks_are_put_in_place_and_taken_out(landed: Landed, nets: ModuleType) -> None:
    model, x = nets.build(), torch.randn(2, 3, 8, 8)
    wanted, attention, calls = outputs(model, x), model.attention, []
    attention.v.register_forward_hook(lambda *_: calls.append(1))
    keys = set(model.state_dict())
    patched = npu_guard.torch.apply(model, landed.folder)
    assert patched is model
    assert model.attention is attention
    assert isinstance(attention, nets.Attention)
    assert type(attention).__name__ != "Attention"
    assert close(wanted, outputs(model, x))
    assert calls or "attention.v.weight" not in model.state_dict()
    npu_guard.torch.remove(model)
    assert type(model.attention) is nets.Attention
    assert set(model.state_dict()) == keys
    assert torch.equal(wanted, outputs(model, x))


def test_another_resolution_is_refused_instead_of_computed_wrongly(landed: Landed, nets: ModuleType) -> None:
    model = npu_guard.torch.apply(nets.build(), landed.folder).eval()
    sizes.guard(model, msgspec.structs.replace(landed.manifest, resolution="fixed"), "npu/")
    model = copy.deepcopy(model)
    model(torch.randn(3, 3, 8, 8))
    with pytest.raises(ValueError, match="are for 8 x 8, and the input is 8 x 12; write them again"):
        model(torch.randn(1, 3, 8, 12))
    npu_guard.torch.remove(model)
    assert not model._forward_pre_hooks


def test_a_norm_that_was_folded_is_back(landed: Landed, nets: ModuleType) -> None:
    model = npu_guard.torch.apply(nets.build(), landed.folder)
    assert [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.num_features == 16 and m is not model.stem[1]]
    for wrong in ("running_var", "weight"):
        worse = copy.deepcopy(model)
        with torch.no_grad():
            norm = next(m for m in worse.modules() if isinstance(m, nn.BatchNorm2d) and m is not worse.stem[1])
            getattr(norm, wrong).mul_(1.3)
        found = proving.Measured()
        proving.training_mode(nets.build(), worse, nets.inputs(), found, exact=True)
        proving.compare_batch(nets.build(), worse, nets.inputs(), 3, found)
        assert found.failures


def test_norms_over_volumes_go_over_all_frames(nets: ModuleType, landed_volume: Landed) -> None:
    """Frames are channels then: statistics by channel and frame would be others, in training only."""
    original, done = nets.build(nets.Volume), landed_volume
    assert done.proof.same_bits
    assert [note.split(":")[0] for note in done.proof.notes] == [
        "trained apart, and one weight before"
    ]  # each frame that comes out has its own
    assert not any(b.lost for b in done.manifest.blocks)
    assert done.proof.training is not None
    assert done.proof.training < proving.TRAINING
    patched = npu_guard.torch.apply(nets.build(nets.Volume), done.folder)
    clips = torch.randn(5, 2, 4, 6, 6)
    for model in (original, patched):
        model.train()
        model(clips)
    norms = [m for m in patched.modules() if isinstance(m, nn.BatchNorm2d)]
    assert torch.allclose(norms[1].running_mean, original.before.running_mean, atol=1e-5)
    assert torch.allclose(norms[1].running_var, original.before.running_var, rtol=1e-3)
    outputs_after = [outputs(model.eval(), clips) for model in (original, patched)]
    assert close(*outputs_after, by=1e-3)


def test_norms_of_a_network_that_was_not_trained_are_kept(tmp_path: Path) -> None:
    """They are next to the identity, so the tensor before one looks like that behind it."""

    class Fresh(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.bn = nn.Conv2d(8, 8, 19, padding=9, groups=8, bias=False), nn.BatchNorm2d(8)
            self.mix, self.bn2 = nn.Conv2d(8, 12, 1), nn.BatchNorm2d(12)
            self.head = nn.Conv2d(12, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.head(torch.relu(self.bn2(self.mix(torch.relu(self.bn(self.wide(x)))))))
            return result

    torch.manual_seed(0)
    done = land_in(Fresh().eval(), {"x": torch.randn(1, 8, 6, 5)}, tmp_path / "npu", Options(Config()))
    assert done.proof.training is not None
    assert done.proof.training < proving.TRAINING
    assert not any(b.lost for b in done.manifest.blocks)


def test_copies_pickles_and_wrappers(landed: Landed, nets: ModuleType, tmp_path: Path) -> None:
    x = torch.randn(2, 3, 8, 8)
    model = npu_guard.torch.apply(nets.build(), landed.folder)
    wanted = outputs(model, x)
    assert torch.equal(wanted, outputs(copy.deepcopy(model), x))
    assert torch.equal(wanted, outputs(pickle.loads(pickle.dumps(model)), x))
    wrapped = npu_guard.torch.apply(nn.DataParallel(nets.build()), landed.folder)
    assert torch.equal(wanted, outputs(wrapped.module, x))
    other = npu_guard.torch.apply(nets.build(seed=5), landed.folder)
    other.load_state_dict(model.state_dict())
    assert torch.equal(wanted, outputs(other, x))
    pickled = tmp_path / "model.pickle"
    pickled.write_bytes(pickle.dumps(npu_guard.torch.remove(model)))


def test_torch_compiles_blocks_to_a_script_or_says_why_not(landed: Landed, nets: ModuleType) -> None:
    model, x = npu_guard.torch.apply(nets.build(), landed.folder), torch.randn(2, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, which users have all the same
        assert close(outputs(model, x), outputs(torch.jit.script(model), x), 1e-6)
        sizes.guard(model, msgspec.structs.replace(landed.manifest, resolution="fixed"), "npu")
        with pytest.raises(AttributeError, match=r"one resolution.*torch.jit.trace takes it"):
            torch.jit.script(model)
        assert close(outputs(model, x), outputs(torch.jit.trace(model, x), x), 1e-6)
    assert not hasattr(next(iter(model._forward_pre_hooks.values())), "other")


def test_training_moves_what_is_trained_and_nothing_else(landed: Landed, nets: ModuleType) -> None:
    model = npu_guard.torch.apply(nets.build(), landed.folder).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, weight_decay=0.1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for _ in range(3):
        loss = model(torch.randn(4, 3, 8, 8)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = model.state_dict()
    for block in landed.manifest.blocks:
        for entry in block.tensors:
            name = f"{block.path}.{entry.name}"
            moved = not torch.equal(before[name], after[name])
            assert moved or not entry.trained or entry.padding, name
            assert entry.trained or not moved or "running" in name or name.endswith("num_batches_tracked"), name
            if entry.masked:
                mask = after[name.replace("weight", "mask")]
                assert not mask.all()
                assert torch.equal(after[name][~mask], torch.zeros_like(after[name][~mask]))
    model.eval()
    npu_guard.export(model, landed.folder.parent / "trained.onnx", nets.inputs())
    assert npu_guard.check(landed.folder.parent / "trained.onnx").verdict == "pass"


def test_an_old_checkpoint_is_converted(landed: Landed, nets: ModuleType) -> None:
    other, x = nets.build(seed=3), torch.randn(2, 3, 8, 8)
    state = npu_guard.torch.convert(other.state_dict(), nets.build(), landed.folder)
    model = npu_guard.torch.apply(nets.build(), landed.folder)
    model.load_state_dict(state)
    assert close(outputs(other, x), outputs(model.eval(), x))
    assert not close(outputs(nets.build(), x), outputs(model, x))
    with pytest.raises(UsageError, match="another network"):
        npu_guard.torch.convert({"x": torch.zeros(1)}, nets.build(), landed.folder)


def test_old_blocks_are_trained_and_new_ones_exported(landed: Landed, nets: ModuleType, tmp_path: Path) -> None:
    model = npu_guard.torch.apply(nets.build(seed=4), landed.folder, swap_at_export=True)
    assert type(model.attention) is nets.Attention
    npu_guard.export(model, tmp_path / "net.onnx", nets.inputs())
    assert npu_guard.check(tmp_path / "net.onnx").verdict == "pass"
    assert npu_guard.verify(tmp_path / "net.onnx", nets.build(seed=4), inputs=nets.inputs()).verdict == "equal"


def test_weights_of_the_old_network_are_refused_with_what_to_do(landed: Landed, nets: ModuleType) -> None:
    model, old = npu_guard.torch.apply(nets.build(), landed.folder), nets.build(seed=3).state_dict()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for refusing in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with pytest.raises(UsageError, match=r"without the blocks of .*: it has [\w.]+; load npu_guard.torch.convert"):
            refusing.load_state_dict(old, strict=False)
    with pytest.raises(UsageError, match=r"it has module\.[\w.]+; load"):
        nn.DataParallel(model).load_state_dict({f"module.{name}": tensor for name, tensor in old.items()})
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    model.load_state_dict(npu_guard.torch.convert(old, model, landed.folder))  # as it says
    model.load_state_dict(before)
    model.load_state_dict({"stem.0.weight": old["stem.0.weight"]}, strict=False)
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict({"another.weight": torch.zeros(1)})
    npu_guard.torch.remove(model).load_state_dict(old)


def test_convolutions_are_called_after_their_weight_and_not_after_the_norm_behind_it(landed: Landed, nets: ModuleType) -> None:
    model = npu_guard.torch.apply(nets.build(), landed.folder)
    assert {name.rpartition("_")[0] or name for name, m in model.wide.named_modules() if isinstance(m, nn.Conv2d)} == {"wide"}


def test_another_network_is_refused_and_left_alone(landed: Landed, nets: ModuleType) -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.eca = nets.ECA()

    other = Other()
    with pytest.raises(UsageError, match="has no module"):
        npu_guard.torch.apply(other, landed.folder)
    assert type(other.eca) is nets.ECA
    model = nets.build()
    model.fc = nn.Conv2d(1, 1, 1)
    with pytest.raises(UsageError, match="fc is a Conv2d, and its block replaces a Linear"):
        npu_guard.torch.apply(model, landed.folder)
    assert type(model.attention) is nets.Attention
    model = npu_guard.torch.apply(nets.build(), landed.folder)
    with pytest.raises(UsageError, match="has its block already"):
        npu_guard.torch.apply(model, landed.folder)


def test_half_of_the_blocks_is_never_in(landed: Landed, nets: ModuleType, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "npu"
    shutil.copytree(landed.folder, folder)
    text = (folder / "blocks.py").read_text()
    (folder / "blocks.py").write_text(
        text.replace("nn.Conv2d(16, 64", "nn.Conv2d(17, 64").replace("torch.empty((1, 16, 1, 1))", "torch.empty((2,))")
    )
    model = nets.build()
    with pytest.raises(UsageError, match="nothing was changed"):
        npu_guard.torch.apply(model, folder)
    assert all(type(m).__module__.startswith(("torch.", "networks_of")) for m in model.modules())


def test_lists_dicts_and_shared_modules(nets: ModuleType, tmp_path: Path) -> None:
    model = nets.build(nets.Holder)
    done = land_in(model, nets.inputs(nets.Holder), tmp_path / "npu", Options(Config()))
    assert done.proof.same_bits
    paths = {block.path for block in done.manifest.blocks}
    assert "pair" in paths or "pair.wide" in paths
    text = (tmp_path / "npu" / "blocks.py").read_text()
    assert "list[Tensor]" in text or "pair.wide" in paths


def test_the_source_is_formatted_and_typed(landed: Landed, landed_volume: Landed, tmp_path: Path) -> None:
    """Both at once: to read the types of torch takes longer than all else."""
    names = ["images.py", "volumes.py"]
    for name, done in zip(names, (landed, landed_volume), strict=True):
        (tmp_path / name).write_text((done.folder / "blocks.py").read_text())
    typed = ["mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache")]
    for command in (["ruff", "format", "--isolated", "--check"], ["ruff", "check", "--isolated"], typed):
        told = subprocess.run([sys.executable, "-m", *command, *names], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stdout + told.stderr


def test_the_manifest_follows_its_schema(landed: Landed) -> None:
    import jsonschema

    jsonschema.validate(json.loads((landed.folder / "manifest.json").read_text()), manifest_schema())


def test_a_wrong_weight_is_no_landing(nets: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from npu_guard.training import folder

    right = folder.weights_of

    def wrong(landing: object) -> dict[str, Tensor]:
        weights = right(landing)  # type: ignore[arg-type]  # a Landing
        return {n: w * 1.01 if n.startswith("wide") and w.dim() == 4 else w for n, w in weights.items()}

    monkeypatch.setattr(folder, "weights_of", wrong)
    done = land_in(nets.build(), nets.inputs(), tmp_path / "npu", Options(Config()))
    (refused,) = done.manifest.refused
    assert refused.substitutions == ("large-kernel-to-phases",)
    assert re.search(r"in bn \(\S*networks.py:\d+\): wide: \S+ differs by", refused.reason)
    assert "wide" not in {b.path for b in done.manifest.blocks}
    assert {"eca", "attention", "tokens", "fc"} <= {b.path for b in done.manifest.blocks}
    other, x = nets.build(seed=3), torch.randn(2, 3, 8, 8)
    patched = npu_guard.torch.apply(nets.build(), tmp_path / "npu")
    assert type(patched.wide) is nn.Conv2d
    patched.load_state_dict(npu_guard.torch.convert(other.state_dict(), nets.build(), tmp_path / "npu"))
    assert close(outputs(other, x), outputs(patched.eval(), x))


def test_a_limit_on_cost_holds_for_new_steps_and_not_for_those_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(8, 8, (19, 3), padding=(9, 1)), nn.ReLU())

    x = torch.randn(1, 8, 24, 24)
    with pytest.raises(UsageError, match="nothing was replaced"):
        npu_guard.torch.land(build(), x, tmp_path / "held", max_cost=1.01)
    npu_guard.torch.land(build(), x, tmp_path / "npu", max_cost=3)
    monkeypatch.setenv("NPU_GUARD_MAX_COST", "1.01")
    other = build().eval()
    patched = npu_guard.torch.apply(build(), tmp_path / "npu").eval()
    patched.load_state_dict(npu_guard.torch.convert(other.state_dict(), build(), tmp_path / "npu"))
    assert close(outputs(other, x), outputs(patched, x))


def test_where_no_place_holds_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from npu_guard.training import folder

    right = folder.weights_of
    monkeypatch.setattr(folder, "weights_of", lambda landing: {n: w * 1.01 for n, w in right(landing).items()})
    with pytest.raises(NotVerified, match="differs"):
        npu_guard.torch.land(nn.Conv2d(8, 8, 19, padding=9, groups=8), torch.randn(1, 8, 6, 6), tmp_path / "npu")
    assert not (tmp_path / "npu").exists()


def test_where_the_second_export_cannot_run_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor where it cannot be made: either is a reason of the place, and no traceback."""
    model, x = nn.Conv2d(8, 8, 19, padding=9, groups=8), torch.randn(1, 8, 6, 6)
    whole = proving.export

    def other_type(model: nn.Module, inputs: dict[str, Tensor], path: Path) -> None:
        whole(model, inputs, path)
        proto = onnx.load(path)
        proto.graph.node[-1].op_type = "Dropped"
        onnx.save(proto, path)

    def refuses(model: nn.Module, inputs: dict[str, Tensor], path: Path) -> None:
        raise UsageError("cannot export Conv2d with the dynamo exporter")

    for wrong, words in (
        (other_type, "the patched network is not the fixed model.*Dropped"),
        (refuses, r"\(cannot export Conv2d"),
    ):
        monkeypatch.setattr(proving, "export", wrong)
        with pytest.raises(NotVerified, match=words):
            npu_guard.torch.land(model, x, tmp_path / "npu")
        assert not (tmp_path / "npu").exists()


class NormRelu(nn.BatchNorm2d):
    """A norm with its activation, as several libraries have it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(super().forward(x))


class Wrapped(nn.Module):
    """A norm inside of a module that is called with what the convolution gives."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.hardswish(self.norm(x))


@pytest.mark.parametrize("norm", [NormRelu, Wrapped])
def test_norms_that_do_more_than_their_values_train_as_before(norm: type[nn.Module], tmp_path: Path) -> None:
    """What comes out of their module is not what the norm gives, and its convolution may stay or change."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), norm(8)
            self.wide, self.bn2 = nn.Conv2d(8, 12, 19, padding=9), norm(12)
            self.head = nn.Linear(12 * 36, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.bn2(self.wide(self.bn1(self.stem(x))))
            return self.head(x.flatten(1))

    torch.manual_seed(0)
    model = Network().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2), nn.init.normal_(module.bias)
    done = npu_guard.torch.land(model, torch.randn(1, 3, 6, 6), tmp_path / "npu")
    assert done.proof.exported < 1e-6
    assert done.proof.training is not None
    assert done.proof.training < proving.TRAINING
    assert not done.manifest.refused
    assert not any(b.lost for b in done.manifest.blocks)


PADDED = nn.Sequential(nn.Conv2d(8, 8, 13, padding=6, groups=8), nn.ReLU())
NORMED = nn.Sequential(nn.Conv2d(8, 12, 1), nn.InstanceNorm2d(12, affine=True), nn.Conv2d(12, 8, 1))


class Margin(nn.Module):
    """A row of ones above the map."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, (0, 0, 1, 0), value=1.0)


@pytest.mark.parametrize(
    ("model", "device"), [(PADDED, "ti-tidl:AM68A"), (NORMED, "aimotive-aiware"), (Margin(), "qualcomm-htp")]
)
def test_what_an_exporter_folds_or_gives_one_sample_lands(model: nn.Module, device: str, tmp_path: Path) -> None:
    names = ["conv-padding-to-pad", "pad-to-concat"]
    done = npu_guard.torch.land(model, torch.randn(1, 8, 4, 4), tmp_path / "npu", profile=device, prefer=names)
    assert done.proof.same_bits
    assert not done.manifest.refused
    assert set(done.proof.network) == {1, 3}


def test_a_network_that_is_frozen_lands(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 19, padding=9, groups=8), nn.ReLU()).requires_grad_(False)
    done = npu_guard.torch.land(model, torch.randn(1, 8, 6, 5), tmp_path / "npu")
    assert done.proof.trained == 0
    assert not done.proof.without_gradient
    assert not any(p.requires_grad for p in npu_guard.torch.apply(model, done.folder).parameters())


def test_a_refusal_names_the_module_and_its_line(tmp_path: Path) -> None:
    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.rows, self.out = nn.Conv2d(3, 8, 19, padding=9), nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            rows, _ = self.rows(torch.relu(self.wide(x)).mean(2).transpose(1, 2))
            return self.out(rows[:, -1])

    torch.manual_seed(0)
    done = npu_guard.torch.land(Reading(), torch.randn(1, 3, 6, 6), tmp_path / "npu")
    line = 1 + Path(__file__).read_text().splitlines().index(
        "            rows, _ = self.rows(torch.relu(self.wide(x)).mean(2).transpose(1, 2))"
    )
    (refused,) = (r for r in done.manifest.refused if "recurrence-to-steps" in r.substitutions)
    assert re.match(rf"recurrence-to-steps\S* in rows \(\S*test_landing.py:{line}\): ", refused.reason)


def test_a_branch_on_data_is_refused(tmp_path: Path) -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1 if x.mean() > 0 else x

    with pytest.raises(UsageError, match=r"test_landing.py:\d+ in forward .* decides by what a tensor holds"):
        npu_guard.torch.land(Branch(), torch.ones(1, 3, 4, 4), tmp_path / "npu")
    assert not (tmp_path / "npu").exists()


def test_a_maximum_over_an_odd_map_lands_as_pools_that_round_up(tmp_path: Path) -> None:
    """In windows of 2 x 2, pool by pool: the last window reaches over the edge."""

    class Peak(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 3, padding=1)

        def forward(self, image: Tensor) -> Tensor:
            y: Tensor = self.conv(image)
            return y * torch.sigmoid(y.amax((2, 3), keepdim=True))

    network, x = Peak().eval(), torch.randn(2, 3, 17, 30) - 9  # all maxima are below zero, which pads of zero would be above
    with torch.no_grad():
        network.conv.weight.abs_()
    npu_guard.torch.land(network, x[:1], tmp_path / "npu", profile="ti-tidl:AM68A")
    assert "ceil_mode=True" in (tmp_path / "npu" / "blocks.py").read_text()
    wanted = outputs(network, x)
    assert close(wanted, outputs(npu_guard.torch.apply(network, tmp_path / "npu"), x), by=1e-6)


def test_gradients_are_tried_on_the_example_where_no_batch_is_taken(tmp_path: Path) -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.out = nn.Conv2d(8, 8, 19, padding=9, groups=8), nn.Linear(8 * 36, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.wide(x).view(1, -1))

    torch.manual_seed(0)
    done = npu_guard.torch.land(One(), torch.randn(1, 8, 6, 6), tmp_path / "npu")
    assert "the original does not take a batch of 3" in done.proof.notes
    assert done.proof.trained > 0
    assert not done.proof.without_gradient


def test_docstrings_give_the_shapes_that_blocks_take(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 20, 3, padding=1), nn.Conv2d(20, 20, 19, padding=9, bias=False), nn.Conv2d(20, 6, 1)
    ).eval()
    x = torch.randn(1, 3, 9, 8)
    done = npu_guard.torch.land(model, x, tmp_path / "npu", warnings=True)
    patched, seen = npu_guard.torch.apply(copy.deepcopy(model), tmp_path / "npu"), list[tuple[nn.Module, str]]()
    for block in done.manifest.blocks:
        patched.get_submodule(block.path).register_forward_hook(
            lambda module, given, made: seen.append((module, f"(B, {given[0].shape[1]}, 9, 8) to (B, {made.shape[1]}, 9, 8)"))
        )
    outputs(patched, x)
    written = [(type(m).__mro__[1].__doc__ or type(m).__doc__ or "", shapes) for m, shapes in seen]
    documented = [(text, shapes) for text, shapes in written if "Takes the place of" in text]
    assert any("(B, 24, 9, 8)" in shapes for _, shapes in documented)
    assert all(f"Shapes: {shapes}" in text for text, shapes in documented)


class Activated(nn.Module):
    """Slopes and gates by functions, on maps that get more channels."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 6, 1), nn.Conv2d(6, 8, 1)
        self.slopes, self.slope = nn.Parameter(torch.rand(12)), nn.Parameter(torch.full((1,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.prelu(self.one(x), self.slopes)
        y = self.two(y * nn.functional.hardsigmoid(y.mean((2, 3), keepdim=True)))
        return self.three(nn.functional.prelu(y, self.slope))


def test_activations_are_exported_again_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Activated()
    done = npu_guard.torch.land(model, {"x": torch.randn(1, 3, 8, 8)}, tmp_path / "npu")
    assert done.proof.same_bits
    assert not [n for n in done.proof.notes if n.startswith("exported again")]
    other = Activated()
    fresh = npu_guard.torch.apply(Activated(), done.folder)
    fresh.load_state_dict(npu_guard.torch.convert(other.state_dict(), Activated(), done.folder))
    x = torch.randn(2, 3, 8, 8)
    assert close(outputs(other, x), outputs(fresh, x))
