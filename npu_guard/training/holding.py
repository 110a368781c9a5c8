"""Which places hold: the proof of all; where it fails, of each alone, so that those that fail are refused and others land.

Places that share a change stand or fall together: a leaf with more channels and the one behind it that takes them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from npu_guard.base.errors import NotVerified, UsageError
from npu_guard.project.config import Config
from npu_guard.training import attach, folder, proving
from npu_guard.training.construct import code_module
from npu_guard.training.files import Manifest
from npu_guard.training.landing import Landing
from npu_guard.training.places import Place, refusals_of
from npu_guard.training.proving import Measured
from npu_guard.verification.runtime import CannotRun


@dataclass(slots=True)
class Settled:
    """A network with the blocks that hold, and what was seen of it."""

    patched: nn.Module
    manifest: Manifest
    proof: Measured


def settle(landing: Landing, config: Config, name: str, scratch: Path) -> Settled:
    """Prove the places of a landing; those whose own proof fails move to its refusals.

    `name` is that of the folder, for messages; second exports go into `scratch`. Raises NotVerified where no place fails alone
    but all together do, or none is left.
    """
    settled = _tried(landing, landing.plan.places, config, name, scratch)
    if not settled.proof.failures:
        return settled
    first = settled.proof.failures[:3]
    parts = groups(landing.plan.places)
    alone = [_tried(landing, group, config, name, scratch).proof.failures for group in parts if len(parts) > 1]
    failing = [(group, failures[0]) for group, failures in zip(parts, alone, strict=False) if failures]
    if failing and len(failing) < len(parts):
        for group, why in failing:
            landing.plan.places = [p for p in landing.plan.places if all(p is not other for other in group)]
            landing.plan.refused += refusals_of(group, why)
        settled = _tried(landing, landing.plan.places, config, name, scratch)
    if settled.proof.failures:
        raise NotVerified(
            f"{type(landing.model).__name__}: the patched network is not the fixed model ({'; '.join(first)}); "
            "nothing was written"
        )
    return settled


def groups(places: Sequence[Place]) -> list[list[Place]]:
    """Places that share a change, directly or through others."""
    found: list[list[Place]] = []
    for place in places:
        joined = [g for g in found if any(c is d for other in g for c in other.changes for d in place.changes)]
        found = [g for g in found if g not in joined] + [[p for g in joined for p in g] + [place]]
    return found


def _tried(landing: Landing, places: Sequence[Place], config: Config, name: str, scratch: Path) -> Settled:
    """These places in a copy of the network, and its proof; what cannot be put in or exported again is a failure too."""
    manifest = folder.manifest_of(landing, config.profile, places)
    patched = copy.deepcopy(landing.model)
    partial = len(places) < len(landing.plan.places) or bool(landing.plan.refused)
    try:
        attach.attach(patched, manifest, code_module(folder.text_of(landing)), folder.weights_of(landing), name)
        proof = proving.prove(landing.model, patched, manifest, landing.inputs, landing.fixed, config, scratch, partial=partial)
    except (UsageError, CannotRun) as error:
        proof = Measured(failures=[str(error)])
    return Settled(patched, manifest, proof)
