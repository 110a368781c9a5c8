"""From a network to places with source and weights: export, fix, and compare both graphs with what the modules do."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from npu_guard.base.errors import NotVerified, NpuGuardError, UsageError
from npu_guard.checking import registry
from npu_guard.file.document import Document
from npu_guard.file.load import sha256
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog, plan
from npu_guard.fixing.driver import FixReport
from npu_guard.pipeline.fix import fix_model
from npu_guard.project.config import Config
from npu_guard.project.export import export
from npu_guard.results.proof import LABELS
from npu_guard.rewriting.substitution import EXACT
from npu_guard.training import compiled
from npu_guard.training.graph import Graph
from npu_guard.training.places import Place, Plan, Planner
from npu_guard.training.unfolding import Again
from npu_guard.verification.runtime import Runtime


@dataclass(slots=True)
class Options:
    """What a fix may do, as on the command line."""

    config: Config
    approximate: bool = False
    calibration: Path | None = None
    prefer: tuple[str, ...] = ()
    warnings: bool = False


@dataclass(slots=True)
class Landing:
    """A network, what `fix` did to its export, and where that lands. `model` is a copy in eval mode."""

    model: nn.Module
    inputs: dict[str, Tensor]
    report: FixReport
    plan: Plan
    original: Path
    fixed: Path


def find_landing(
    model: nn.Module, inputs: Mapping[str, Tensor], folder: Path, options: Options, steps: Sequence[plan.Step] | None = None
) -> Landing:
    """Export into the folder, fix, and find the places; with `steps`, those that were taken before, and no others.

    Raises UsageError where the network cannot be exported or nothing of it has to change, NotVerified where the fix was not.
    """
    expect_float32(model)
    network = prepared(model)
    example = distinct({name: tensor.detach().cpu() for name, tensor in inputs.items()})
    original, fixed = folder / "original.onnx", folder / "fixed.onnx"
    export(network, example, original)
    report = fixed_report(original, options, steps)
    if not report.applied:
        raise UsageError(f"{type(model).__name__}: nothing was replaced, so nothing lands")
    if report.verification.verdict not in ("equal", "close"):
        why = report.verification.reason or report.verification.verdict
        raise NotVerified(f"{type(model).__name__}: the fixed model was not verified ({why}); nothing was written")
    save_document(report.document, fixed)
    taken = [plan.Step(a.substitution, a.at, a.number) for a in report.applied]

    def again(document: Document) -> Graph | None:
        file = folder / "other.onnx"
        save_document(document, file)
        try:
            other = fixed_report(file, options, taken, check_numbers=False)
        except NpuGuardError:  # such as a fit to activations that are no numbers without norms
            return None
        save_document(other.document, folder / "other_fixed.onnx")
        return Graph.read(folder / "other_fixed.onnx")

    return Landing(network, example, report, planned(network, example, original, fixed, again), original, fixed)


def distinct(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inputs with noise on those of floats that are one number throughout, or equal to another one.

    Modules are found by the values that reach them, and behind equal inputs several have the same. The noise goes away from
    zero, so that what was positive stays so.
    """
    generator, found = torch.Generator().manual_seed(0), dict[str, Tensor]()
    for name, tensor in inputs.items():
        found[name] = tensor
        if not (tensor.is_floating_point() and tensor.numel() and tensor.isfinite().all()):
            continue
        if (tensor == tensor.flatten()[0]).all() or any(torch.equal(tensor, inputs[other]) for other in [*found][:-1]):
            size = float(tensor.abs().max()) or 1.0
            found[name] = tensor + size * torch.rand(tensor.shape, generator=generator).to(tensor.dtype)
    return found


def planned(network: nn.Module, inputs: Mapping[str, Tensor], original: Path, fixed: Path, again: Again) -> Plan:
    """The places for what is different between two files; `again` takes the steps from one to the other with other weights."""
    before, after = Graph.read(original), Graph.read(fixed)
    with Runtime() as runtime:
        for graph in (before, after):
            graph.run(runtime, dict(zip(graph.inputs, (t.numpy() for t in inputs.values()), strict=True)))
    return Planner(network, inputs, before, after, trained_names(network, inputs, before), again).plan()


def fixed_report(original: Path, options: Options, steps: Sequence[plan.Step] | None, *, check_numbers: bool = True) -> FixReport:
    """What `fix` does to a file."""
    chosen = [s for s in catalog.substitutions() if s.exactness == EXACT or options.approximate or s.name in options.prefer]
    rank = {name: i for i, name in enumerate(options.prefer)}
    chosen.sort(key=lambda s: (rank.get(s.name, len(rank)), s.exactness != EXACT, s.name))
    if steps is not None:
        chosen = list(catalog.substitutions())
    asked, config = None, options.config
    if steps is not None:
        config = replace(config, max_cost=math.inf)  # what they cost was looked at when they were taken
        asked = plan.Plan(1, str(original), sha256(original), registry.profile(options.config.profile).name, tuple(steps))
    return fix_model(
        str(original), registry.profile(config.profile), config, chosen, calibration=options.calibration,
        check_numbers=check_numbers, prefer=options.prefer, plan=asked, warnings=options.warnings,
    )  # fmt: skip


NEXT_TO_ZERO = 1e-30
"""What the first bias of zeros holds instead, and each further one a little more, up to twice as much: torch's exporter leaves
zeros out and makes one of biases that are equal, and a network that is trained later needs its own."""
SMALL_ENOUGH = (torch.float32, torch.float64, torch.bfloat16)
"""Types that have such a number."""


def expect_float32(model: nn.Module) -> None:
    """Refuse parameters of another type: what is compared here are roundings of float32. Raises UsageError."""
    odd = ((name, str(p.dtype)) for name, p in model.named_parameters() if p.is_floating_point() and p.dtype != torch.float32)
    if (first := next(odd, None)) is not None:
        raise UsageError(
            f"{type(model).__name__}: {first[0]} is of {first[1]}, and blocks are written in torch.float32: land "
            "copy.deepcopy(model).float(), and apply puts its blocks into this network too, in the types that it has"
        )


def prepared(model: nn.Module) -> nn.Module:
    """A copy of the network on the CPU, in eval mode, whose biases are not zero. Raises UsageError where it cannot be copied."""
    try:
        network = copy.deepcopy(model)
    except Exception as error:  # whatever the user's modules raise
        raise UsageError(f"{type(model).__name__} cannot be copied ({type(error).__name__}: {error})") from error
    compiled.unwrap(network)
    with torch.no_grad():
        for i, parameter in enumerate(network.parameters()):
            if parameter.dim() == 1 and parameter.dtype in SMALL_ENOUGH and not parameter.any():
                parameter.fill_(NEXT_TO_ZERO * (1 + min(1.0, i * 2**-20)))
    return network.cpu().eval()


def trained_names(network: nn.Module, inputs: Mapping[str, Tensor], graph: Graph) -> Callable[[str], bool]:
    """Tells which constants of the export follow from parameters.

    Whether one is frozen now does not count, as that ends when its owner says so: `attach` freezes what is made of it.
    Those that have a parameter's name are one. For others, such as a matrix that the exporter has transposed or a norm that it
    has folded, the network is exported once more with other parameters: what changes follows from them.
    """
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    buffers = {name for name, _ in network.named_buffers(remove_duplicate=False)}
    changed: list[set[str]] = []

    def trained(name: str) -> bool:
        if name in parameters:
            return True
        if name in buffers or name not in graph.constants or not _is_float(graph, name):
            return False
        if not changed:
            changed.append(_dependent(network, inputs, graph))
        return name in changed[0]

    return trained


def _is_float(graph: Graph, name: str) -> bool:
    return graph.constants[name].data_type in (1, 10, 11, 16)


def _dependent(network: nn.Module, inputs: Mapping[str, Tensor], graph: Graph) -> set[str]:
    """Names of constants that another export has otherwise, whose parameters are others."""
    other = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in other.parameters():
            if parameter.is_floating_point():
                parameter.mul_(1 + 0.2 * torch.rand(parameter.shape, generator=generator)).add_(1e-3)
    with tempfile.TemporaryDirectory(prefix="npu-guard-") as folder:
        file = Path(folder, "other.onnx")
        export(other, inputs, file)
        second = Graph.read(file)
        names = [n for n in graph.constants if n in second.constants and graph.shape(n) == second.shape(n)]
        return {n for n in names if not np.array_equal(graph.array(n), second.array(n))}


def label_of(place: Place, report: FixReport) -> tuple[bool, str]:
    """Whether all replaced blocks of a place are exact, and the least that is known of one of them."""
    names = {op.proto.name for change in place.changes for op in change.new}
    mine = [a for a in report.applied if names & set(a.nodes_after)] or [
        a for a in report.applied if a.substitution in place.substitutions
    ]
    known = [a.verification.proof.label for a in mine if a.verification.proof is not None]
    worst = max(known, key=LABELS.index) if known and len(known) == len(mine) else ""
    return all(a.exactness == EXACT for a in mine), worst
