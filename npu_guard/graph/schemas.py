"""What ONNX defines of an operator, asked for once in a process: its library copies a schema out each time."""

from __future__ import annotations

import functools
from typing import Any

import onnx

_MOST = 4096
"""Operators in all versions that a process keeps; ONNX has about 700, and a fleet's models add few of their own."""


def find_schema(op_type: str, domain: str, opset: int) -> Any:
    """onnx.defs.OpSchema of an operator in a version of its operator set, None where that has no such operator."""
    try:
        return _schema(op_type, domain, opset)
    except onnx.defs.SchemaError:  # not kept, for an operator may be registered later
        return None


def newest_schema(op_type: str, domain: str) -> Any:
    """onnx.defs.OpSchema of an operator in its newest version, None where no version has it."""
    try:
        return _newest(op_type, domain)
    except onnx.defs.SchemaError:
        return None


@functools.lru_cache(_MOST)
def _schema(op_type: str, domain: str, opset: int) -> Any:
    return onnx.defs.get_schema(op_type, opset, domain)


@functools.lru_cache(_MOST)
def _newest(op_type: str, domain: str) -> Any:
    return onnx.defs.get_schema(op_type, domain)
