"""Networks that onnxruntime has quantized beside their float twins: findings are those of the twin but for the 8xx.

    python bench/timm_networks.py FOLDER
    python bench/quantized_findings.py FOLDER --devices aimotive-aiware,qualcomm-htp
    python bench/quantized_findings.py FOLDER --by nncf,quark

Each network is quantized by onnxruntime's `quantize_static` on drawn numbers: as QDQ and as QOperator, with one scale for each
tensor and for each channel of weights, with activations of 8 and of 16 bits. Findings are compared by rule, severity, outcome and
node; of nodes that onnxruntime takes into others, such as a Relu, the twin's have no counterpart. What differs is printed, but
for what a device file states of integers alone: limits on the types of integers together, and groups that are one operator in
floating point (a note there) and that pairs between them take apart. NNCF and AMD Quark quantize in two and three presets, where
they are installed (nncf 3.4, amd-quark 0.13); what Quark rewrites before, such as a BatchNormalization to a Conv, is another
network, whose findings are others.
"""

from __future__ import annotations

import argparse
import collections
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import onnx
from mending import files
from mending_int8 import feed
from onnxruntime import quantization

from npu_guard import check

DEVICES = ("aimotive-aiware", "ort-nnapi", "ethos-u85", "nvidia-dla", "qualcomm-htp", "ti-tidl:AM68A")
Found = collections.Counter[tuple[str, str, str, str]]


class Way(NamedTuple):
    """One way of onnxruntime."""

    form: str
    channels: bool
    bits: int

    def __str__(self) -> str:
        return f"{self.form} with a scale for each {'channel' if self.channels else 'tensor'}, {self.bits} bits"


WAYS = [Way(form, channels, bits) for form in ("QDQ", "QOperator") for channels in (False, True) for bits in (8, 16)]
WAYS = [way for way in WAYS if way.form == "QDQ" or way.bits == 8]  # onnxruntime has no QOperator of 16 bits


def by_nncf(file: Path, preset: str, output: Path) -> None:
    """Write the network as NNCF quantizes it. Raises what it raises."""
    import nncf

    data = nncf.Dataset([feed(file, seed) for seed in range(2)])
    made = nncf.quantize(onnx.load(file), data, preset=getattr(nncf.QuantizationPreset, preset), subset_size=2)
    onnx.save(made, output)


def by_quark(file: Path, preset: str, output: Path) -> None:
    """Write the network as AMD Quark quantizes it. Raises what it raises."""
    from quark.onnx import ModelQuantizer
    from quark.onnx.quantization.config import Config, get_default_config

    config = Config(global_quant_config=get_default_config(preset))
    ModelQuantizer(config).quantize_model(str(file), str(output), Reader(file))


class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Two drawn inputs."""

    def __init__(self, file: Path) -> None:
        self.rest: Iterator[dict[str, Any]] = iter([feed(file, seed) for seed in range(2)])

    def get_next(self) -> dict[str, Any] | None:
        """The next one."""
        return next(self.rest, None)


def quantized(file: Path, way: Way, output: Path) -> None:
    """Write the quantized network. Raises what onnxruntime raises."""
    kinds = quantization.QuantType
    logging.disable(logging.WARNING)
    quantization.quantize_static(
        str(file), str(output), Reader(file), quant_format=getattr(quantization.QuantFormat, way.form), per_channel=way.channels,
        activation_type=kinds.QUInt8 if way.bits == 8 else kinds.QUInt16, weight_type=kinds.QInt8,
        extra_options={"UseQDQContribOps": way.bits == 16, "WeightSymmetric": True},
    )  # fmt: skip
    logging.disable(logging.NOTSET)


Quantizer = Callable[[Path, Any, Path], None]
BY: Mapping[str, tuple[Quantizer, Sequence[Any]]] = {
    "onnxruntime": (quantized, WAYS),
    "nncf": (by_nncf, ("PERFORMANCE", "MIXED")),
    "quark": (by_quark, ("XINT8", "A8W8", "A16W8")),
}
"""What quantizes, and its ways."""


def findings(file: Path, device: str) -> Found:
    """Those that are not about quantization, by rule, severity, outcome and the node's name in the float network."""
    found: Found = collections.Counter()
    report = check(str(file), profile=device)
    if report.verdict == "unreadable":
        raise SystemExit(f"{report.headline}")
    for f in report.findings:
        if not f.rule.startswith("NPU8") and "quantized" not in f.message:
            found[f.rule, f.severity.value, f.outcome.value, f.location.node.removesuffix("_quant")] += 1
    return found


def nodes(file: Path) -> set[str]:
    """Names of operators that compute, as in the float network."""
    return {n.name.removesuffix("_quant") for n in onnx.load(file, load_external_data=False).graph.node}


def differences(file: Path, made: Path, plain: Found, device: str) -> list[str]:
    """Findings of one side alone, at nodes that both have."""
    plain, twin, both = plain.copy(), findings(made, device), nodes(file) & nodes(made)
    groups = {node for _, severity, _, node in plain if severity == "note"}
    for found in (plain, twin):
        for key in [key for key in found if key[3] in groups]:
            del found[key]
    sides = (("float", plain - twin), ("int8", twin - plain))
    return [f"{side}: {' '.join(key)}" for side, found in sides for key in found if key[3] in both or side == "int8"]


def main() -> int:
    """Print what differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--devices", default=",".join(DEVICES))
    parser.add_argument("--by", default="onnxruntime", help=f"what quantizes, with commas: {', '.join(BY)}")
    options = parser.parse_args()
    ways = [(by, BY[by][0], way) for by in options.by.split(",") for way in BY[by][1]]
    compared, different, known = 0, 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        for file in files(options.models):
            own = {device: findings(file, device) for device in options.devices.split(",")}
            for number, (by, quantizer, way) in enumerate(ways):
                made = Path(scratch) / f"{file.stem}-{number}.onnx"
                words = f"{file.stem} by {by}, {way}"
                try:
                    quantizer(file, way, made)
                    onnx.checker.check_model(str(made))
                except Exception as error:  # what a quantizer raises is its own
                    print(f"{words}: not quantized: {str(error)[:120]}", flush=True)
                    continue
                for device, plain in own.items():
                    compared, known = compared + 1, known + sum(plain.values())
                    told = differences(file, made, plain, device)
                    different += bool(told)
                    for line in told:
                        print(f"{words}, {device}: {line}", flush=True)
                made.unlink()
            print(
                f"{file.stem}: {compared} pairs compared, with {known} findings of the float twins; {different} differ",
                flush=True,
            )
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
