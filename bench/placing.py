"""What blocks of `npu_guard.torch.blocks` cost at each place of ResNetSAN01 at its real size, into docs/training.md.

A place is one of the encoder's maps; the skip fusion joins it to one of the decoder with as many channels. Parameters and MACs
are those that `check` counts on the exported block, for `aimotive-aiware`.

    python bench/placing.py --output docs/training.md
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from torch import nn

from npu_guard.models import resnetsan01
from npu_guard.pipeline.check import check_models
from npu_guard.project.config import Config
from npu_guard.project.export import export
from npu_guard.results.findings import ModelReport
from npu_guard.torch import blocks

HEAD = """| place | map | block | parameters | MACs | of the network | errors |
|---|---|---|---|---|---|---|"""
MADE = {"SE": blocks.SE, "ECA": blocks.ECA, "CBAM": blocks.CBAM, "AxialConv": blocks.AxialConv}


def places(model: nn.Module, inputs: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes of the encoder's maps by stride; nothing is computed, on torch's meta device."""
    (image,) = inputs.values()
    maps = model.get_submodule("encoder").to("meta")(image.to("meta"))
    return {f"stride {image.shape[2] // m.shape[2]}": tuple(m.shape) for m in maps}


def measured(module: nn.Module, shapes: list[tuple[int, ...]], folder: Path) -> ModelReport:
    """What `check` says of a module."""
    path = folder / "block.onnx"
    export(module.eval(), {f"x{i}": torch.zeros(shape) for i, shape in enumerate(shapes)}, path, exporter="legacy")
    return check_models([str(path)], Config(), remedies=False).models[0]


def share(part: float) -> str:
    """In percent."""
    return f"{100 * part:.2f} %" if part >= 1e-4 else "< 0.01 %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="the page whose table is replaced")
    options = parser.parse_args()
    torch.manual_seed(0)
    model, inputs = resnetsan01.build("full"), resnetsan01.inputs("full")
    lines = [HEAD]
    print(HEAD)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        whole = measured(model, [tuple(t.shape) for t in inputs.values()], folder).totals.macs
        found = places(model, inputs)
        for path, shape in found.items():
            channels, height, width = shape[1:]
            made = {name: kind(channels) for name, kind in MADE.items()}
            if height * width <= 64:
                made["SmallMapAttention"] = blocks.SmallMapAttention(channels, height, width)
            made["AttentiveSkipFusion"] = blocks.AttentiveSkipFusion(channels, channels, channels)
            for name, block in made.items():
                report = measured(block, [shape] * (2 if name == "AttentiveSkipFusion" else 1), folder)
                totals, errors = report.totals, sum(f.severity.value == "error" for f in report.findings)
                size = sum(p.numel() for p in block.parameters())
                lines.append(
                    f"| {path} | {channels} x {height} x {width} | {name} | {size:,} | {totals.macs:,} |"
                    f" {share(totals.macs / whole)} | {errors} |"
                )
                print(lines[-1], flush=True)
    if options.output is not None:
        text = options.output.read_text(encoding="utf-8")
        before, _, rest = text.partition("<!-- places -->\n")
        after = rest.partition("<!-- end of places -->")[2]
        options.output.write_text(
            "\n".join([f"{before}<!-- places -->", *lines, f"<!-- end of places -->{after}"]), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
