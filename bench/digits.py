"""Two sample networks trained on scikit-learn's digits and quantized for three devices: accuracy before and after.

`make digits` trains both from their seeds in a few minutes on a CPU, keeps nothing, and rewrites docs/digits.md. Group `study` of
pyproject.toml has what it needs besides torch and onnxruntime.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import torch
from sklearn.datasets import load_digits

from npu_guard.checking import registry
from npu_guard.models.blocks import mobilenet, resnet
from npu_guard.models.blocks.seeding import seeded
from npu_guard.pipeline.quantize import Quantization, quantize_model
from npu_guard.project.config import Config
from npu_guard.project.export import export
from npu_guard.reports.quantize.text import scheme_text
from npu_guard.results.findings import Severity

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "digits.md"
DEVICES = ("qualcomm-htp", "amd-dpu:DPUCZDX8G", "ort-nnapi")
"""Three schemes: asymmetric with channels, powers of two with one scale, unsigned with channels at convolutions alone."""
TESTED, CALIBRATED = 360, 64
NETWORKS = {
    "resnet18": (lambda: resnet.ResNetClassifier(resnet.WIDTHS, 10), 3),
    "mobilenet-v2": (lambda: mobilenet.MobileNetV2(classes=10), 10),
}
"""How each is built, with ten classes, and epochs of training."""


class Times(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1797 images [N, 3, 32, 32] around 0, and what they show, in an order that a seed gives."""
    loaded = load_digits()
    order = np.random.default_rng(0).permutation(len(loaded.target))
    images = np.kron(loaded.images / 8.0 - 1.0, np.ones((1, 4, 4)))[order].astype(np.float32)
    return np.repeat(images[:, None], 3, axis=1), loaded.target[order]


def trained(name: str, images: np.ndarray, labels: np.ndarray) -> torch.nn.Module:
    """The network in eval mode."""
    build, epochs = NETWORKS[name]
    torch.manual_seed(0)
    model = seeded(build, seed=1).train()
    for module in model.modules():  # a fresh start: the sample's weights are drawn for signal, not for training
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    batches = len(x) // 64
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * batches)
    for _ in range(epochs):
        for chosen in torch.randperm(len(x))[: batches * 64].split(64):
            loss = torch.nn.functional.cross_entropy(model(x[chosen]), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def accuracy(path: Path, images: np.ndarray, labels: np.ndarray) -> float:
    """Percent of images that a model file tells right."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    right = [
        int(session.run(None, {given.name: image[None]})[0].argmax()) == label
        for image, label in zip(images, labels, strict=True)
    ]
    return 100.0 * sum(right) / len(right)


def rows(name: str, folder: Path, images: np.ndarray, labels: np.ndarray) -> tuple[list[str], Times]:
    """Lines of the table of one network, and how long its training took."""
    began = time.perf_counter(), time.process_time()
    model = trained(name, images[TESTED:], labels[TESTED:])
    taken = Times(time.perf_counter() - began[0], time.process_time() - began[1])
    path = folder / f"{name}.onnx"
    export(model, {"image": torch.from_numpy(images[:1])}, path, root=ROOT)
    np.savez(folder / "data.npz", image=images[TESTED : TESTED + CALIBRATED])
    before = accuracy(path, images[:TESTED], labels[:TESTED])
    found = [f"| {name} | floating point | {before:.1f} | | | |"]
    for device in DEVICES:
        result: Quantization = quantize_model(str(path), registry.profile(device), Config(profile=device), folder / "data.npz")
        out = folder / "int8.onnx"
        out.write_bytes(result.content)
        errors = sum(f.severity is Severity.ERROR and f.suppressed is None for f in result.report.findings)
        after = accuracy(out, images[:TESTED], labels[:TESTED])
        least = min(result.outputs.values())
        share = 100.0 * result.shares.integer_macs / result.shares.macs
        found.append(f"| | {device}: {scheme_text(result.scheme)} | {after:.1f} | {least:.1f} | {share:.1f} | {errors} |")
        print(found[-1], flush=True)
    return found, taken


def main() -> None:
    """Train, quantize, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--output", type=Path, default=PAGE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums of several threads are in another order, and the networks would be others
    images, labels = digits()
    table: list[str] = []
    taken: dict[str, Times] = {}
    with tempfile.TemporaryDirectory(prefix="npu-guard-") as scratch:
        for name in arguments.networks:
            found, taken[name] = rows(name, Path(scratch), images, labels)
            print(f"{name} was trained in {taken[name].wall:.0f} s, {taken[name].cpu:.0f} s of CPU", flush=True)
            table += found
    each = " and ".join(f"{t.cpu:.0f} s for {name}" for name, t in taken.items())
    cpu = sum(t.cpu for t in taken.values())
    trained_in = f"Training both took {cpu:.0f} s of one core of a small machine: {each}."
    arguments.output.write_text(TEXT.format(training=trained_in) + "\n".join(table) + "\n", encoding="utf-8")


TEXT = f"""# Digits in integers

Written by `make digits`. The sample networks ResNet-18 and MobileNetV2, with ten classes, trained from their seeds on
scikit-learn's digits at 32 x 32 and quantized by `npu-guard quantize` for three devices whose schemes differ, with
{CALIBRATED} images of calibration. Accuracy is on {TESTED} images that neither training nor calibration saw; errors are
those of `check` on the quantized network.

{{training}}

| network | quantized for | accuracy, % | outputs, dB | MACs in integers, % | errors |
|---|---|---|---|---|---|
"""


if __name__ == "__main__":
    main()
