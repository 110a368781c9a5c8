"""`make fuzz-landing`: random networks in PyTorch are fixed for some devices, and land or are refused with a reason.

    python fuzz/landings.py [--count 40] [--first 0] [--output docs/fuzzing.md]

What landed is compared with the network without blocks by torch alone, on inputs that `land` has not seen: zeros, large and
negative numbers, another batch, another checkpoint. A difference, anything left behind after `remove`, and an exception that is
no sentence are failures.
"""

from __future__ import annotations

import argparse
import collections
import copy
import pickle
import re
import sys
import tempfile
import traceback
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import npu_guard
import npu_guard.torch
from npu_guard.base.errors import NotVerified, UsageError
from npu_guard.training.steps import Landed

sys.path.insert(0, str(Path(__file__).resolve().parent))

from torch_networks import inputs, network

DEVICES = ("aimotive-aiware", "ethos-u85", "qualcomm-htp", "ti-tidl:AM68A")
CLOSE = 2e-4
"""Of the peak, at the end of a network."""


class Wrong(Exception):
    """A network with blocks that is another function, or something that was left behind."""


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [t for t in pytree.tree_leaves(model(x)) if isinstance(t, Tensor)]


def expect_equal(what: str, wanted: list[Tensor], given: list[Tensor], by: float = CLOSE) -> None:
    """Raises Wrong."""
    if [t.shape for t in wanted] != [t.shape for t in given]:
        raise Wrong(f"{what}: shapes {[tuple(t.shape) for t in given]} and not {[tuple(t.shape) for t in wanted]}")
    for a, b in zip(wanted, given, strict=True):
        worst = float((a.double() - b.double()).abs().max()) / max(1e-3, float(a.abs().max()))
        if not worst <= by:
            raise Wrong(f"{what}: differs by {worst:.1e} of the peak")


def others(x: Tensor) -> dict[str, Tensor]:
    """Inputs like it that nothing was made with."""
    generator = torch.Generator().manual_seed(99)
    noise = torch.randn((2, *x.shape[1:]), generator=generator)
    return {"zeros": torch.zeros_like(x), "large": 30 * x, "negative": -x.abs() - 1, "a batch of 2": noise}


def examine(seed: int, done: Landed, device: str) -> None:
    """What a user does with a folder. Raises Wrong."""
    x = inputs(seed)["image"]
    original, model = network(seed), network(seed)
    state = {name: t.clone() for name, t in model.state_dict().items()}
    npu_guard.torch.apply(model, done.folder)
    given = others(x)
    if done.manifest.resolution == "untested":
        given.pop("a batch of 2")
    for what, tensor in given.items():
        expect_equal(what, outputs(original, tensor), outputs(model, tensor))
    wanted = outputs(model, x)
    expect_equal("a copy", wanted, outputs(copy.deepcopy(model), x), 0)
    expect_equal("a pickle", wanted, outputs(pickle.loads(pickle.dumps(model)), x), 0)
    if done.proof.without_gradient and not missing_before(seed, x):
        raise Wrong(f"no gradient reaches {done.proof.without_gradient[0]}")
    old = network(seed, weights=1)
    fresh = npu_guard.torch.apply(network(seed), done.folder)
    fresh.load_state_dict(npu_guard.torch.convert(old.state_dict(), network(seed), done.folder))
    for what, tensor in given.items():
        expect_equal(f"another checkpoint, {what}", outputs(old, tensor), outputs(fresh, tensor))
    npu_guard.torch.remove(model)
    if set(model.state_dict()) != set(state) or any(not torch.equal(t, state[n]) for n, t in model.state_dict().items()):
        raise Wrong("remove leaves another state_dict")
    expect_equal("taken out again", outputs(original, x), outputs(model, x), 0)


def missing_before(seed: int, x: Tensor) -> bool:
    """Whether the network without blocks has parameters that no gradient reaches."""
    model = network(seed).train()
    leaves = [t for t in pytree.tree_leaves(model(x.repeat(4, 1, 1, 1))) if isinstance(t, Tensor)]
    sum(t.pow(2).mean() for t in leaves).backward()  # type: ignore[union-attr]
    return any(p.grad is None for p in model.parameters())


def attempt(seed: int, device: str) -> tuple[str, str]:
    """An outcome and what is to be said of it."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = npu_guard.torch.land(network(seed), inputs(seed), Path(folder, "npu"), profile=device)
        except UsageError as error:
            return ("nothing to change", "") if "nothing was replaced" in str(error) else ("refused", str(error))
        except NotVerified as error:
            return "not verified", str(error)
        examine(seed, done, device)
        refused = [r.reason for r in done.manifest.refused]
        notes = [n for n in done.proof.notes if n.startswith("training mode")]
        if any("no form in PyTorch" not in n for n in notes) and done.proof.training is None:
            raise Wrong(notes[0])
        return ("landed in part" if refused else "landed"), "; ".join(refused + notes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--device", action="append")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    table: dict[str, collections.Counter[str]] = {}
    failed = 0
    for seed in range(options.first, options.first + options.count):
        for device in options.device or DEVICES:
            try:
                outcome, words = attempt(seed, device)
            except Wrong as error:
                outcome, words = "wrong", str(error)
            except Exception:  # what a user would see as a traceback
                outcome, words = "traceback", traceback.format_exc()
            failed += outcome in ("wrong", "traceback")
            table.setdefault(device, collections.Counter())[outcome] += 1
            print(f"{seed} {device}: {outcome}{f' ({words})' if words else ''}", flush=True)
    text = page(table, options.first, options.count, failed)
    print(text)
    if options.output is not None:
        found = re.sub(
            r"(?s)(<!-- landings -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{text}{m[2]}", options.output.read_text("utf-8")
        )
        options.output.write_text(found, encoding="utf-8")
    return 1 if failed else 0


def page(table: dict[str, collections.Counter[str]], first: int, count: int, failed: int) -> str:
    """The table of outcomes by device."""
    kinds = [k for k in ("landed", "landed in part", "nothing to change", "refused", "not verified", "wrong", "traceback")
             if any(row[k] for row in table.values())]  # fmt: skip
    lines = [f"**{count} networks**: seeds {first} to {first + count - 1}, {failed} failed.", ""]
    lines += [f"| device | {' | '.join(kinds)} |", f"|---|{'---|' * len(kinds)}"]
    lines += [f"| {device} | {' | '.join(str(row[k]) for k in kinds)} |" for device, row in table.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
