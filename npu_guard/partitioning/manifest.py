"""`manifest.json` of a folder of pieces: what to run in which order, on what, and the hashes by which files are known again.

It comes back from elsewhere, so it is data like any other: it is read by a schema, and its names never leave the folder.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from pathlib import Path
from typing import Literal

import msgspec

from npu_guard.base.errors import ModelError, UsageError
from npu_guard.base.files import read_small
from npu_guard.base.regex import regex

NAME = "manifest.json"
KIND: Literal["npu-guard partition"] = "npu-guard partition"
_FILE = regex(r"\d{1,6}-(npu|host)\.onnx(\.[0-9a-f]{8}\.data)?")


class TensorInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor; `shape` has names for extents that are not fixed, null where not even the rank is known."""

    name: str
    dtype: str | None
    shape: tuple[int | str, ...] | None


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file in the folder."""

    name: str
    sha256: str


class PieceInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A piece; `data` are files with its weights where they are not in the model file."""

    index: int
    side: Literal["npu", "host"]
    file: File
    data: tuple[File, ...]
    nodes: int
    macs: int
    bytes: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


class CrossingInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor that goes from one piece to others."""

    tensor: TensorInfo
    bytes: int | None
    source: int
    targets: tuple[int, ...]


class Checked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the pieces were compared with the model when they were written."""

    verdict: Literal["equal"]
    backend: str
    inputs: str


class Tool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who wrote it."""

    name: str
    version: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. Pieces are in order of execution; `model` is the file that was cut."""

    schema_version: Literal[1]
    kind: Literal["npu-guard partition"]
    tool: Tool
    model: File
    profile: str
    npu_macs_percent: float
    npu_bytes_percent: float
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    pieces: tuple[PieceInfo, ...]
    crossings: tuple[CrossingInfo, ...]
    verification: Checked | None

    def files(self) -> list[File]:
        """All files beside the manifest."""
        return [file for piece in self.pieces for file in (piece.file, *piece.data)]


def encode_manifest(manifest: Manifest) -> bytes:
    """The file's content."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def read_manifest(path: Path) -> Manifest:
    """A manifest from a file, or from the folder that it is in. Raises UsageError."""
    file = path / NAME if os.path.isdir(path) else path
    try:
        manifest = msgspec.json.decode(read_small(file), type=Manifest)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such manifest; name the {NAME} that 'npu-guard partition -o DIR' wrote") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is no manifest of npu-guard partition ({error})") from None
    found = Counter(f.name for f in manifest.files())
    wrong = next((name for name, times in found.items() if _FILE.fullmatch(name) is None or times > 1), None)
    if wrong is not None:
        raise UsageError(f"{path}: names the file {wrong[:100]!r}, which npu-guard partition never writes")
    if [piece.index for piece in manifest.pieces] != list(range(len(manifest.pieces))):
        raise UsageError(f"{path}: its pieces are not numbered in their order")
    return manifest


def folder_of(path: Path) -> Path:
    """The folder of a manifest."""
    return path if os.path.isdir(path) else path.parent


def expect_intact(manifest: Manifest, folder: Path) -> None:
    """Raise ModelError where a file is missing, a link, or not the one that was written."""
    for file in manifest.files():
        path = folder / file.name
        try:
            plain = stat.S_ISREG(os.lstat(path).st_mode)
        except OSError:
            raise ModelError("missing", f"{path}: is missing; the manifest names it as a piece") from None
        if not plain:
            raise ModelError("invalid", f"{path}: is refused; a piece must be a plain file in the folder of its manifest")
        if sha256(path) != file.sha256:
            raise ModelError("invalid", f"{path}: is not the file that was written (its SHA-256 is not the manifest's)")


def sha256(path: Path) -> str:
    """Hash of a file. Raises ModelError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError("unreadable", f"{path}: cannot be read ({error.strerror})") from None
