"""What `manifest.json` says: which modules are replaced by what, and what each of their tensors is for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

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
    """What is known of the replaced blocks: `proved`, `proved up to rounding` or `sampled`."""
    keeps: tuple[str, ...] = ()
    """Children that stay, with their weights and hooks."""
    lost: tuple[str, ...] = ()
    """Modules inside that did something in training only and are gone, such as dropout, and parametrizations of weights, such as
    spectral_norm: the block has the weights that they gave."""
    tensors: tuple[TensorEntry, ...] = ()
    old: dict[str, dict[str, str]] = {}
    """What is there before, by module below the path: class, settings, and shapes of its tensors. Folders of older versions have
    none."""


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


def manifest_schema() -> dict[str, Any]:
    """JSON Schema of the file."""
    return msgspec.json.schema(Manifest)


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write it, indented."""
    (folder / NAME).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder. Raises UsageError."""
    path = folder / NAME
    try:
        manifest = msgspec.json.decode(read_small(path, MOST_SETTINGS), type=Manifest)
    except FileNotFoundError:
        raise UsageError(f"{folder}: there is no {NAME}; npu-guard fix package.module:Net --torch {folder} writes it") from None
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from None
    if manifest.version != VERSION:
        raise UsageError(f"{path}: is of version {manifest.version}, and this npu-guard reads {VERSION}; write it again")
    return manifest


def by_path(manifest: Manifest) -> Mapping[str, Block]:
    """Blocks by the path of the module."""
    return {block.path: block for block in manifest.blocks}
