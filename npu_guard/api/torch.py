"""`npu_guard.torch`: the fix in the training code. Each function imports what it needs when it is called."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from npu_guard.training.healing import Healed, Metric, Progress
    from npu_guard.training.steps import Landed

Folder = str | os.PathLike[str]


def land(
    model: nn.Module, inputs: Any, target: Folder, *, profile: str | None = None, approximate: bool = False,
    calibration: str | os.PathLike[str] | None = None, prefer: Sequence[str] = (), warnings: bool = False,
    max_cost: float | None = None,
) -> Landed:  # fmt: skip
    """Fix a network, and write the blocks that take the place of its modules into a folder, once they compute the same.

    `inputs` are example tensors: a dict by name, a sequence in the order of forward, or one tensor. The rest is as for
    `npu_guard.fix`. The network itself stays as it is; `apply` puts the blocks in. Raises UsageError, NotVerified.
    """
    from npu_guard.api.calls import expect_known
    from npu_guard.api.model import call_config, example_inputs
    from npu_guard.training.attach import network_of
    from npu_guard.training.landing import Options
    from npu_guard.training.steps import land_in

    expect_known(prefer)
    model = network_of(model)
    config, example = call_config(profile, max_cost=max_cost), example_inputs(model, inputs, {})
    data = None if calibration is None else Path(calibration)
    return land_in(model, example, Path(target), Options(config, approximate, data, tuple(prefer), warnings))


def apply(model: nn.Module, target: Folder, *, swap_at_export: bool = False) -> nn.Module:
    """Put the blocks of a folder into a network, in place; do so before the optimizer is made. Returns the network.

    With `swap_at_export` the old blocks go on being trained, which is faster where the exact form is slow, and `exported` makes
    the new ones of their weights. Raises UsageError where the network is another one; nothing is changed then.
    """
    from npu_guard.training import attach

    if swap_at_export:
        from npu_guard.training import steps

        return steps.swap_at_export(model, Path(target))
    return attach.apply_folder(model, Path(target))


def remove(model: nn.Module) -> nn.Module:
    """Take all blocks out again; the old ones have the weights that they had."""
    from npu_guard.training import attach

    return attach.remove(model)


def convert(
    state: Mapping[str, Tensor], model: nn.Module, target: Folder, *, calibration: Folder | None = None
) -> dict[str, Tensor]:
    """A checkpoint of the old network as one of the network with blocks.

    The steps of the fix are taken again with the weights of the checkpoint, and what comes out is compared with the old network.
    `model` is the old network. A prefix of its names, such as `module.`, stays, and so does what has another. Raises UsageError
    where the checkpoint is of another network, or something else than its weights, NotVerified where the result differs.
    """
    from npu_guard.api.model import call_config
    from npu_guard.training import attach, checkpoints, compiled, files
    from npu_guard.training.steps import with_blocks

    old = copy.deepcopy(attach.network_of(model))
    attach.remove(old)
    compiled.unwrap(old)
    checkpoints.expect_mapping(state)
    plain, holders = compiled.plain_names(state)
    given = {name: state[was] for name, was in plain.items()}
    prefix, own = checkpoints.own_weights(given, old, files.read_manifest(Path(target)))
    old.load_state_dict(own)
    modules = dict(old.named_modules(remove_duplicate=False))
    new = with_blocks(old, Path(target), call_config(), None if calibration is None else Path(calibration))
    same = {f"{prefix}{path}." for path, m in new.named_modules(remove_duplicate=False) if modules.get(path) is m}
    holders = {h for h in holders if prefix.startswith(h) or h in same}
    others = {plain[name]: tensor for name, tensor in given.items() if not name.startswith(prefix)}
    return others | {compiled.held_name(prefix + name, holders): tensor for name, tensor in new.state_dict().items()}


def exported(model: nn.Module, target: Folder | None = None, *, calibration: Folder | None = None) -> nn.Module:
    """The form in which a network is exported that has `swap_at_export`: a copy with blocks made of the weights as they are now.

    Others are returned as they are. Raises UsageError, NotVerified.
    """
    from npu_guard.api.model import call_config
    from npu_guard.project.export import EXPORT_FORM
    from npu_guard.training import attach
    from npu_guard.training.steps import with_blocks

    network = attach.network_of(model)
    form = network.__dict__.get(EXPORT_FORM)
    if target is None:
        return model if form is None else form(network)
    old = attach.remove(copy.deepcopy(network))
    return with_blocks(old, Path(target), call_config(), None if calibration is None else Path(calibration))


def heal(
    model: nn.Module, original: nn.Module | None, data: Iterable[Any], *, paths: Sequence[str] | None = None, steps: int = 300,
    batch: int = 64, rate: float = 3e-3, seed: int = 0, metric: Metric | None = None, progress: Progress | None = None,
    resume: Folder | None = None,
) -> Healed:  # fmt: skip
    """Bring blocks that only come close nearer to what they replace, the old ones as teachers; no labels are needed.

    `original` is the old network, None for a copy of the model with its blocks taken out. `data` are inputs: tensors, tuples or
    dicts, each with a batch; all are held in memory. `paths` are the blocks, by default all that are approximate.
    `metric(model)` is your own figure and is reported before and after. `resume` names a file by which an interrupted run goes
    on. Raises UsageError.
    """
    from npu_guard.base.errors import UsageError
    from npu_guard.training import attach, healing

    items = list(data)  # a loader may shuffle, and a generator runs once
    if not items:
        raise UsageError("heal: give data, a list of inputs each with a batch")
    teacher = attach.remove(copy.deepcopy(attach.network_of(model))) if original is None else original
    chosen = healing.approximate_paths(model) if paths is None else paths
    result = healing.Healed()
    if metric is not None:
        result.metric |= {"original": metric(teacher), "before": metric(model)}
    settings = healing.Settings(steps, batch, rate, seed, progress or (lambda what, done, total: None))
    if chosen:
        keep = None if resume is None else Path(resume)
        result.blocks = healing.heal_blocks(model, teacher, items, chosen, settings, keep)
    if metric is not None:
        result.metric["after"] = metric(model)
    return result


def fine_tune(
    model: nn.Module, batches: Iterable[tuple[Any, Any]], loss: Callable[[Any, Any], Tensor], *, epochs: int = 1,
    teacher: nn.Module | None = None, rate: float = 1e-3, seed: int = 0,
) -> list[float]:  # fmt: skip
    """Train the whole network for a short while on (inputs, targets) with your loss. Returns the mean loss of each epoch.

    With the old network as `teacher`, how far the results are from its own is added to the loss: squared differences relative
    to their variance. Raises UsageError where both give other tensors.
    """
    from npu_guard.training import tuning

    given = batches if isinstance(batches, Sized) else list(batches)  # a generator runs once
    return tuning.fine_tune(model, given, loss, epochs=epochs, teacher=teacher, rate=rate, seed=seed)
