"""Outputs of a command are no inputs of it: neither a model nor a file in which a model keeps its weights."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from pathlib import Path

from npu_guard.base.errors import ModelError, UsageError
from npu_guard.base.text import text
from npu_guard.file import load
from npu_guard.file.document import Document


def expect_apart(outputs: Iterable[Path | None], models: Iterable[str]) -> None:
    """Raise UsageError where a file to be written is a model, or holds weights of one, by whatever name it is called."""
    there = [path for path in outputs if path is not None]
    for model in models if there else ():
        for path in there:
            if is_same_file(path, model):
                raise UsageError(f"{path}: is the input itself; name another file")
        if any(os.path.isfile(path) and _mentions(model, path) for path in there):
            data = weight_files(model)
            for path in there:
                if any(is_same_file(path, file) for file in data):
                    raise UsageError(f"{path}: holds weights of {model}; name another file")


def is_same_file(one: Path | str, other: Path | str) -> bool:
    """Whether both names lead to one file, be it there or not."""
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return os.path.realpath(one) == os.path.realpath(other)


def weight_files(model: str) -> list[Path]:
    """Files beside a model that it names; none of a model that cannot be read, of which the reader will tell."""
    try:
        skeleton = load.load(model)
    except (ModelError, OSError):
        return []
    document = Document(skeleton.proto, Path(skeleton.path), skeleton.payloads, skeleton.limits)
    named = {
        text(entry.value)
        for tensor in document.tensors()
        if document.payload(tensor) is None
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return [Path(model).parent / name for name in sorted(named)]


def _mentions(model: str, path: Path) -> bool:
    """Whether the model's bytes have the name of the file, or the file has several names; no model is parsed for this."""
    try:
        if path.is_symlink() or path.stat().st_nlink > 1:
            return True
        with open(model, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(os.fsencode(os.path.basename(os.path.realpath(path)))) >= 0
    except (OSError, ValueError):
        return False
