"""The order of steps: export, fix, find places, write, prove; and the same steps again for other weights."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from npu_guard.base.errors import NotVerified, UsageError
from npu_guard.file.save import save_document
from npu_guard.fixing import catalog
from npu_guard.fixing.plan import Step, read_plan
from npu_guard.project.config import Config, project_root
from npu_guard.project.export import EXPORT_FORM
from npu_guard.training import attach, compiled, files, folder, proving
from npu_guard.training.apart import apart_of
from npu_guard.training.files import Block, Manifest
from npu_guard.training.holding import settle
from npu_guard.training.landing import Landing, Options, find_landing
from npu_guard.training.norms import COUNTER
from npu_guard.training.places import reasons_of
from npu_guard.training.proving import Measured
from npu_guard.training.source_diff import source_diff


@dataclass(frozen=True, slots=True)
class Landed:
    """A folder with blocks, and what was seen when it was written."""

    folder: Path
    manifest: Manifest
    proof: Measured
    landing: Landing

    def __repr__(self) -> str:
        places, refused = len(self.manifest.blocks), len(self.manifest.refused)
        return f"<Landed {self.manifest.network} in {self.folder}: {places} places, {refused} refused>"


def land_in(model: nn.Module, inputs: Mapping[str, Tensor], target: Path, options: Options, output: Path | None = None) -> Landed:
    """Fix the network and write the folder, and the fixed model to `output`, once the proof holds.

    Raises UsageError where the network cannot be exported, nothing of it changes or no change has a place, NotVerified where the
    proof fails; nothing is written then. Of a wrapper such as DataParallel it is the network inside.
    """
    model = attach.network_of(model)
    expect_folder(target)
    with tempfile.TemporaryDirectory(prefix="npu-guard-") as scratch:
        landing = find_landing(model, inputs, Path(scratch), options)
        name = type(model).__name__
        if not landing.plan.places:
            reasons = dict.fromkeys(reasons_of(landing.plan.refused))  # one module may have several changes
            raise UsageError(f"{name}: no change has a place in its code: {'; '.join(reasons)}")
        folder.describe(landing)
        settled = settle(landing, options.config, os.fspath(target), Path(scratch))
        proof = settled.proof
        proof.notes += attach.mixed_of(settled.manifest, attach.trainable_of(landing.model))
        proof.notes += apart_of(landing, settled.patched)
        folder.describe_shapes(landing, settled.patched)
        text = folder.text_of(landing)
        manifest = replace(settled.manifest, resolution=proof.resolution)
        named = path_to_write(target)
        diff = source_diff(landing.model, manifest, project_root(Path.cwd()), named)
        made = Path(scratch, "folder")
        made.mkdir()
        folder.write_folder(made, landing, manifest, text, diff, proving.summary(proof, manifest.blocks), named)
        if output is not None:
            save_document(landing.report.document, output)
        target.mkdir(parents=True, exist_ok=True)
        for file in made.iterdir():
            shutil.move(file, target / file.name)
    return Landed(target, manifest, proof, landing)


def path_to_write(target: Path) -> str:
    """The folder as the files inside name it: from where Python runs, and by its name alone where that is elsewhere."""
    full = target.resolve()
    inside = full.relative_to(Path.cwd()) if full.is_relative_to(Path.cwd()) else Path()
    return inside.as_posix() if inside.parts else full.name


def expect_folder(target: Path) -> None:
    """Refuse a folder that holds something else. Raises UsageError."""
    if os.path.isfile(target):
        raise UsageError(f"{target}: is a file, and a folder is to be written")
    if os.path.isdir(target) and any(target.iterdir()) and not os.path.isfile(target / files.NAME):
        raise UsageError(f"{target}: is not empty and holds no {files.NAME}; name another folder")


def swap_at_export(model: nn.Module, target: Path) -> nn.Module:
    """Train the network as it is; `npu_guard.export` then puts the blocks into a copy.

    All files that the export needs are tried now, in a copy, and not after the training. Raises UsageError.
    """
    network, manifest = attach.network_of(model), files.read_manifest(target)
    with compiled.looked_through(network, attach.BEFORE):
        attach.expect_fit(network, manifest, target)
    if any(attach.BEFORE in module.__dict__ for module in network.modules()):
        raise UsageError(
            f"{target}: the network has blocks of another folder, which an export would be without; apply this one too"
        )
    steps_of(target)
    weights, code = attach.weights_of(manifest, target), attach.code_of(target)
    try:
        trial = copy.deepcopy(network)
    except Exception as error:  # whatever the user's modules raise
        raise UsageError(f"{type(network).__name__} cannot be copied for an export ({type(error).__name__}: {error})") from error
    compiled.unwrap(trial)
    attach.attach(trial, manifest, code, weights, os.fspath(target))
    attach.warn_of_edits(manifest, target)
    network.__dict__[EXPORT_FORM] = partial(export_form, target=str(target.absolute()))
    return model


def steps_of(target: Path) -> tuple[Step, ...]:
    """The steps of the fix that a folder holds. Raises UsageError."""
    return read_plan(target / files.PLAN, [s.name for s in catalog.substitutions()]).step


def export_form(network: nn.Module, target: str) -> nn.Module:
    """A copy for the export: the blocks of a folder, made of the weights as they are. Raises UsageError, NotVerified."""
    folder = Path(target)
    old = copy.deepcopy(network)
    attach.remove(old)
    return with_blocks(old, folder, Config(profile=files.read_manifest(folder).profile))


def with_blocks(network: nn.Module, target: Path, config: Config, calibration: Path | None = None) -> nn.Module:
    """Put the blocks of a folder into the network, their weights made of the network's own. Raises UsageError, NotVerified.

    What torch.compile holds inside of it is held no more.
    """
    manifest = files.read_manifest(target)
    compiled.unwrap(network)
    attach.expect_fit(network, manifest, target)
    steps = steps_of(target)
    inputs, generator = {}, torch.Generator().manual_seed(0)  # one for all, as equal inputs cannot be told apart
    for example in manifest.inputs:
        dtype: torch.dtype = getattr(torch, example.dtype)
        noise = torch.randn(example.shape, generator=generator)
        inputs[example.name] = noise.to(dtype) if dtype.is_floating_point else torch.zeros(example.shape, dtype=dtype)
    options = Options(replace(config, profile=manifest.profile), True, calibration)
    code, name = attach.code_of(target), os.fspath(target)
    whole = copy.deepcopy(network).float()  # computed and compared in this type, whatever the network has
    with tempfile.TemporaryDirectory(prefix="npu-guard-") as scratch:
        landing = find_landing(whole, inputs, Path(scratch), options, steps)
        known = files.by_path(manifest)
        again = folder.manifest_of(landing, manifest.profile)
        mine = {b.path: _shapes(b) for b in again.blocks if b.path in known}
        if mine != {b.path: _shapes(b) for b in manifest.blocks}:
            raise UsageError(f"{target}: the steps of the fix give other blocks for these weights; write the folder again")
        weights = folder.weights_of(landing)
        attach.attach(network, manifest, code, weights, name)
        if all(block.exact for block in manifest.blocks):
            proof = Measured()
            attach.attach(whole, manifest, code, weights, name)
            for batch in proving.BATCHES:
                proving.compare_batch(landing.model, whole.cpu().eval(), inputs, batch, proof)
            if proof.failures:
                raise NotVerified(f"{target}: with these weights, {proof.failures[0]}")
    return network


def _shapes(block: Block) -> list[tuple[str, tuple[int, ...]]]:
    """Of its tensors; folders of older versions have no counters of norms."""
    return [(t.name, t.shape) for t in block.tensors if not t.name.endswith(COUNTER)]
