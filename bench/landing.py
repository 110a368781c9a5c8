"""Where fixes land in PyTorch: every sample network at test size, and networks of timm where that is installed.

    pip install --no-deps timm torchvision; pip install pillow
    python bench/landing.py --timm resnet18 ... --output docs/landing.md

Each network is exported, fixed, landed and proven as `fix --torch` does it; a place is a group of operators that changed.
Rows are kept in `.bench/landing.jsonl` and taken from there while the code is the same, so that a run that was ended goes on.
timm only wants names of torchvision, so a build for another torch, whose kernels do not load, is good enough.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import npu_guard.torch
from npu_guard.base.errors import NotVerified, UsageError
from npu_guard.models.blocks.seeding import seeded
from npu_guard.project.config import Config
from npu_guard.training.landing import Options, find_landing
from npu_guard.zoo import samples

TIMM = (
    "convnext_atto", "ecaresnet26t", "edgenext_xx_small", "efficientnet_lite0", "ghostnet_050", "mobilenetv3_small_050",
    "poolformer_s12", "regnety_002", "vit_tiny_patch16_224", "seresnext26d_32x4d", "hardcorenas_a", "mobilevit_xxs",
    "repvit_m0_9", "res2net50_14w_8s", "tf_efficientnetv2_b0",
)  # fmt: skip
SIDE = 64
"""Height and width of the images for networks of timm."""
EXAMPLE = "depth example"
KEPT = Path(".bench/landing.jsonl")
HEAD = """| network | places | as | refused | exported again | training mode | CPU, s |
|---|---|---|---|---|---|---|"""
Network = tuple[nn.Module, dict[str, Tensor]]


def networks(timm_names: list[str]) -> Iterator[tuple[str, Callable[[], Network]]]:
    """Names, and what makes each network with its inputs."""
    for entry in samples.entries():
        yield entry.name, lambda name=entry.name: of_samples(name)
    yield EXAMPLE, depth_example
    for name in timm_names:
        yield f"timm {name}", lambda name=name: of_timm(name)


def of_samples(name: str) -> Network:
    system = samples.system(name)
    return system.build("tiny"), system.inputs("tiny")


def of_timm(name: str) -> Network:
    """With weights drawn for signal, as fresh ones have branches that carry none."""
    timm = imported_timm()
    options = {"img_size": SIDE} if name.startswith("vit") else {}
    model = seeded(lambda: timm.create_model(name, pretrained=False, num_classes=16, **options), 1)
    return model, {"x": torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))}


def imported_timm() -> Any:
    """timm, past a torchvision whose kernels were built for another torch. Raises ModuleNotFoundError without timm."""
    try:
        return importlib.import_module("timm")
    except RuntimeError:
        for name in [n for n in sys.modules if n.split(".")[0] in ("timm", "torchvision")]:
            del sys.modules[name]
        for kernel in ("nms", "qnms"):
            torch.library.define(f"torchvision::{kernel}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return importlib.import_module("timm")


def depth_example() -> Network:
    """The network of `samples/depth`, trained for an epoch."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "samples" / "depth"))
    import depthnet
    import example

    data = example.Data()
    torch.manual_seed(0)
    model = depthnet.DepthNet()
    npu_guard.torch.fine_tune(model, data.epochs(1, 0), example.loss, rate=4e-3, seed=0)
    return model, depthnet.inputs()


def row(name: str, model: nn.Module, inputs: dict[str, Tensor], totals: Counter[str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = npu_guard.torch.land(model, inputs, Path(folder, "npu"))
        except UsageError as error:
            if "nothing was replaced" in str(error):
                return f"| {name} | 0 | | | | |"
            return failed(name, model, inputs, totals, str(error))
        except NotVerified as error:
            return failed(name, model, inputs, totals, f"not verified: {error}")
    refused = done.manifest.refused
    landed = len(done.landing.plan.changes) - len(refused)
    totals["landed"] += landed
    totals["refused"] += len(refused)
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(Counter(b.kind for b in done.manifest.blocks).items()))
    equal = "bit for bit" if done.proof.same_bits else f"{done.proof.exported:.1e}"
    training = "" if done.proof.training is None else f"{done.proof.training:.1e}"
    notes = "".join(f"; {note}" for note in done.proof.notes)
    return f"| {name} | {landed} | {kinds} | {'; '.join(r.reason for r in refused)} | {equal} | {training}{notes} |"


def failed(name: str, model: nn.Module, inputs: dict[str, Tensor], totals: Counter[str], why: str) -> str:
    """The row of a network of which nothing was written; its places count among those that did not land, where they are known."""
    totals["failed"] += 1
    with tempfile.TemporaryDirectory() as folder:
        try:
            places = len(find_landing(model, inputs, Path(folder), Options(Config())).plan.changes)
        except (UsageError, NotVerified):
            totals["unknown"] += 1
            return f"| {name} | unknown | | {why[:175]} | | |"
    totals["lost"] += places
    return f"| {name} | 0 of {places} | | {why[:175]} | | |"


def code() -> str:
    """What a kept row is of: the package and this file as they stand."""
    tree = ["git", "rev-parse", "HEAD:npu_guard", "HEAD:bench/landing.py"]
    change = ["git", "diff", "HEAD", "--", "npu_guard", "bench/landing.py"]
    said = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in (tree, change)]
    return " ".join(said[0].split()) if not said[1] else ""


def kept() -> dict[str, dict[str, Any]]:
    """The newest row of each network."""
    lines = KEPT.read_text(encoding="utf-8").splitlines() if KEPT.exists() else []
    return {row["name"]: row for row in map(json.loads, lines)}


def measured(name: str, make: Callable[[], Network], now: str) -> dict[str, Any]:
    model, inputs = make()
    totals, start = Counter[str](), time.process_time()
    line = row(name, model, inputs, totals)
    done = {"name": name, "code": now, "line": f"{line} {time.process_time() - start:.0f} |", "totals": dict(totals)}
    KEPT.parent.mkdir(exist_ok=True)
    with KEPT.open("a", encoding="utf-8") as log:
        log.write(json.dumps(done) + "\n")
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timm", nargs="*", default=[], help="names of timm; with none, those of the page")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    try:
        imported_timm()
        names = options.timm or list(TIMM)
    except ModuleNotFoundError:
        names = []
    torch.set_num_threads(1)
    now, known = code(), kept()
    lines, totals = [HEAD], Counter[str]()
    print(HEAD)
    for name, make in networks(names):
        if options.only and name.removeprefix("timm ") not in options.only:
            continue
        old = known.get(name)
        done = old if old is not None and now and old["code"] == now else measured(name, make, now)
        lines.append(done["line"])
        totals.update(done["totals"])
        print(lines[-1], flush=True)
    places = totals["landed"] + totals["refused"] + totals["lost"]
    sentence = f"{totals['landed']} of {places} places landed, {totals['refused']} were refused with a reason"
    if totals["failed"]:
        sentence += f", {totals['lost']} are in {totals['failed']} networks of which nothing was written"
    sentence += f" (places not known in {totals['unknown']} of these)." if totals["unknown"] else "."
    print(sentence)
    if options.output is not None:
        options.output.write_text(TEXT + "\n".join(lines) + f"\n\n{sentence}\n", encoding="utf-8")


TEXT = f"""# Where fixes land in PyTorch

Written by `make landing`. Every sample network at test size, and some of timm with {SIDE} x {SIDE} pixels, fixed for
`aimotive-aiware` without approximations and landed by `npu_guard.torch.land`. A *place* is a group of operators that changed
together; it lands in leaves, as a whole module, as a new forward of the network, or flat. *Exported again*: outputs of the
patched network's own export against those of the fixed file. *Training mode*: the largest difference between both networks
with norms by the batch, relative to the peak. *CPU*: of the whole landing with its proof, without child
processes, on one thread. Where a place differs, its place is refused; where no place holds, nothing is written, and the row
has the reason.

The networks of timm are there where timm is installed; it takes only names from torchvision, so any build of that will do:
`pip install --no-deps timm torchvision; pip install pillow`.

"""


if __name__ == "__main__":
    main()
