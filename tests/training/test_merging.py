"""Norms behind sums of convolutions: operators in training, and in the weights of what is exported, as in the fixed file."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import npu_guard
import npu_guard.torch
from npu_guard.base.errors import NotVerified, UsageError
from npu_guard.project.config import Config
from npu_guard.project.export import EXPORT_FORM
from npu_guard.training import attach, files, merging, proving
from npu_guard.training.graph import Array, Graph
from npu_guard.training.landing import Options
from npu_guard.training.steps import Landed, land_in
from npu_guard.verification.runtime import Runtime


class Taps(nn.Module):
    """A depthwise kernel of 19 taps without a bias, which is split, its norm beside it, and a list with both in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.norm = nn.Conv2d(8, 8, (1, 19), padding=(0, 9), groups=8, bias=False), nn.BatchNorm2d(8)
        self.more = nn.Sequential(nn.Conv2d(8, 16, (19, 1), padding=(9, 0), groups=2), nn.BatchNorm2d(16, eps=1e-3))
        self.up, self.last = nn.ConvTranspose2d(16, 6, (1, 19), (1, 2), (0, 9), (0, 1), groups=2), nn.BatchNorm2d(6)
        self.out = nn.Conv2d(6, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.more(torch.relu(self.norm(self.wide(x))))
        result: Tensor = self.out(torch.relu(self.last(self.up(torch.relu(y)))))
        return result


class Abs(nn.BatchNorm2d):
    """A norm with something behind it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).abs()


def taps() -> nn.Module:
    torch.manual_seed(0)
    network = Taps().eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_(std=0.3)
            norm.running_var.uniform_(0.3, 2.0)
            nn.init.uniform_(norm.weight, -1.5, 1.5)
            nn.init.normal_(norm.bias)
    return network


X = torch.randn(1, 8, 7, 11, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Landed:
    target = tmp_path_factory.mktemp("taps")
    return land_in(taps(), {"x": X}, target / "npu", Options(Config()), target / "fixed.onnx")


def ran(model: nn.Module, file: Path, x: Tensor = X) -> tuple[Counter[str], Array]:
    """Operators of its export, and what that gives."""
    npu_guard.export(model, file, {"x": x})
    return run(file, x)


def run(file: Path, x: Tensor = X) -> tuple[Counter[str], Array]:
    graph = Graph.read(file)
    with Runtime() as runtime:
        (values,) = runtime.run(*graph.document.runnable(), [{"x": x.numpy()}])
    return Counter(op.type for op in graph.ops), values[graph.outputs[0]]


def test_an_export_is_the_fixed_file_bit_for_bit(done: Landed, tmp_path: Path) -> None:
    assert done.proof.same_bits
    assert not done.proof.notes
    merges = [m for b in done.manifest.blocks for m in b.merges]
    assert {len(m.weights) for m in merges} == {2}
    assert {"norm", "more.1"} < {m.norm for m in merges}
    model = npu_guard.torch.apply(taps(), done.folder)
    operators, values = ran(model, tmp_path / "again.onnx")
    wanted = run(done.folder.parent / "fixed.onnx")
    assert operators == wanted[0]
    assert "BatchNormalization" not in operators
    assert np.array_equal(values, wanted[1])
    assert np.array_equal(values, ran(pickle.loads(pickle.dumps(model)), tmp_path / "again.onnx")[1])


def test_training_goes_over_the_sum_and_what_is_exported_then_is_the_trained_network(done: Landed, tmp_path: Path) -> None:
    old, model = taps(), npu_guard.torch.apply(taps(), done.folder)
    assert done.proof.training is not None
    assert done.proof.training < 1e-5
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(4):
        model.train()(torch.randn(4, 8, 7, 11)).square().mean().backward()
        optimizer.step()
    state = copy.deepcopy(model.state_dict())
    operators, values = ran(model, tmp_path / "trained.onnx")
    assert "BatchNormalization" not in operators
    with torch.no_grad():
        wanted = model.eval()(X)
        assert proving.difference([old(X)], [wanted]) > 0.1
    assert proving.difference([wanted], [torch.from_numpy(values)]) < 1e-5
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())  # the export is of a copy


def test_a_network_inside_of_another_is_exported_so_too(done: Landed, tmp_path: Path) -> None:
    class Holder(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = self.again = inner

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.inner(x) + 0 * self.again(x)
            return result

    holder = Holder(npu_guard.torch.apply(taps(), done.folder))
    assert "BatchNormalization" not in ran(holder, tmp_path / "holder.onnx")[0]
    assert EXPORT_FORM in holder.inner.__dict__
    later = Holder(npu_guard.torch.apply(taps(), done.folder, swap_at_export=True))
    operators, values = ran(later, tmp_path / "later.onnx")
    assert "BatchNormalization" not in operators
    assert np.array_equal(values, run(done.folder.parent / "fixed.onnx")[1])


def test_what_torch_exports_itself_is_the_same_function(done: Landed) -> None:
    model = npu_guard.torch.apply(taps(), done.folder)
    made = npu_guard.torch.exported(model)
    assert made is not model
    assert sum(isinstance(m, nn.Identity) for m in made.modules()) == 3
    with torch.no_grad():
        assert proving.difference([model(X)], [made(X)]) < 1e-6


def test_what_is_not_as_it_was_written_stays_an_operator(done: Landed, tmp_path: Path) -> None:
    """A hook that looks at the norm, weights that are computed, norms without statistics, with more to do, and gone."""
    model = npu_guard.torch.apply(taps(), done.folder)
    assert isinstance(model.norm, nn.BatchNorm2d)
    model.norm.register_forward_hook(lambda module, args, result: 2 * result)
    nn.utils.parametrizations.weight_norm(next(m for m in model.more.modules() if isinstance(m, nn.Conv2d)))
    operators, values = ran(model, tmp_path / "hooked.onnx")
    assert operators["BatchNormalization"] == 2
    with torch.no_grad():
        assert proving.difference([model(X)], [torch.from_numpy(values)]) < 1e-5
    other = npu_guard.torch.apply(taps(), done.folder)
    other.norm, other.more[1] = nn.Identity(), nn.BatchNorm2d(16, track_running_stats=False)
    made = npu_guard.torch.exported(other)
    with torch.no_grad():
        assert proving.difference([other.eval()(X)], [made.eval()(X)]) < 1e-6
    assert isinstance(made.more[1], nn.BatchNorm2d)
    third = npu_guard.torch.apply(taps(), done.folder)
    third.norm, third.more[1] = Abs(8).eval(), nn.BatchNorm2d(17)
    assert isinstance(npu_guard.torch.exported(third).norm, Abs)
    assert isinstance(npu_guard.torch.exported(third).more[1], nn.BatchNorm2d)


def test_wrong_arithmetic_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where weights are scaled otherwise than in the fixed file, the norm stays an operator, and the note says so."""
    monkeypatch.setattr("npu_guard.training.sums.scale_of", lambda weight, variance, epsilon: weight / np.sqrt(variance + 1e-2))
    late = land_in(taps(), {"x": X}, tmp_path / "npu", Options(Config()))
    assert not late.proof.same_bits
    assert late.proof.notes[0].startswith("3 norms stay operators behind")
    assert not any(b.merges for b in late.manifest.blocks)


def test_a_copy_that_is_another_function_does_not_land(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(merging, "merged_bias", lambda own, scale, bias, mean: own * scale + bias)
    with pytest.raises(NotVerified, match="exported again, it differs from the fixed file"):
        land_in(taps(), {"x": X}, tmp_path / "npu", Options(Config()))


def test_code_that_was_edited_is_told_and_its_norms_stay_operators(done: Landed, tmp_path: Path) -> None:
    folder = tmp_path / "npu"
    folder.mkdir()
    for file in done.folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    blocks = folder / files.BLOCKS
    text = blocks.read_text()
    blocks.write_text("# of mine\n" + text.replace('"""Takes the place', '"""Is in the place').replace("(x)\n", "(x)  # here\n"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert EXPORT_FORM in npu_guard.torch.apply(taps(), folder).__dict__
    blocks.write_text(
        text.replace("eps=0.001", "eps=0.1").replace("def forward(self, x: Tensor)", "def forward(self, x: Tensor, /)")
    )
    with pytest.warns(UserWarning, match=r"blocks\.py: was edited, and README\.md tells what is known of what was written"):
        model = npu_guard.torch.apply(taps(), folder)
    assert ran(model, tmp_path / "edited.onnx")[0]["BatchNormalization"] == 3
    manifest = folder / files.NAME
    lines = [line for line in manifest.read_text().splitlines() if not line.strip().startswith('"blocks.py"')]
    manifest.write_text("\n".join(lines))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert EXPORT_FORM not in npu_guard.torch.apply(taps(), folder).__dict__


def test_blocks_come_out_again(done: Landed) -> None:
    model = npu_guard.torch.apply(taps(), done.folder)
    with pytest.raises(UsageError, match="has its block already"):
        npu_guard.torch.apply(model, done.folder, swap_at_export=True)
    npu_guard.torch.remove(model)
    assert not any(EXPORT_FORM in m.__dict__ for m in model.modules())
    assert attach.BEFORE not in model.__dict__


def test_a_network_that_cannot_be_copied_is_exported_with_its_norms(done: Landed, tmp_path: Path) -> None:
    """As one that keeps what it gave in training."""
    model = npu_guard.torch.apply(taps(), done.folder)
    model.kept = model(X)
    with pytest.warns(
        UserWarning, match=r"Taps cannot be copied \(RuntimeError: .*norms behind sums of convolutions stay operators"
    ):
        operators = ran(model, tmp_path / "kept.onnx")[0]
    assert operators["BatchNormalization"] == 3
