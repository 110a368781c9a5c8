"""Training mode of a network with blocks: norms between padded channels, functions of dropout, weights without a call."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn
from torch.nn import functional

import npu_guard.torch
from npu_guard.base.errors import NotVerified
from npu_guard.project.config import Config
from npu_guard.project.export import export
from npu_guard.training import attach, files, norms, proving, training_only, unfolding
from npu_guard.training.calls import Call, Finder, locate, record
from npu_guard.training.dropout import WithoutDropout
from npu_guard.training.graph import Graph
from npu_guard.training.landing import Options
from npu_guard.training.steps import Landed, land_in
from npu_guard.training.writer import Writer
from npu_guard.verification.runtime import Runtime


class Ghost(nn.Module):
    """Two maps of 6 channels behind each other, a depthwise convolution with a norm over them, a part that stays, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Sequential(nn.Conv2d(8, 6, 1, bias=False), nn.BatchNorm2d(6)) for _ in range(2))
        self.parts = nn.ModuleDict(
            {
                "wide": nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False),
                "norm": nn.BatchNorm2d(12),
                "stays": nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)),
            }
        )
        self.back, self.rate = nn.Conv2d(12, 8, 1), 0.25

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([torch.relu(self.one(x)), torch.relu(self.two(x))], 1)
        y = self.back(torch.relu(self.parts["norm"](self.parts["wide"](y)))) + x
        return functional.dropout(self.parts["stays"](y), self.rate, self.training)


class Seen(Ghost):
    """Gives the twelve channels as well, so that its own forward changes and calls what stays alone."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([torch.relu(self.one(x)), torch.relu(self.two(x))], 1)
        y = torch.relu(self.parts["norm"](self.parts["wide"](y)))
        peaks = torch.cat([self.parts["stays"](self.back(y) + x).amax(1, True), y.amax(1, True)], 1)
        return functional.dropout(peaks, self.rate, self.training)


def ghost(kind: type[nn.Module] = Ghost) -> nn.Module:
    torch.manual_seed(0)
    network = kind()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return network.eval()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Landed:
    x = torch.randn(1, 8, 7, 9, generator=torch.Generator().manual_seed(0))
    return land_in(ghost(), {"x": x}, tmp_path_factory.mktemp("ghost") / "npu", Options(Config()))


def test_norms_are_back_where_padding_lies_between_channels(done: Landed) -> None:
    """Behind the Concat, channels 6, 7, 14 and 15 are padding, and the norm's twelve are around them."""
    assert done.proof.same_bits
    assert done.proof.training is not None
    assert done.proof.training < proving.TRAINING
    assert not [name for b in done.manifest.blocks for name in b.lost if "BatchNorm" in name]


def test_a_norm_without_its_channels_is_refused(done: Landed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the first channels it would be another one, and without it training would be another."""
    monkeypatch.setattr(norms, "channels_of", lambda graph, op, norm: torch.arange(norm.num_features).numpy())
    with pytest.raises(NotVerified, match=r"norms would be folded into weights for good: parts\.norm \(BatchNorm2d\)"):
        land_in(ghost(), done.landing.inputs, tmp_path / "npu", Options(Config()))
    assert not (tmp_path / "npu").exists()


def test_statistics_move_as_they_did(done: Landed) -> None:
    pair = ghost(), npu_guard.torch.apply(ghost(), done.folder)
    x = torch.randn(6, 8, 7, 9)
    with WithoutDropout(), torch.no_grad():
        for model in pair:
            model.train()
            for _ in range(3):
                model(x)
        wanted, given = (model.eval()(x) for model in pair)
    assert proving.difference([wanted], [given]) < 1e-4


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, done: Landed) -> Landed:
    return land_in(ghost(Seen), done.landing.inputs, tmp_path_factory.mktemp("seen") / "npu", Options(Config()))


def test_dropout_by_a_function_is_named_where_it_is_gone_and_is_no_difference(done: Landed, seen: Landed) -> None:
    assert not done.proof.notes
    assert seen.proof.notes == ["dropout that a forward calls itself is gone: 1 call of dropout"]
    assert seen.proof.training is not None
    assert seen.proof.training < proving.TRAINING


def test_weights_that_nothing_calls_are_left_out_and_come_back(seen: Landed) -> None:
    assert not seen.proof.without_gradient
    assert [b.kind for b in seen.manifest.blocks] == ["forward"]
    model = ghost(Seen)
    keys, wide = set(model.state_dict()), model.get_submodule("parts.wide")
    npu_guard.torch.apply(model, seen.folder)
    assert "parts.stays.0.weight" in model.state_dict()
    assert "parts.wide.weight" not in model.state_dict()
    copied = copy.deepcopy(model)
    for changed in (model, copied):
        npu_guard.torch.remove(changed)
        assert set(changed.state_dict()) == keys
    assert model.get_submodule("parts.wide") is wide


def test_dropout_in_attention_and_of_modules_is_out() -> None:
    layer, x = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3).train(), torch.randn(3, 2, 8)
    assert not torch.equal(layer(x), layer(x))
    with WithoutDropout() as without:
        assert torch.equal(layer(x), layer(x))
        q = torch.randn(1, 2, 5, 4)
        attended = functional.scaled_dot_product_attention(q, q, q, dropout_p=0.5)
        assert torch.equal(functional.dropout(x, 0.5, False), x)
    assert without.calls == {"dropout": 6, "multi_head_attention_forward": 2, "scaled_dot_product_attention": 1}
    assert torch.allclose(attended, functional.scaled_dot_product_attention(q, q, q))


def test_no_tensor_has_a_name_of_the_exporters() -> None:
    """A buffer `val_3` of the network ends the second export: torch calls its own constants so."""
    writer = Writer(None, "Block", lambda _: False, {})  # type: ignore[arg-type]  # no graph is needed for names
    assert [writer.field(name) for name in ("val_82", "val_7", "interval_8", "val")] == [
        "constant", "constant_2", "interval_8", "val",
    ]  # fmt: skip


class Fresh(nn.Module):
    """Attention as it is before training: the bias behind it is zero, and so are those of norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 19, padding=9, groups=8, bias=False), nn.BatchNorm2d(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        t = torch.relu(self.norm(self.conv(x))).flatten(2).transpose(1, 2)
        return self.attention(t, t, t, need_weights=False)[0].transpose(1, 2).reshape(x.shape)


def test_biases_that_are_still_zero_are_kept_and_trained_weights_fit(tmp_path: Path) -> None:
    """Torch's exporter leaves a bias of zeros out; blocks without it would take no checkpoint of the trained network."""
    torch.manual_seed(0)
    x = torch.randn(1, 8, 6, 5)
    done = land_in(Fresh().eval(), {"x": x}, tmp_path / "npu", Options(Config()))
    tensors = [t for b in done.manifest.blocks for t in b.tensors if t.trained]
    assert any("attention.out_proj.bias" in t.sources for t in tensors)
    trained = Fresh().eval()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    patched = npu_guard.torch.apply(Fresh().eval(), tmp_path / "npu")
    patched.load_state_dict(npu_guard.torch.convert(trained.state_dict(), Fresh(), tmp_path / "npu"))
    with torch.no_grad():
        assert proving.difference([trained(x)], [patched(x)]) < 1e-5


def test_a_norm_goes_over_positions_in_any_order() -> None:
    """A map whose patches lie in its rows has the positions of a channel in another order: the statistics are the same."""
    norm = nn.BatchNorm2d(3).eval()
    x = torch.randn(2, 3, 4, 4)
    call = Call("norm", norm, [x], results=[norm(x).detach()])
    patches = call.results[0].reshape(2, 3, 2, 2, 2, 2).transpose(3, 4).reshape(2, 3, 4, 4).numpy()
    assert norms.frames_of(patches, call, np.arange(3)) == 1
    frames = call.results[0].reshape(2, 3, 2, 8).swapaxes(1, 2).reshape(2, 6, 8).numpy()
    assert norms.frames_of(frames, call, np.arange(3)) == 2
    assert norms.frames_of(patches[:, ::-1], call, np.arange(3)) == 0


class Drifting(nn.Module):
    """Blocks with large gains one after another: roundings of two runtimes are soon apart by more than any tolerance."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)) for _ in range(8))
        self.wide = nn.Conv2d(8, 8, 19, padding=9, groups=8)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = torch.sin(10 * step(x))
        return self.wide(x)


def test_modules_are_found_where_roundings_grow(tmp_path: Path) -> None:
    """Without norms in training mode, what is written anew would not be what it was."""
    torch.manual_seed(0)
    x = torch.randn(1, 8, 12, 12)
    network = Drifting().eval()
    export(network, {"x": x}, tmp_path / "x.onnx")
    graph = Graph.read(tmp_path / "x.onnx")
    with Runtime() as runtime:
        graph.run(runtime, {"x": x.numpy()})
    finder = Finder(graph.values)
    calls = record(network, {"x": x}, finder)
    locate(calls, graph, finder)
    assert [c.path for c in calls if c.outputs == [None]] == [f"steps.{i}.0" for i in range(8)]


def test_a_norm_behind_a_sum_changes_no_bit() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(500).eval()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_()
    norm.running_var.uniform_(1e-3, 3.0)
    x = torch.randn(1, 500, 3, 3)
    made = norms.refilled(Call("norm", norm, [x], results=[norm(x).detach()]), (1, 500, 3, 3), 1, np.arange(500))
    assert made is not None
    again = eval(made.constructor, {"nn": nn})
    again.load_state_dict({k: torch.from_numpy(p.array) for k, p in made.state.items()}, strict=False)
    assert torch.equal(again.eval()(x), x)


class Normed(nn.Module):
    """A norm that goes by the mean over all batches so far, behind a convolution that is split."""

    def __init__(self, **options: bool | None) -> None:
        super().__init__()
        self.wide, self.norm, self.back = (
            nn.Conv2d(8, 8, (1, 19), padding=(0, 9)),
            nn.BatchNorm2d(8, **options),
            nn.Conv2d(8, 4, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.back(self.norm(self.wide(x)))
        return result


def test_a_norm_without_momentum_goes_on_counting(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Normed(momentum=None)
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(4, 8, 6, 20))
    old = copy.deepcopy(network.eval())
    npu_guard.torch.land(network, torch.randn(1, 8, 6, 20), tmp_path / "npu")
    new, x = npu_guard.torch.apply(copy.deepcopy(old), tmp_path / "npu"), 3 * torch.randn(4, 8, 6, 20)
    assert new.norm.num_batches_tracked == 20
    with torch.no_grad():
        wanted, given = (model.train()(x) is not None and model.eval()(x) for model in (old, new))
    assert proving.difference([wanted], [given]) < 1e-4
    # A folder of before the counters were written is converted all the same.
    manifest = files.read_manifest(tmp_path / "npu")
    blocks = [replace(b, tensors=tuple(t for t in b.tensors if t.name != norms.COUNTER)) for b in manifest.blocks]
    files.write_manifest(replace(manifest, blocks=tuple(blocks)), tmp_path / "npu")
    npu_guard.torch.convert(old.state_dict(), Normed(momentum=None), tmp_path / "npu")


@pytest.fixture(scope="module")
def normed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    target = tmp_path_factory.mktemp("normed") / "npu"
    npu_guard.torch.land(Normed().eval(), torch.randn(1, 8, 6, 20), target)
    return target


def test_what_is_frozen_stays_frozen(normed: Path) -> None:
    for frozen in ({"wide.weight"}, {"norm.weight", "norm.bias"}, {"norm.bias", "wide.weight", "wide.bias"}):
        model = Normed()
        for name in frozen:
            model.get_parameter(name).requires_grad_(False)
        npu_guard.torch.apply(model, normed)
        new = {name for name, p in model.named_parameters() if not p.requires_grad}
        assert new >= {name for name in frozen if name.startswith("norm")}
        assert {n for n in new if n.startswith("wide") and n.endswith("weight")} == (
            {"wide.wide.weight", "wide.wide_2.weight"} if "wide.weight" in frozen else set()
        )
        assert not any(n.startswith("back") for n in new)
        assert ("wide.wide.bias" in new) == ("wide.bias" in frozen)


def test_a_norm_without_weights_gets_none_that_are_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    npu_guard.torch.land(Normed(affine=False).eval(), torch.randn(1, 8, 6, 20), tmp_path / "npu")
    new = npu_guard.torch.apply(Normed(affine=False), tmp_path / "npu")
    assert not any(p.requires_grad for p in new.norm.parameters())
    assert all(p.requires_grad for n, p in new.named_parameters() if n.endswith("weight") and not n.startswith("norm"))


def test_mixed_sources_are_named(normed: Path) -> None:
    manifest = files.read_manifest(normed)
    block = next(b for b in manifest.blocks if b.path == "wide")
    entry = replace(block.tensors[0], sources=("wide.weight", "norm.weight"))
    told = replace(manifest, blocks=(replace(block, tensors=(entry,)),))
    (said,) = attach.mixed_of(told, {"wide.weight": False, "norm.weight": True})
    assert said == f"wide.{entry.name} is trained, though it is computed from wide.weight as well, which is frozen"
    assert not attach.mixed_of(told, {"wide.weight": False, "norm.weight": False})


class Uneven(nn.Module):
    """Channels that hardly vary, one that its norm switches off, and more of them than the device takes one by one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide, self.norm = nn.Conv2d(8, channels, (1, 19), padding=(0, 9), bias=False), nn.BatchNorm2d(channels)
        self.out = nn.Conv2d(channels, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(torch.relu(self.norm(self.wide(x))))
        return result


def uneven(channels: int) -> nn.Module:
    torch.manual_seed(0)
    model = Uneven(channels).eval()
    norm = model.norm
    assert norm.running_var is not None
    with torch.no_grad():
        (
            norm.running_mean.normal_(std=0.1),
            norm.running_var.uniform_(0.5, 2.0),
            norm.weight.uniform_(0.5, 1.5),
            norm.bias.normal_(),
        )
        for channel, weak in ((2, 1e-3), (5, 1e-4)):
            model.wide.weight[channel] *= weak
            norm.running_mean[channel] *= weak
            norm.running_var[channel] *= weak**2
        norm.weight[3] = 0
    return model


@pytest.mark.parametrize("channels", [8, 12])
def test_a_norm_behind_a_split_kernel_is_the_one_that_was_there(channels: int, tmp_path: Path) -> None:
    """With one eps for channels of 1e-8 and of 1, training would be another; folded weights of zero would never come back."""
    old = uneven(channels)
    done = npu_guard.torch.land(old, torch.randn(1, 8, 6, 20), tmp_path / "npu")
    assert done.proof.training is not None
    assert done.proof.training < 1e-5
    new = npu_guard.torch.apply(copy.deepcopy(old), tmp_path / "npu")
    (norm,) = (m for m in new.modules() if isinstance(m, nn.BatchNorm2d))
    assert norm.eps == old.norm.eps
    for name, tensor in old.norm.state_dict().items():
        assert torch.equal(tensor, norm.state_dict()[name][..., :channels] if tensor.dim() else norm.state_dict()[name]), name
    taps = torch.cat([m.weight for m in new.wide.modules() if isinstance(m, nn.Conv2d)], -1)
    assert torch.equal(taps[:channels].sort(-1).values, old.wide.weight.sort(-1).values)
    assert not any(name.endswith("bias") for name, _ in new.wide.named_parameters())
    x = torch.randn(4, 8, 6, 20)
    grads = []
    for model in (old.train(), new.train()):
        model(x).square().mean().backward()
        grads.append((model.out.weight.grad[:, :channels], model.get_parameter("norm.weight").grad[:channels]))
    assert all(proving.difference([a], [b]) < 1e-4 for a, b in zip(*grads, strict=True))
    with torch.no_grad():
        assert proving.difference([old.eval()(x)], [new.eval()(x)]) < 1e-5


def test_what_stays_folded_is_refused_where_training_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a module that computes its weights: then the norm has one eps, which does not suit all channels."""
    monkeypatch.setattr(unfolding, "own_weights", lambda *_: None)
    with pytest.raises(NotVerified, match="training mode differs by"):
        npu_guard.torch.land(uneven(8), torch.randn(1, 8, 6, 20), tmp_path / "npu")
    even = Normed().eval()
    assert npu_guard.torch.land(even, torch.randn(1, 8, 6, 20), tmp_path / "npu").proof.same_bits


def test_weights_that_a_module_computes_stay_folded(tmp_path: Path) -> None:
    """Its parameter is not what it convolves with, which only the values tell."""

    class Halved(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return self._conv_forward(x, self.weight * 0.5, self.bias)

    model = Normed()
    model.wide = Halved(8, 8, (1, 19), padding=(0, 9))
    done = npu_guard.torch.land(model.eval(), torch.randn(1, 8, 6, 20), tmp_path / "npu")
    assert "norm" in {b.path for b in done.manifest.blocks}
    assert done.proof.training is not None
    assert done.proof.training < proving.TRAINING


def test_a_norm_behind_groups_of_a_transposed_kernel_has_its_channels(tmp_path: Path) -> None:
    """Padding lies behind each group of three, and the kernel is a sum of four: channels 3 and 7 are none of the norm."""

    class Grouped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.norm = nn.ConvTranspose2d(8, 6, 19, 2, 9, 1, groups=2), nn.BatchNorm2d(6)
            self.out = nn.Conv2d(6, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.out(functional.silu(self.norm(self.up(x))))
            return result

    torch.manual_seed(0)
    model = Grouped().eval()
    with torch.no_grad():
        model.norm.weight.copy_(torch.tensor([2e3, 1.0, -0.5, 0.0, 1.5, 0.7])), model.norm.bias.zero_()
        model.out.weight[:, 0] *= 1e-3  # the others are seen beside it
    done = npu_guard.torch.land(model, torch.randn(1, 8, 5, 5), tmp_path / "npu")
    assert not done.manifest.refused
    assert done.proof.training is not None
    assert done.proof.training < 1e-5
    new, x = npu_guard.torch.apply(copy.deepcopy(model), tmp_path / "npu"), torch.randn(4, 8, 5, 5)
    with torch.no_grad():
        wanted, given = (m.train()(x) for m in (model, new))
    assert all(proving.difference([a], [b]) < 1e-4 for a, b in zip(wanted.unbind(1), given.unbind(1), strict=True))


class Auxiliary(nn.Module):
    """A second head that is there in training alone, behind a convolution whose channels change."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.aux = nn.Conv2d(8, 12, 3, padding=1), nn.Conv2d(12, 8, 1), nn.Sequential(nn.Conv2d(12, 3, 1))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        y = torch.relu(self.body(x))
        return (self.head(y), self.aux(y)) if self.training else self.head(y)


def test_what_runs_in_training_alone_is_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(NotVerified, match="aux runs in training alone; land the network without it, train the old one"):
        npu_guard.torch.land(Auxiliary().eval(), torch.randn(1, 8, 6, 5), tmp_path / "npu")
    assert training_only.training_only(Auxiliary(), {"x": torch.randn(1, 8, 6, 5)}) == ["aux"]
    assert not training_only.training_only(nn.Sequential(nn.Conv2d(8, 8, 1), nn.Dropout()), {"x": torch.randn(1, 8, 6, 5)})
