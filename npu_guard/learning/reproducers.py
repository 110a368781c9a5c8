"""Two devices against the models that a compiler answered for: which of them says what the compiler says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from npu_guard.base.errors import UsageError
from npu_guard.base.files import read_small
from npu_guard.device import Profile
from npu_guard.learning.writing import INDEX
from npu_guard.pipeline.check import check_model
from npu_guard.project.config import Config
from npu_guard.results.findings import Verdict


def compare(folder: Path, *devices: Profile) -> list[str]:
    """A line for each model that a device judges otherwise than the compiler, then how many each judges as it does.

    Raises UsageError where the folder is not one that `profiles learn` wrote.
    """
    try:
        index = json.loads(read_small(folder / INDEX))
        entries = sorted((str(name), bool(entry["fits"])) for name, entry in index.items())
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise UsageError(f"{folder}: no folder of reproducers, as its {INDEX} cannot be read ({error})") from None
    lines, right = [], [0] * len(devices)
    for name, fits in entries:
        if Path(name).name != name:
            raise UsageError(f"{folder / INDEX}: {name!r} is no file of the folder")
        said = [_fits(folder / name, device) for device in devices]
        for number, answer in enumerate(said):
            right[number] += answer == fits
        if any(answer != fits for answer in said):
            lines.append(f"! {name}: the compiler {_word(fits)}, {_opinions(devices, said)}")
    total = len(entries)
    agreed = zip(devices, right, strict=True)
    return [*lines, *(f"reproducers: {device.name} judges {n} of {total} as the compiler" for device, n in agreed)]


def _fits(model: Path, device: Profile) -> bool | None:
    report = check_model(str(model), device, Config())
    if report.verdict is Verdict.UNREADABLE:
        raise UsageError(f"{model}: cannot be read, as a reproducer should be")
    return None if report.verdict is Verdict.UNDECIDED else report.verdict is not Verdict.FAIL


def _opinions(devices: Sequence[Profile], said: Sequence[bool | None]) -> str:
    return ", ".join(f"{device.name} {_word(answer)}" for device, answer in zip(devices, said, strict=True))


def _word(fits: bool | None) -> str:
    return "cannot tell" if fits is None else "takes it" if fits else "refuses it"
