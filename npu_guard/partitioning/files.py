"""A partition as a folder: a model for each piece and the manifest, compared with the whole model before it appears."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import onnx
from numpy.typing import NDArray

from npu_guard.analysis.analyze import Analysis, analyze
from npu_guard.analysis.interface import state_shapes
from npu_guard.analysis.types import DTYPE_NAMES
from npu_guard.base.errors import ModelError, NotVerified, UsageError
from npu_guard.base.installation import VERSION
from npu_guard.base.limits import DEFAULT, Limits
from npu_guard.base.text import text
from npu_guard.file import load
from npu_guard.file.document import Document
from npu_guard.file.save import save_document
from npu_guard.file.tensors import MAX_DIM
from npu_guard.graph.graph import Value
from npu_guard.partitioning.cut import Cutter, symbols
from npu_guard.partitioning.manifest import (
    KIND,
    NAME,
    Checked,
    CrossingInfo,
    File,
    Manifest,
    PieceInfo,
    TensorInfo,
    Tool,
    encode_manifest,
    expect_intact,
    folder_of,
    read_manifest,
    sha256,
)
from npu_guard.partitioning.partition import Partition
from npu_guard.results.verification import Verification
from npu_guard.verification.compare import accumulated_terms, judge_outputs, not_run, run_document
from npu_guard.verification.feeds import Feed, Spec, calibration_feeds, feed_count, feeds_in_words, input_specs, seeded_feeds
from npu_guard.verification.run_limits import RunLimits, run_limits
from npu_guard.verification.runnable import feeds_beside
from npu_guard.verification.runtime import CannotRun, Runtime

Array = NDArray[Any]

_TIMES, _FREE = 3, 64 << 20
"""How many times the model's size its pieces may take in all, and bytes beyond that."""


def write_partition(
    document: Document, partition: Partition, folder: Path, *, calibration: Path | None = None, seeds: Sequence[int] = (0,)
) -> Verification:
    """Write the pieces of a document whose analysis was cut, and the manifest. The folder appears whole, or not at all.

    It appears only where the verdict, on seeded inputs of every kind and on the user's, is `equal`. Raises UsageError where
    there is something else in the folder or the calibration does not fit, ModelError where its weights cannot be read.
    """
    target = Path(os.path.realpath(folder))
    _expect_free(folder, target)
    allowed = run_limits(document.limits, (document, partition.analysis))
    try:
        inputs = _draw(partition.analysis, calibration, seeds, allowed)
    except NotVerified as error:
        return not_run(str(error), seeds)
    try:
        base = next(folder for folder in target.parents if os.path.exists(folder))  # so that a failure leaves no empty folders
        temporary = Path(tempfile.mkdtemp(dir=base, prefix=f".{target.name[:40]}."))
    except OSError as error:
        raise UsageError(f"{folder}: no folder can be made there ({error.strerror or error})") from None
    try:
        manifest = _save(document, partition, temporary)
        if manifest is None:
            return not_run("its pieces would take several times the space of the model, as many read one weight", seeds)
        with Runtime(allowed) as runtime:
            result = _compare(runtime, document, partition.analysis, manifest, temporary, inputs, seeds)
        if result.verdict == "equal":
            checked = Checked("equal", result.backend, result.inputs)
            manifest = msgspec.structs.replace(manifest, verification=checked)
            (temporary / NAME).write_bytes(encode_manifest(manifest))
            _appear(temporary, target)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return result


def verify_partition(
    path: Path, model: str | None, *, calibration: Path | None = None, seeds: Sequence[int] = (0, 1, 2), limits: Limits = DEFAULT
) -> Verification:
    """Run the pieces of a folder, or of its manifest, and compare them with the model that they were cut from.

    Without a model they are compared with nothing: that they are the files that were verified when they were written, and that
    they still run, is all that can be said, and the verdict is `not_run`. Raises ModelError where a file is not the one that
    was written, UsageError where the manifest is none.
    """
    manifest, folder = read_manifest(path), folder_of(path)
    expect_intact(manifest, folder)
    if model is None:
        return _run_alone(manifest, folder, seeds, limits)
    skeleton = load.load(model, limits)
    if load.sha256(model) != manifest.model.sha256:
        raise ModelError("invalid", f"{model}: is not the model that was cut (its SHA-256 is not the manifest's)")
    document = Document.of(skeleton)
    analysis = analyze(skeleton, _fixed(manifest))
    state_shapes(document.proto, _fixed(manifest), analysis)
    allowed = run_limits(limits, (document, analysis))
    try:
        inputs = _draw(analysis, calibration, seeds, allowed)
    except NotVerified as error:
        return not_run(str(error), seeds)
    with Runtime(allowed) as runtime:
        return _compare(runtime, document, analysis, manifest, folder, inputs, seeds)


def run(runtime: Runtime, manifest: Manifest, folder: Path, inputs: Sequence[Feed]) -> list[dict[str, Array]]:
    """Outputs of the model for each of the inputs, by running the pieces one after the other. Raises CannotRun."""
    known: list[dict[str, Array]] = [dict(feed) for feed in inputs]
    results = [t.name for t in manifest.outputs]
    last = {t.name: piece.index for piece in manifest.pieces for t in piece.inputs}
    for piece in manifest.pieces:
        document = Document.of(load.load(folder / piece.file.name))
        taken = [i.name for i in document.proto.graph.input if all(i.name in values for values in known)]
        missing = next((t.name for t in piece.inputs if t.name not in taken), None)
        if missing is not None:
            raise CannotRun(f"piece {piece.index} needs {missing!r}, which no piece before it makes")
        names = [t.name for t in piece.outputs]
        given = [{name: values[name] for name in taken} for values in known]
        for values, made in zip(known, run_document(runtime, document, given, names) if names else [], strict=False):
            values.update(made)
        for name in [n for n, index in last.items() if index == piece.index and n not in results]:
            for values in known:
                values.pop(name, None)
    if not all(name in values for values in known for name in results):
        raise CannotRun("the pieces do not make every output of the model")
    return [{name: values[name] for name in results} for values in known]


class _Wanted(NamedTuple):
    """The user's own inputs, and which others are drawn."""

    given: list[Feed]
    drawn: list[Spec]


def _compare(
    runtime: Runtime, document: Document, analysis: Analysis, manifest: Manifest, folder: Path,
    inputs: _Wanted, seeds: Sequence[int],
) -> Verification:  # fmt: skip
    names = list(dict.fromkeys(o.name for o in document.proto.graph.output))
    if names != [t.name for t in manifest.outputs]:
        return not_run("the manifest names other outputs than the model", seeds)
    try:
        drawn, seeds = feeds_beside(runtime, document, analysis, inputs.drawn, seeds, inputs.given)
        used = [*inputs.given, *drawn]
        whole = run_document(runtime, document, used)
        pieces = run(runtime, manifest, folder, used)
    except CannotRun as error:
        return not_run(str(error), seeds)
    terms = 2 * accumulated_terms(analysis)
    kinds = feeds_in_words(seeds, len(inputs.given))
    return judge_outputs(whole, pieces, {n: n for n in names}, terms, exact=True, seeds=seeds, kinds=kinds)


def _run_alone(manifest: Manifest, folder: Path, seeds: Sequence[int], limits: Limits) -> Verification:
    by_name = {name: number for number, name in DTYPE_NAMES.items()}
    wanted = []
    for t in manifest.inputs:
        shape = tuple(d for d in t.shape or () if isinstance(d, int) and 0 <= d <= MAX_DIM)
        if t.shape is None or len(shape) < len(t.shape) or t.dtype not in by_name:
            return not_run(f"input {t.name!r} has no fixed shape and type to draw; name the model", seeds)
        wanted.append(Spec(t.name, onnx.helper.tensor_dtype_to_np_dtype(by_name[t.dtype]), shape))
    pieces = [load.load(folder / piece.file.name, limits) for piece in manifest.pieces]
    if not pieces:
        return not_run("there are no pieces", seeds)
    allowed = run_limits(limits, *((Document.of(piece), analyze(piece)) for piece in pieces))
    # What a piece reads the allowance counts; that the manifest claims no more than that is asked here.
    claimed = feed_count(seeds) * sum(math.prod(spec.shape) * spec.dtype.itemsize for spec in wanted)
    if claimed > allowed.memory:
        return not_run("the manifest claims inputs that its pieces are too small for; name the model", seeds)
    if why := allowed.refusal(feed_count(seeds)):
        return not_run(why, seeds)
    with Runtime(allowed) as runtime:
        try:
            run(runtime, manifest, folder, [feed for seed in seeds for feed in seeded_feeds(wanted, seed)])
        except CannotRun as error:
            return not_run(str(error), seeds)
    return not_run(ALONE, seeds)


ALONE = "no model was named; the pieces are the files that were written, and they run in order"
"""Why pieces without their model are not said to be equal."""


def _draw(analysis: Analysis, calibration: Path | None, seeds: Sequence[int], allowed: RunLimits) -> _Wanted:
    """What to compare on. Raises NotVerified where inputs cannot be drawn or take too much memory."""
    wanted = input_specs(analysis.model.graph.inputs)
    if why := allowed.refusal(feed_count(seeds)):
        raise NotVerified(why)
    given = calibration_feeds(calibration, wanted) if calibration is not None else []
    return _Wanted(given, wanted)


def _fixed(manifest: Manifest) -> Mapping[str, Sequence[int]]:
    """The input shapes that the pieces are for."""
    found = {t.name: [d for d in t.shape or () if isinstance(d, int)] for t in manifest.inputs}
    return {t.name: found[t.name] for t in manifest.inputs if t.shape and len(found[t.name]) == len(t.shape)}


def _save(document: Document, partition: Partition, folder: Path) -> Manifest | None:
    """Write the pieces; None where they take several times what the model takes."""
    cutter = Cutter(document, partition)
    pieces: list[PieceInfo] = []
    room = _TIMES * (document.source.stat().st_size + sum(partition.analysis.beside.values())) + _FREE
    digits = max(2, len(str(len(partition.pieces) - 1)))  # so that names sort in the order in which the pieces run
    for piece in partition.pieces:
        path = folder / f"{piece.index:0{digits}}-{piece.side}.onnx"
        save_document(cutter.document_of(piece), path)
        data = sorted(f for f in folder.iterdir() if f.name.startswith(f"{path.name}."))
        room -= sum(f.stat().st_size for f in (path, *data))
        if room < 0:
            return None
        pieces.append(
            PieceInfo(
                piece.index, "npu" if piece.side == "npu" else "host", _file(path), tuple(map(_file, data)), len(piece.nodes),
                piece.macs, piece.bytes, tuple(map(_tensor, piece.inputs)), tuple(map(_tensor, piece.outputs)),
            )
        )  # fmt: skip
    graph = partition.analysis.model.graph
    return Manifest(
        1, KIND, Tool("npu-guard", VERSION),
        File(text(os.fsencode(document.source.name)), load.sha256(document.source)), partition.profile,
        partition.npu_macs_percent, partition.npu_bytes_percent,
        tuple(_tensor(v) for v in graph.inputs if v.initializer is None),
        tuple(_tensor(v) for v in dict.fromkeys(graph.outputs)),
        tuple(pieces),
        tuple(CrossingInfo(_tensor(c.value), c.bytes, c.source, c.targets) for c in partition.crossings),
        None,
    )  # fmt: skip


def _file(path: Path) -> File:
    return File(path.name, sha256(path))


def _tensor(value: Value) -> TensorInfo:
    shape = symbols(value)
    return TensorInfo(value.name, DTYPE_NAMES.get(value.dtype), None if shape is None else tuple(shape))


def _expect_free(folder: Path, target: Path) -> None:
    """Raise UsageError where the folder has anything that npu-guard did not write there."""
    if not os.path.lexists(target):
        return
    try:
        there = {entry.name for entry in target.iterdir()}
        foreign = there - _ours(target) if there else set()
    except (OSError, UsageError):
        foreign = {target.name}
    if foreign:
        raise UsageError(f"{folder}: has files that npu-guard partition did not write; name a new or an empty folder")


def _ours(folder: Path) -> set[str]:
    """Names of the files of a folder that was written here. Raises UsageError where it was not."""
    return {NAME, *(file.name for file in read_manifest(folder).files())}


def _appear(temporary: Path, target: Path) -> None:
    """Put the folder in its place; what was ours in an older one goes once the new one is there."""
    temporary.chmod(_mode())
    target.parent.mkdir(parents=True, exist_ok=True)
    old = temporary.with_name(f"{temporary.name}.old")
    names: set[str] = set()
    if os.path.exists(target):
        names = _ours(target) if any(target.iterdir()) else set()
        target.rename(old)
    try:
        temporary.rename(target)
    except OSError:
        if os.path.exists(old):
            old.rename(target)
        raise
    with contextlib.suppress(OSError):  # what somebody has put there since then stays, in the old folder
        for name in names:
            (old / name).unlink()
        old.rmdir()


def _mode() -> int:
    """Permissions that the umask leaves to a new folder."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o777 & ~mask
