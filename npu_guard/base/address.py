"""Addresses of objects in stores, as opposed to paths of files."""

from __future__ import annotations

from npu_guard.base.regex import regex

_URL = regex(r"[A-Za-z][A-Za-z0-9+.-]+(::[A-Za-z][A-Za-z0-9+.-]+)*://")


def is_url(name: str) -> bool:
    """Whether a name is for fsspec: `s3://bucket/net.onnx`. A drive letter is none."""
    return "://" in name and _URL.match(name) is not None
