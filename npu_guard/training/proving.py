"""The proof of landing: that the patched network is the fixed model, in both modes, and can be trained.

That outputs are equal alone would also hold for a network that was left as it was. So the patched network is exported again, and
the result has to have the findings of the fixed file and its outputs.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from npu_guard.pipeline.check import check_models
from npu_guard.project.config import Config
from npu_guard.project.export import export
from npu_guard.training import reach, training_only
from npu_guard.training.calls import record
from npu_guard.training.construct import outputs_of
from npu_guard.training.dropout import WithoutDropout
from npu_guard.training.files import Block, Manifest
from npu_guard.training.graph import Graph
from npu_guard.training.norms import LEAST
from npu_guard.verification.runtime import Runtime

BLOCK, NETWORK, TRAINING = 1e-5, 1e-4, 1e-3
"""Differences relative to the peak that roundings explain: at a block, at the end of a network, and with batch statistics."""
MOST_TRAINING = 1e-2
"""A difference with batch statistics beyond which a network that is equal in eval mode is another one to train."""
BATCHES = (1, 3)


@dataclass(slots=True)
class Measured:
    """Figures of the proof, and what fails."""

    block: float = 0.0
    """Largest difference at a block, relative to its peak."""
    network: dict[int, float] = field(default_factory=dict)
    """By batch."""
    training: float | None = None
    """In training mode, dropout off; None where the original cannot be run so."""
    trained: int = 0
    """Parameters that a gradient reaches."""
    without_gradient: list[str] = field(default_factory=list)
    """Of those that it does not, the ones that are computed from what has a gradient in the original."""
    resolution: str = "untested"
    exported: float = 0.0
    """Largest difference between the outputs of the second export and of the fixed file, relative to the peak."""
    same_bits: bool = False
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def prove(
    original: nn.Module, patched: nn.Module, manifest: Manifest, inputs: Mapping[str, Tensor], fixed: Path, config: Config,
    folder: Path, *, partial: bool = False,
) -> Measured:  # fmt: skip
    """Compare the networks with each other, and the patched one with the fixed file; the second export goes into the folder.

    With `partial`, some changes of the fixed file are not in the patched network, so findings are not those of the file, and
    nor are outputs where a block only comes close.
    """
    found = Measured()
    exact = all(b.exact for b in manifest.blocks)
    if exact:
        _blocks(original, patched, manifest, inputs, found)
        for batch in BATCHES:
            compare_batch(original, patched, inputs, batch, found)
        _resolution(original, patched, inputs, found)
    if lost := [name for block in manifest.blocks if block.exact for name in block.lost if "BatchNorm" in name]:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        found.failures.append(f"norms would be folded into weights for good: {', '.join(lost[:3])}{more}")
    training_mode(original, patched, inputs, found, exact)
    _gradients(original, patched, manifest, inputs, found)
    _again(patched, inputs, fixed, config, folder, found, partial=partial, exact=exact)
    return found


def difference(wanted: Sequence[Tensor], given: Sequence[Tensor]) -> float:
    """The largest difference, relative to the peak of each tensor; infinite where shapes differ."""
    worst = 0.0 if len(wanted) == len(given) else float("inf")
    for a, b in zip(wanted, given, strict=False):
        if a.shape != b.shape:
            return float("inf")
        if a.numel():
            peak = float(a.abs().max()) if a.is_floating_point() else 1.0
            worst = max(worst, float((a.double() - b.double()).abs().max()) / (peak or 1.0))
    return float("inf") if math.isnan(worst) else worst


def _blocks(original: nn.Module, patched: nn.Module, manifest: Manifest, inputs: Mapping[str, Tensor], found: Measured) -> None:
    """Each block on what its old module was given: a residual around it would hide a wrong branch."""
    replaced = {block.path for block in manifest.blocks}
    calls = record(original, inputs)
    chains = [[call] for call in calls if call.path in replaced]
    # A convolution and the norm that was folded into it are new together, and equal together.
    for chain in chains:
        pair = [c for c in chains if isinstance(c[0].module, _BatchNorm) and c[0].taken == chain[-1].given]
        if pair and not isinstance(chain[-1].module, _BatchNorm):
            chain.append(pair[0][0])
            chains.remove(pair[0])
    for chain in chains:
        args, kwargs = chain[0].given_again()
        try:
            with torch.no_grad():
                result = patched.get_submodule(chain[0].path)(*args, **kwargs)
                for call in chain[1:]:
                    result = patched.get_submodule(call.path)(result)
        except RuntimeError:  # a leaf behind another one with more channels: the network as a whole tells
            continue
        results = [t for t in pytree.tree_leaves(result) if isinstance(t, Tensor)]
        wanted = chain[-1].results
        if [t.shape for t in results] != [t.shape for t in wanted]:
            continue
        worst = difference(wanted, results)
        found.block = max(found.block, worst)
        if worst > BLOCK:
            found.failures.append(f"{chain[-1].path or 'the network'} differs by {worst:.1e} of its peak")


def batch_of(inputs: Mapping[str, Tensor], batch: int, seed: int = 0) -> dict[str, Tensor]:
    """Inputs of that batch: the example for 1, else noise like it, and integers repeated."""
    if batch == 1:
        return dict(inputs)
    generator = torch.Generator().manual_seed(seed)
    result = {}
    for name, tensor in inputs.items():
        if tensor.is_floating_point():
            shape = (batch * tensor.shape[0], *tensor.shape[1:]) if tensor.dim() else ()
            spread = float(tensor.std()) if tensor.numel() > 1 else 1.0
            result[name] = torch.randn(shape, generator=generator) * spread + float(tensor.mean())
        else:
            result[name] = tensor.repeat(batch, *[1] * (tensor.dim() - 1)) if tensor.dim() else tensor
    return result


def _run(model: nn.Module, inputs: Mapping[str, Tensor]) -> list[Tensor] | str:
    try:
        return outputs_of(model, inputs)
    except Exception as error:  # whatever the user's modules raise for a shape that they do not take
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def compare_batch(original: nn.Module, patched: nn.Module, inputs: Mapping[str, Tensor], batch: int, found: Measured) -> None:
    """Outputs of both networks in eval mode; a difference that roundings do not explain is a failure."""
    given = batch_of(inputs, batch)
    wanted = _run(original.eval(), given)
    if isinstance(wanted, str):
        found.notes.append(f"the original does not take a batch of {batch}")
        return
    result = _run(patched.eval(), given)
    if isinstance(result, str):
        found.failures.append(f"a batch of {batch} fails ({result})")
        return
    found.network[batch] = difference(wanted, result)
    if found.network[batch] > NETWORK:
        found.failures.append(f"the network differs by {found.network[batch]:.1e} of its peak at a batch of {batch}")


def _resolution(original: nn.Module, patched: nn.Module, inputs: Mapping[str, Tensor], found: Measured) -> None:
    """Whether other heights and widths give the same."""
    larger = {}
    for name, tensor in batch_of(inputs, 2).items():
        larger[name] = tensor.repeat(1, 1, 2, 2) if tensor.dim() == 4 else tensor
    wanted = _run(original, larger)
    if isinstance(wanted, str) or not any(t.dim() == 4 for t in inputs.values()):
        return
    result = _run(patched, larger)
    found.resolution = "free" if not isinstance(result, str) and difference(wanted, result) <= NETWORK else "fixed"


def training_mode(original: nn.Module, patched: nn.Module, inputs: Mapping[str, Tensor], found: Measured, exact: bool) -> None:
    """In training mode norms go by the batch: a norm that was put back wrongly shows there and nowhere else."""
    pair = [copy.deepcopy(m).train() for m in (original, patched)]
    for model in pair:
        for module in model.modules():
            if "Drop" in type(module).__name__:
                module.eval()
    given = batch_of(inputs, 4, seed=1)
    with WithoutDropout() as before:
        wanted = _run(pair[0], given)
    with WithoutDropout() as after:
        result = _run(pair[1], given)
    if isinstance(wanted, str):
        found.notes.append(f"the original does not run in training mode on a batch of 4 ({wanted[:80]})")
        return
    if isinstance(result, str):
        found.failures.append(f"it does not run in training mode ({result}){training_only.advice(original, given)}")
        return
    if [t.shape for t in result] != [t.shape for t in wanted]:
        shapes = [", ".join(str(tuple(t.shape)) for t in tensors) for tensors in (wanted, result)]
        found.failures.append(
            f"in training mode the original gives {shapes[0]}, and this one {shapes[1]}{training_only.advice(original, given)}"
        )
        return
    if not exact:
        return
    if gone := before.calls - after.calls:
        calls = f"{gone.total()} call{'' if gone.total() == 1 else 's'}"
        found.notes.append(f"dropout that a forward calls itself is gone: {calls} of {', '.join(sorted(gone))}")
    found.training = difference(wanted, result)
    if found.training <= TRAINING:
        return
    if _by_chance(pair[0], given):
        found.notes.append("training mode is random in the original, by more than its dropout")
    elif found.training <= MOST_TRAINING and found.training <= TRAINING + _effect_of_eps(pair[0], given, wanted):
        found.notes.append(
            f"eval mode is equal, training mode differs by {found.training:.1e} of the peak: a norm behind weights into which it "
            "was folded has another eps, which tells where a channel hardly varies in a batch"
        )
    elif not found.failures:  # a norm that is folded for good says why
        found.failures.append(f"training mode differs by {found.training:.1e} of the peak")


def _effect_of_eps(model: nn.Module, given: Mapping[str, Tensor], wanted: Sequence[Tensor]) -> float:
    """How far outputs in training mode move where no norm has an eps: norms that were put back have one between that and the old.

    See norms.py: the new eps suits the channel that asks for the least, and is smaller than the old one at the others.
    """
    other = copy.deepcopy(model)
    for module in other.modules():
        if isinstance(module, _BatchNorm):
            module.eps = LEAST
    with WithoutDropout():
        result = _run(other, given)
    return 0.0 if isinstance(result, str) else difference(wanted, result)


def _by_chance(model: nn.Module, given: Mapping[str, Tensor]) -> bool:
    with WithoutDropout():
        first, second = (_run(copy.deepcopy(model), given) for _ in range(2))
    return not isinstance(first, str) and not isinstance(second, str) and difference(first, second) > TRAINING


def _gradients(
    original: nn.Module, patched: nn.Module, manifest: Manifest, inputs: Mapping[str, Tensor], found: Measured
) -> None:
    """Which parameters a gradient reaches: on a batch in training mode, else on the example where the original takes no other."""
    given = batch_of(inputs, 4, seed=2)
    takes = not isinstance(_run(copy.deepcopy(original).train(), given), str)
    given = given if takes else dict(inputs)
    try:
        after = reach.reached(patched, given, takes)
        before = reach.reached(original, given, takes) if after.lacks else after
    except Exception as error:  # as above
        found.failures.append(f"it has no gradient ({type(error).__name__}: {str(error).splitlines()[0][:80]})")
        return
    found.trained = len(after.has)
    found.without_gradient = reach.lost(after.lacks, before, manifest)


def _again(
    patched: nn.Module, inputs: Mapping[str, Tensor], fixed: Path, config: Config, folder: Path, found: Measured, *,
    partial: bool, exact: bool,
) -> None:  # fmt: skip
    """Export the patched network, and compare findings and outputs with those of the fixed file."""
    again = folder / "again.onnx"
    export(patched, inputs, again)
    settings = replace(config, input_shapes={})
    models = check_models(["again", "fixed"], settings, files={"again": str(again), "fixed": str(fixed)}, remedies=False).models
    kinds = [Counter((f.rule, f.severity.value) for f in m.findings) for m in models]
    if kinds[0] != kinds[1] and not partial:
        more, less = kinds[0] - kinds[1], kinds[1] - kinds[0]
        words = [f"{n} {rule} {word}" for c, word in ((more, "more"), (less, "less")) for (rule, _), n in c.items()]
        (found.failures if more else found.notes).append(f"exported again, it has {', '.join(words)} than the fixed file")
    results, kinds_of = [], []
    with Runtime() as runtime:
        for path in (again, fixed):
            graph = Graph.read(path)
            kinds_of.append(Counter(op.type for op in graph.ops))
            feed = dict(zip(graph.inputs, (t.numpy() for t in inputs.values()), strict=True))
            outputs = runtime.run(*graph.document.runnable(), [feed])[0]
            results.append([outputs[name] for name in graph.outputs])
    if partial and not exact:
        results[1] = [t.numpy() for t in outputs_of(patched.eval(), inputs)]
    found.same_bits = all(np.array_equal(a, b) for a, b in zip(*results, strict=True))
    found.exported = difference([torch.from_numpy(b) for b in results[1]], [torch.from_numpy(a) for a in results[0]])
    if not partial and (norms := (kinds_of[0] - kinds_of[1])["BatchNormalization"]):
        stay, them = ("a norm stays an operator", "it") if norms == 1 else (f"{norms} norms stay operators", "them")
        found.notes.append(f"{stay} behind a sum of convolutions; the fixed file has {them} in the weights")
    if not found.same_bits and partial:
        found.notes.append("not bit for bit, as the fixed file also has the places that are refused")
    if found.exported > NETWORK:
        found.failures.append(f"exported again, it differs from the fixed file by {found.exported:.1e} of the peak")


def summary(found: Measured, blocks: Sequence[Block]) -> list[str]:
    """Lines for the report and the README."""
    lines = [f"{len(blocks)} place{'' if len(blocks) == 1 else 's'}, largest difference at one {found.block:.1e} of its peak"]
    lines += [f"batch {batch}: outputs differ by {value:.1e} of the peak" for batch, value in found.network.items()]
    if found.training is not None:
        lines.append(f"training mode, a batch of 4 without dropout: outputs differ by {found.training:.1e} of the peak")
    else:
        lines.append("training mode was not compared, so what is said of blocks holds in eval mode")
    lines.append(
        f"gradients reach {found.trained} parameters"
        + (f", not {', '.join(found.without_gradient)}" if found.without_gradient else "")
    )
    equal = "equal bit for bit" if found.same_bits else f"equal up to {found.exported:.1e}"
    lines.append(f"exported again: outputs {equal} to those of the fixed file")
    return [*lines, *found.notes]
