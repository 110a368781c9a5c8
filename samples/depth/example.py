"""The whole way of a depth network to a device: train, check, land, heal, fine-tune, export, check, int8.

    python samples/depth/example.py --seeds 0 --reports .bench/example

Writes the table of docs/depth.md where `--output` names it, and HTML reports before and after. Everything has a seed.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import npu_guard
import npu_guard.torch
from npu_guard.checking import registry
from npu_guard.pipeline.quantize import quantize_model
from npu_guard.project.config import Config

sys.path.insert(0, str(Path(__file__).resolve().parent))

import depthnet
from scenes import scenes

DEVICE = "aimotive-aiware"
TRAINED, TESTED, EPOCHS, BATCH = 2000, 300, 8, 32
APPROXIMATE = ("self-attention-to-axial-conv", "eca-to-bottleneck-se", "spatial-gate-removal")
"""What takes the place of attention, ECA and the spatial gate of CBAM where it only has to come close; the rest is exact."""
Row = tuple[str, float, float, float, int, int]
"""Stage, Abs Rel, RMSE in metres, share within 1.25, errors on the device, operators."""


class Data:
    """Scenes to train on, and others that nothing but the measurement sees."""

    def __init__(self) -> None:
        self.images, self.depths = map(torch.from_numpy, scenes(TRAINED, seed=1))
        self.test_images, self.test_depths = map(torch.from_numpy, scenes(TESTED, seed=2))

    def epochs(self, count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
        """Batches of images and depths, in another order for each epoch."""
        generator = torch.Generator().manual_seed(seed)
        orders = [torch.randperm(TRAINED, generator=generator) for _ in range(count)]
        return [(self.images[part], self.depths[part]) for order in orders for part in order.split(BATCH)]

    def figures(self, predict: Callable[[Tensor], Tensor]) -> tuple[float, float, float]:
        """Abs Rel, RMSE in metres and the share of pixels within 1.25, over the test scenes one by one."""
        with torch.no_grad():
            found = torch.cat([predict(image) for image in self.test_images.split(1)]).clamp_min(1e-3)
        wanted = self.test_depths
        ratio = torch.maximum(found / wanted, wanted / found)
        error = found - wanted
        return float((error.abs() / wanted).mean()), float(error.pow(2).mean().sqrt()), float((ratio < 1.25).float().mean())

    def rmse(self, model: nn.Module) -> float:
        """RMSE in metres: what `heal` reports before and after."""
        return self.figures(model.eval())[1]


def loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean difference of logarithms, and a tenth of that in metres."""
    return (found.clamp_min(1e-3).log() - wanted.log()).abs().mean() + 0.1 * (found - wanted).abs().mean()


def of_file(path: Path) -> Callable[[Tensor], Tensor]:
    """What ONNX Runtime makes of a model file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: torch.from_numpy(session.run(None, {name: image.numpy()})[0])


class Run:
    """One seed through all stages, a row for each."""

    def __init__(self, data: Data, seed: int, folder: Path) -> None:
        self.data, self.seed, self.folder, self.rows = data, seed, folder, list[Row]()

    def row(self, stage: str, predict: Callable[[Tensor], Tensor], model: nn.Module | Path) -> None:
        """Measure and note; errors are those of `check` on what the network is exported to."""
        path = model
        if isinstance(model, nn.Module):
            path = npu_guard.export(model.eval(), self.folder / "stage.onnx", depthnet.inputs())
        report = npu_guard.check(path, profile=DEVICE)
        self.rows.append((stage, *self.data.figures(predict), len(report.errors), operators(Path(path))))
        print(as_line(self.seed, self.rows[-1]), flush=True)

    def run(self, reports: Path | None) -> list[Row]:
        """All stages."""
        data, seed, folder = self.data, self.seed, self.folder
        torch.manual_seed(seed)
        model = depthnet.DepthNet()
        npu_guard.torch.fine_tune(model, data.epochs(EPOCHS, seed), loss, rate=4e-3, seed=seed)
        self.row("trained", model, model)
        original = npu_guard.export(model, folder / "original.onnx", depthnet.inputs())
        np.savez(folder / "data.npz", image=data.images[:24, None].numpy())

        npu_guard.torch.land(model, depthnet.inputs(), folder / "exact", profile=DEVICE)
        exact = npu_guard.torch.apply(copy.deepcopy(model), folder / "exact")
        self.row("landed, exact blocks", exact, exact)
        exact_file = npu_guard.export(exact, folder / "exact.onnx", depthnet.inputs())
        self.integers("the same in int8", exact_file)

        done = npu_guard.torch.land(
            model, depthnet.inputs(), folder / "close", profile=DEVICE, approximate=True, calibration=folder / "data.npz",
            prefer=APPROXIMATE,
        )  # fmt: skip
        used = {name for block in done.manifest.blocks for name in block.substitutions}
        print(f"seed {seed}: approximate blocks {', '.join(sorted(used & set(APPROXIMATE)))}", flush=True)
        model_close = npu_guard.torch.apply(copy.deepcopy(model), folder / "close")
        self.row("landed, approximate blocks", model_close, model_close)
        unlabelled = list(data.images[: TRAINED // 2].split(BATCH))
        healed = npu_guard.torch.heal(model_close, model, unlabelled, seed=seed, metric=data.rmse)
        for block in healed.blocks:
            print(f"seed {seed}: {block.path} {block.before:.1f} to {block.after:.1f} dB", flush=True)
        self.row("healed", model_close, model_close)
        npu_guard.torch.fine_tune(model_close, data.epochs(1, seed + 100), loss, rate=1e-3, seed=seed)
        self.row("fine-tuned for an epoch", model_close, model_close)
        exported = npu_guard.export(model_close, folder / "close.onnx", depthnet.inputs())
        self.row("exported, in ONNX Runtime", of_file(exported), exported)
        self.integers("in int8", exported)
        npu_guard.torch.fine_tune(model, data.epochs(1, seed + 100), loss, rate=1e-3, seed=seed)
        self.row("for comparison: the original, an epoch more", model, model)
        if reports is not None:
            write_reports(reports, original, exact_file, exported)
        return self.rows

    def integers(self, stage: str, path: Path) -> None:
        """Quantize with 64 training images and measure."""
        np.savez(self.folder / "many.npz", image=self.data.images[:64, None].numpy())
        made = quantize_model(str(path), registry.profile(DEVICE), Config(profile=DEVICE), self.folder / "many.npz")
        integers = self.folder / "int8.onnx"
        integers.write_bytes(made.content)
        self.row(stage, of_file(integers), integers)


def operators(path: Path) -> int:
    """Operators of a file."""
    import onnx

    return len(onnx.load(path, load_external_data=False).graph.node)


def write_reports(folder: Path, original: Path, exact: Path, close: Path) -> None:
    """The HTML reports of the network as trained and of both fixed ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in (("before", original), ("after-exact", exact), ("after-approximate", close)):
        (folder / f"{name}.html").write_text(npu_guard.check(path, profile=DEVICE).render("html"), encoding="utf-8")
        print(f"wrote {folder / name}.html")


def as_line(seed: int | str, row: Sequence[float | str]) -> str:
    """A line of the table."""
    stage, relative, rmse, share, errors, count = row
    return f"| {seed} | {stage} | {relative:.4f} | {rmse:.3f} | {100 * float(share):.1f} | {errors} | {count} |"


def mean_of(runs: Sequence[Sequence[Row]]) -> list[Row]:
    """The mean of each stage over the seeds."""
    means: list[Row] = []
    for rows in zip(*runs, strict=True):
        relative, rmse, share = (statistics.fmean(float(row[i]) for row in rows) for i in (1, 2, 3))
        means.append((rows[0][0], relative, rmse, share, max(row[4] for row in rows), max(row[5] for row in rows)))
    return means


HEAD = """| seed | stage | Abs Rel | RMSE, m | within 1.25, % | errors | operators |
|---|---|---|---|---|---|---|"""


def main() -> None:
    """Run the seeds, print each stage, and put the table into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--reports", type=Path)
    parser.add_argument("--output", type=Path, help="the page whose table is replaced")
    options = parser.parse_args()
    data = Data()
    print(HEAD, flush=True)
    runs = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory(prefix="npu-guard-") as folder:
            runs.append(Run(data, seed, Path(folder)).run(options.reports if seed == options.seeds[0] else None))
    print(f"{time.process_time():.0f} s of processor time")
    lines = [as_line(seed, row) for seed, rows in zip(options.seeds, runs, strict=True) for row in rows]
    if len(runs) > 1:
        lines += [as_line("mean", row) for row in mean_of(runs)]
    if options.output is not None:
        text = options.output.read_text(encoding="utf-8")
        before, _, rest = text.partition("<!-- depth -->\n")
        after = rest.partition("<!-- end of depth -->")[2]
        table = "\n".join([HEAD, *lines])
        options.output.write_text(f"{before}<!-- depth -->\n{table}\n<!-- end of depth -->{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
