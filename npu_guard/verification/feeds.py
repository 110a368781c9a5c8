"""Inputs for verification: seeded ones of several kinds (`drawing.py`), and the user's own."""

from __future__ import annotations

import math
import os
import stat
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from npu_guard.analysis.constants import Constants
from npu_guard.base.errors import NotVerified, UsageError
from npu_guard.base.text import short
from npu_guard.graph.graph import Value, is_known
from npu_guard.verification.drawing import Spec, draw
from npu_guard.verification.roles import role_of

__all__ = [
    "Feed", "Spec", "calibration_feeds", "enough_for_proved", "feed_count", "feed_labels", "feeds_in_words", "fitting_feeds",
    "input_specs", "normal_feed", "once_each", "seeded_feeds",
]  # fmt: skip
Array = NDArray[Any]
Feed = Mapping[str, Array]
MAX_FILE_BYTES = 4 << 30
TURNS = (
    ("normal", "image", "edge"), ("normal", "negative", "large"), ("normal", "zero", "constant", "sparse"),
    ("mixed", "scaled", "levels"), ("mixed", "deep", "flat"), ("mixed", "scaled", "flat"),
)  # fmt: skip
"""The kinds that a seed gives: each of three seeds some of them, and further seeds the others."""
FITTING = ("normal", "wide", "edge")
PROVED = ("normal", "edge", "negative", "large", "zero")
"""The kinds that are run where a proof tells that the functions are equal: runs then tell how a runtime rounds and overflows."""


def input_specs(inputs: Iterable[Value], constants: Constants | None = None) -> list[Spec]:
    """What a graph wants. Raises NotVerified where a shape is not wholly known, or it is of no numbers.

    `constants` of the graph tell the ranges of inputs, as where one is divided by 255.
    """
    wanted = []
    for value in inputs:
        if value.initializer is not None:
            continue  # it has a default
        shape = value.shape
        if not is_known(shape):
            raise NotVerified(
                f"input {short(value.name)!r} has dynamic dimensions; fix them with --input-shape {short(value.name)}:1,3,..."
            )
        if value.dtype == onnx.TensorProto.UNDEFINED:
            raise NotVerified(f"input {short(value.name)!r} has no element type, so nothing can be fed to it")
        if value.dtype == onnx.TensorProto.STRING:
            raise NotVerified(f"input {short(value.name)!r} is of type string, so nothing can be drawn for it")
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.dtype))
        role = role_of(value, constants)
        span = None if role.low is None or role.top is None else (role.low, role.top)
        free = not role.index and not role.size
        held = role.index or role.size
        info = np.iinfo(dtype) if dtype.kind in "iu" else None
        modes = tuple(n for n in role.asked if info is not None and info.min <= n <= info.max)
        if not free and math.prod(shape) != 1:  # indices, which have to be valid
            modes = ()
        spec = Spec(value.name, dtype, shape, role.high, role.most, free, span, role.positive, held)
        wanted.append(replace(spec, extents=role.extents, wraps=role.wraps, modes=modes))
    return wanted


def kinds_of(seed: int) -> tuple[str, ...]:
    """The kinds that are drawn with a seed."""
    return TURNS[seed % len(TURNS)]


def seeded_feeds(wanted: Sequence[Spec], seed: int) -> list[Feed]:
    """One feed of each kind of the seed, the same for the same seed and names whatever the order of the inputs."""
    return [{spec.name: draw(spec, kind, seed) for spec in wanted} for kind in kinds_of(seed)]


def fitting_feeds(wanted: Sequence[Spec], seeds: Sequence[int]) -> list[Feed]:
    """Inputs on which approximations are fitted and judged: of moderate numbers, as of others a fit says nothing."""
    return [{spec.name: draw(spec, kind, seed) for spec in wanted} for seed in seeds for kind in FITTING]


def feed_count(seeds: Sequence[int]) -> int:
    """How many feeds are drawn with these seeds."""
    return sum(len(kinds_of(seed)) for seed in seeds)


def enough_for_proved(seeds: Sequence[int]) -> list[int]:
    """Which of the feeds of these seeds are run for what is proved: the first of each kind in `PROVED`."""
    kinds = [kind for seed in seeds for kind in kinds_of(seed)]
    return sorted(kinds.index(kind) for kind in PROVED if kind in kinds)


def once_each(seeds: Sequence[int]) -> list[int]:
    """Which of the feeds of these seeds are run for what takes many times what the original does: the first of each kind."""
    kinds = [kind for seed in seeds for kind in kinds_of(seed)]
    return sorted(map(kinds.index, set(kinds)))


def feeds_in_words(seeds: Sequence[int], given: int = 0, chosen: Sequence[int] | None = None) -> str:
    """What is drawn with these seeds, or the feeds `chosen` of it, and how many of the user's own come before."""
    kinds = [kind for seed in seeds for kind in kinds_of(seed)]
    if given and not seeds:
        return f"{given} of calibration, as the model runs with no drawn input"
    kinds = kinds if chosen is None else [kinds[i] for i in chosen]
    drawn = f"{len(kinds)} drawn inputs ({', '.join(dict.fromkeys(kinds))})"
    return drawn + (f", {given} of calibration" if given else "")


def feed_labels(given: int, seeds: Sequence[int], batches: int) -> list[str]:
    """Names for so many samples of calibration, what `seeded_feeds` gives for each of the seeds, and inputs of another batch."""
    return [
        *(f"calibration {i + 1}" for i in range(given)),
        *(f"{kind} of seed {seed}" for seed in seeds for kind in kinds_of(seed)),
        *["another batch"] * batches,
    ]


def normal_feed(wanted: Sequence[Spec], seed: int) -> Feed:
    """The feed of the first kind alone, without extreme values."""
    return {spec.name: draw(spec, "normal", seed) for spec in wanted}


def calibration_feeds(path: Path, wanted: Sequence[Spec]) -> list[Feed]:
    """The user's data: an .npz file, or a folder of .npy files, with an array for each input by its name.

    An array has the input's shape, or one more axis in front, or a first axis of several batches. Raises UsageError.
    """
    arrays = _arrays(path)
    names = {spec.name for spec in wanted}
    unknown = sorted(set(arrays) - names)
    missing = sorted(names - set(arrays))
    if unknown or missing:
        what = f"has {', '.join(map(repr, unknown))}, which is no input" if unknown else f"has nothing for input {missing[0]!r}"
        raise UsageError(f"calibration {path.name}: {what}; the inputs are {', '.join(short(n) for n in sorted(names))}")
    samples = {spec.name: _samples(path, spec, arrays[spec.name]) for spec in wanted}
    counts = {name: len(found) for name, found in samples.items()}
    if len(set(counts.values())) > 1:
        raise UsageError(f"calibration {path.name}: the inputs have different numbers of samples: {counts}")
    return [{name: found[i] for name, found in samples.items()} for i in range(next(iter(counts.values()), 0))]


def _arrays(path: Path) -> dict[str, Array]:
    files = sorted(path.glob("*.npy")) if os.path.isdir(path) else [path]
    try:
        for file in files:
            if not stat.S_ISREG(file.stat().st_mode):  # a pipe would hang
                raise UsageError(f"calibration {path.name}: {file.name} is not a regular file")
        if os.path.isdir(path):
            return {file.stem: _numbers(np.load(file, allow_pickle=False)) for file in files}
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > MAX_FILE_BYTES:
            raise UsageError(f"calibration {path.name}: unpacks to {size} bytes; the limit is {MAX_FILE_BYTES}")
        with np.load(path, allow_pickle=False) as file:
            return {name: _numbers(file[name]) for name in file.files}
    except FileNotFoundError:
        raise UsageError(f"calibration {path}: no such file") from None
    except UsageError:
        raise
    except Exception as error:  # zipfile and numpy let through whatever a damaged or encrypted file leads them to
        raise UsageError(f"calibration {path.name}: not an .npz file or a folder of .npy files ({error})") from None


def _numbers(loaded: object) -> Array:
    """What numpy loaded, if it is an array: any other file in an archive comes as bytes, and an archive called .npy as one."""
    if not isinstance(loaded, np.ndarray):
        raise ValueError("it has files that are no arrays")
    return loaded


def _samples(path: Path, spec: Spec, array: Array) -> list[Array]:
    name = f"calibration {path.name}: {spec.name!r}"
    if array.dtype.kind != spec.dtype.kind:
        raise UsageError(f"{name} is {array.dtype} and the input wants {spec.dtype}")
    if not array.size and 0 not in spec.shape:
        raise UsageError(f"{name} has no samples")
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit becomes infinite, and is refused as that
        array = array.astype(spec.dtype, copy=False)
    if not np.isfinite(array).all() if array.dtype.kind == "f" else False:
        raise UsageError(f"{name} has NaN or infinite values")
    shape = spec.shape
    if array.shape == shape:
        return [array]
    if array.shape[1:] == shape:
        return list(array)
    batch = shape[0] if shape else 0
    if batch and array.ndim == len(shape) and array.shape[1:] == shape[1:] and array.shape[0] % batch == 0:
        return np.split(array, array.shape[0] // batch)
    raise UsageError(f"{name} has shape {list(array.shape)} and the input wants {list(shape)}")
