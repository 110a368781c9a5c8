"""Where a model is: a file or the URL of an object."""

from __future__ import annotations

from msgspec import Struct

from npu_guard.base.regex import regex

_URL = regex(r"[A-Za-z][A-Za-z0-9+.-]+(::[A-Za-z][A-Za-z0-9+.-]+)*://")


class ModelSource(Struct, frozen=True):
    """One model. `mark` changes when its content does, as far as can be told without reading it."""

    name: str
    size: int
    mark: str


def is_url(name: str) -> bool:
    """Whether a name is for fsspec: `s3://bucket/net.onnx`. A drive letter is none."""
    return "://" in name and _URL.match(name) is not None
