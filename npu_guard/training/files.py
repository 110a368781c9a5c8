"""What `manifest.json` says: which modules are replaced by what, and what each of their tensors is for."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from npu_guard.base.errors import UsageError
from npu_guard.base.files import MOST_SETTINGS, read_small

VERSION = 1
NAME, BLOCKS, WEIGHTS, README, DIFF, PLAN = (
    "manifest.json", "blocks.py", "weights.safetensors", "README.md", "npu.diff", "plan.toml",
)  # fmt: skip


class TensorEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """A parameter or buffer of a block."""

    name: str
    shape: tuple[int, ...]
    trained: bool
    """Whether it is a parameter; what is fixed by construction is a buffer."""
    sources: tuple[str, ...] = ()
    """Names of the weights of the original that it is computed from."""
    padding: tuple[tuple[int, int, int], ...] = ()
    """Axis, first and end of indices that were added: their elements are zero."""
    masked: bool = False
    """Whether some elements are structure and keep their value in training."""


class Merge(Struct, frozen=True, forbid_unknown_fields=True):
    """A BatchNorm behind a sum of convolutions: an export has it in their weights, as the fixed file has. All are paths."""

    norm: str
    weights: tuple[str, ...]
    """The convolutions."""
    bias: str
    """The one of them that gets what the norm adds."""


class Block(Struct, frozen=True, forbid_unknown_fields=True):
    """A module that is replaced."""

    path: str
    """Of the module in the network, "" for the network itself."""
    kind: str
    """`leaf`, `module`, `forward` (the network's own, which calls its old children) or `flat`."""
    module: str
    """A class of blocks.py, or one of torch's own with its arguments."""
    replaces: str
    """Name of the class that is there before."""
    substitutions: tuple[str, ...]
    exact: bool = True
    proof: str = ""
    """What is known of the replaced blocks in eval mode: `proved`, `proved up to rounding` or `sampled`."""
    keeps: tuple[str, ...] = ()
    """Children that stay, with their weights and hooks."""
    lost: tuple[str, ...] = ()
    """Modules inside that did something in training only and are gone, such as dropout, and parametrizations of weights, such as
    spectral_norm: the block has the weights that they gave."""
    tensors: tuple[TensorEntry, ...] = ()
    weights: str = ""
    """Digest of the weights that are there before; folders of older versions have none."""
    old: dict[str, dict[str, str]] = {}
    """What is there before, by module below the path: class, settings, and shapes of its tensors. Folders of older versions have
    none."""
    merges: tuple[Merge, ...] = ()
    """Norms behind sums of convolutions of this block. Folders of older versions have none, and their norms stay operators."""


class Refused(Struct, frozen=True, forbid_unknown_fields=True):
    """A replaced block of the ONNX file that has no place in the code."""

    substitutions: tuple[str, ...]
    reason: str


class Example(Struct, frozen=True, forbid_unknown_fields=True):
    """An input that the blocks were made with."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    version: int
    npu_guard: str
    network: str
    """Name of the network's class."""
    profile: str
    inputs: tuple[Example, ...]
    resolution: str
    """`free`: other heights and widths gave equal results; `fixed`: those of the example only; `untested`: the original takes no
    others."""
    blocks: tuple[Block, ...]
    refused: tuple[Refused, ...] = ()
    digests: dict[str, str] = {}
    """Of this file without the key, of the weights beside it, and of blocks.py without comments and layout; folders of older
    versions have none."""


def manifest_schema() -> dict[str, Any]:
    """JSON Schema of the file."""
    return msgspec.json.schema(Manifest)


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write it, indented, with digests of itself, and of the code and the weights that are there."""
    digests = {NAME: _digest(msgspec.to_builtins(manifest))}
    if (code := _code_digest(folder)) is not None:
        digests[BLOCKS] = code
    if os.path.isfile(folder / WEIGHTS):
        digests[WEIGHTS] = _sha256(folder / WEIGHTS)
    manifest = replace(manifest, digests=digests)
    (folder / NAME).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder, without what does not hold for a blocks.py that was edited. Raises UsageError."""
    path = folder / NAME
    try:
        text = read_small(path, MOST_SETTINGS)
        manifest = msgspec.json.decode(text, type=Manifest)
    except FileNotFoundError:
        raise UsageError(f"{folder}: there is no {NAME}; npu-guard fix package.module:Net --torch {folder} writes it") from None
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from None
    if manifest.version != VERSION:
        raise UsageError(f"{path}: is of version {manifest.version}, and this npu-guard reads {VERSION}; write it again")
    if manifest.digests.get(NAME, "") not in ("", _digest(msgspec.json.decode(text))):
        raise UsageError(
            f"{path}: was changed after it was written, and its blocks are proved as they were; write the folder again"
        )
    if BLOCKS not in manifest.digests or is_edited(manifest, folder):
        manifest = replace(manifest, blocks=tuple(replace(block, merges=()) for block in manifest.blocks))
    return manifest


def is_edited(manifest: Manifest, folder: Path) -> bool:
    """Whether blocks.py is known to have other code than what was written."""
    return manifest.digests.get(BLOCKS) not in (None, _code_digest(folder))


def expect_weights(manifest: Manifest, folder: Path) -> None:
    """Refuse other weights than those that the manifest was written with. Raises UsageError."""
    path = folder / WEIGHTS
    if (wanted := manifest.digests.get(WEIGHTS)) and wanted != _sha256(path):
        raise UsageError(f"{path}: is not the file that was written with {NAME}; write the folder again")


def _digest(manifest: dict[str, Any]) -> str:
    """Of what is in it, however it is laid out, and whatever keys other versions have."""
    rest = {key: value for key, value in manifest.items() if key != "digests"}
    return sha256(msgspec.json.encode(rest, order="deterministic")).hexdigest()


def _code_digest(folder: Path) -> str | None:
    """Of what blocks.py does, however it is laid out and explained; None where it is no Python."""
    try:
        tree = ast.parse((folder / BLOCKS).read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return None
    for part in ast.walk(tree):
        if isinstance(part, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(part, clean=False) is not None:
            part.body[0] = ast.Pass()
    return sha256(ast.unparse(tree).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def by_path(manifest: Manifest) -> Mapping[str, Block]:
    """Blocks by the path of the module."""
    return {block.path: block for block in manifest.blocks}
