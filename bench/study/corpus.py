"""The whole networks of the study: samples and networks of timm, by both of torch's exporters, float and quantized.

    python bench/study/corpus.py FOLDER [NAME ...]      write what is not in the folder yet

A network's name says what it is: `se`, `timm resnet18`, and behind it the spelling in parentheses: nothing for the legacy
exporter and its opset of 17, `dynamo` for the other one and its 20, `dynamo 18` for opset 18, and for what
onnxruntime.quantization makes of the first: `int8` with weights per channel, `int8 per tensor`, `int16` with activations of
16 bits. Weights are drawn. The networks of timm are those that the group `study` of pyproject.toml installs; where timm is
missing, the samples are the corpus.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npu_guard.base.errors import UsageError
from npu_guard.project.export import export
from npu_guard.zoo import samples

EXPORTS = {"": ("legacy", None), "dynamo": ("dynamo", None), "dynamo 18": ("dynamo", 18)}
"""Spelling: exporter and opset; None is the exporter's own, 17 of the legacy one where that has all operators."""
QUANTIZED = ("int8", "int8 per tensor", "int16")
TIMM = {
    64: (
        "resnet18", "resnet18+cbam", "resnet18+eca", "resnet18+se", "resnext50_32x4d", "gcresnext26ts", "eca_resnet33ts",
        "res2net50_14w_8s", "regnetx_002", "regnetz_b16", "mobilenetv3_small_050", "mobilenetv4_conv_small", "tf_efficientnet_b0",
        "fbnetc_100", "lcnet_035", "hardcorenas_a", "ghostnet_050", "repghostnet_050", "mobileone_s0", "convnext_atto",
        "convnextv2_atto", "inception_next_atto", "dpn48b", "selecsls42", "tresnet_m", "rdnet_tiny", "fastvit_t8", "caformer_s18",
        "efficientvit_b0",
    ),
    96: ("inception_v3",),
    128: ("shvit_s1",),
    160: ("test_vit", "test_byobnet", "test_nfnet"),
    224: (
        "vit_tiny_patch16_224", "swinv2_cr_tiny_224", "coatnet_nano_rw_224", "coat_lite_tiny", "xcit_nano_12_p16_224",
        "pit_ti_224", "mixer_s32_224", "resmlp_12_224", "tnt_s_patch16_224", "efficientformer_l1", "nest_tiny", "mvitv2_tiny",
        "hiera_tiny_224", "gcvit_xxtiny",
    ),
    256: ("botnet26t_256", "mobilevitv2_050"),
}  # fmt: skip
"""Networks by the side of their images; behind a plus the attention in their blocks."""


@dataclass(frozen=True)
class Network:
    """One network in one spelling."""

    base: str
    spelling: str = ""

    @property
    def name(self) -> str:
        """What the records call it."""
        return f"{self.base} ({self.spelling})" if self.spelling else self.base

    def path(self, folder: Path) -> Path:
        """Its file in a folder of exports."""
        return folder / f"{self.name.replace('(', '').replace(')', '').replace(' ', '_').replace('+', '_')}.onnx"


def networks() -> Iterator[Network]:
    """All of them, those of one network after each other."""
    bases = [entry.name for entry in samples.entries()]
    if importlib.util.find_spec("timm"):
        bases += [f"timm {name}" for names in TIMM.values() for name in names]
    for base in bases:
        yield from (Network(base, spelling) for spelling in (*EXPORTS, *QUANTIZED))


def write(network: Network, folder: Path) -> Path:
    """The file of a network, which is made where it is missing. Raises UsageError where it cannot be made."""
    path = network.path(folder)
    if path.is_file():
        return path
    if network.spelling in QUANTIZED:
        _quantize(write(Network(network.base), folder), path, network.spelling)
    else:
        exporter, opset = EXPORTS[network.spelling]
        module, inputs = _timm(network.base.removeprefix("timm ")) if network.base.startswith("timm ") else _sample(network.base)
        export(module, inputs, path, exporter=exporter, opset=opset)
    return path


def _sample(name: str) -> tuple[Any, Any]:
    system = samples.system(name)
    return system.build("tiny"), system.inputs("tiny")


def _timm(name: str) -> tuple[Any, Any]:
    """With weights drawn so that every branch carries a signal."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import torch
    from landing import imported_timm

    from npu_guard.models.blocks.seeding import seeded

    torch.set_num_threads(1)
    side = next(side for side, names in TIMM.items() if name in names)
    name, _, attention = name.partition("+")
    options = {"block_args": {"attn_layer": attention}} if attention else {}
    timm = imported_timm()
    model = seeded(lambda: timm.create_model(name, pretrained=False, num_classes=10, **options), 1)
    return model, {"input": torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))}


def _quantize(source: Path, path: Path, spelling: str) -> None:
    """Static QDQ by onnxruntime.quantization, as its documentation shows it, on drawn inputs."""
    import numpy as np
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from npu_guard.analysis.analyze import analyze
    from npu_guard.file.load import load
    from npu_guard.verification.feeds import input_specs, normal_feed

    feeds = [normal_feed(input_specs(analyze(load(str(source))).model.graph.inputs), seed) for seed in (0, 1)]

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            self._rest = iter(feeds)

        def get_next(self) -> dict[str, Any] | None:
            feed = next(self._rest, None)
            return None if feed is None else {name: np.asarray(array) for name, array in feed.items()}

    wide, each = spelling == "int16", spelling != "int8 per tensor"
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        ready, made = str(Path(scratch) / "ready.onnx"), str(Path(scratch) / "made.onnx")
        try:
            quant_pre_process(str(source), ready, skip_symbolic_shape=True)
            quantize_static(
                ready,
                made,
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=each,
                activation_type=QuantType.QUInt16 if wide else QuantType.QUInt8 if each else QuantType.QInt8,
                weight_type=QuantType.QInt8,
                extra_options={"UseQDQContribOps": wide},
            )
        except Exception as error:  # whatever the library raises: there is no such network then
            raise UsageError(f"not quantized: {' '.join(str(error).split())[:200]}") from error
        Path(made).replace(path)


def digest(path: Path) -> str:
    """What an answer was about: a hash of the operators and shapes, not of the weights, which no compiler's answer depends on."""
    import onnx

    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > 64:
            tensor.ClearField("raw_data")
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()[:16]


def main() -> None:
    """Write the networks that were named, or all."""
    folder, only = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    for network in networks():
        if (only and network.name not in only and network.base not in only) or network.path(folder).is_file():
            continue
        try:
            write(network, folder)
        except UsageError as error:
            print(f"{network.name}: {error}", flush=True)


if __name__ == "__main__":
    main()
