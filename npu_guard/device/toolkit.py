"""Versions of a compiler: that of a device file, another that a user has, and ranges of them such as ">=4.5, <5"."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from npu_guard.base.errors import UsageError
from npu_guard.base.regex import regex

_CHOSEN = regex(r"(.+)@([\w.+-]+==[\w.+!-]+)")
_RANGE = regex(r"\s*(<=|>=|==|!=|<|>)\s*(\d+(?:\.\d+)*)\s*")
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b,
}  # fmt: skip


def with_toolkit(profile: str, toolkit: str | None) -> str:
    """The name of a device with the toolkit that a user has, `DEVICE@NAME==VERSION`. Raises UsageError."""
    if not toolkit:
        return profile
    name, equals, version = toolkit.partition("==")
    if not equals or not name or not re.fullmatch(r"\d[\w.+!-]*", version):
        raise UsageError(f"--toolkit {toolkit!r}: write it as NAME==VERSION, such as rknn-toolkit2==2.3.2")
    return f"{split_toolkit(profile)[0]}@{toolkit}"


def split_toolkit(profile: str) -> tuple[str, str]:
    """(device, toolkit) of a name; the second is empty where it names none."""
    found = _CHOSEN.fullmatch(profile)
    return (found[1], found[2]) if found is not None else (profile, "")


def version_of(toolkit: str, name: str, where: str) -> str:
    """The version that a toolkit states, where it is the one of the device file. Raises UsageError."""
    stated, _, version = toolkit.partition("==")
    if not name:
        raise UsageError(f"{where} names no toolchain, so that it cannot tell limits of {toolkit} apart")
    if stated.lower() != name.lower():
        raise UsageError(f"{where} has limits of {name}, and --toolkit names {stated!r}")
    return version


def in_range(versions: str, version: str, where: str) -> bool:
    """Whether a version is in a range. Raises UsageError where the range is not one."""
    return all(_holds(part, version, where) for part in versions.split(","))


def _holds(comparison: str, version: str, where: str) -> bool:
    found = _RANGE.fullmatch(comparison)
    if found is None:
        raise UsageError(f"{where}: toolchain is {comparison!r}; it must be written as in '>=4.5, <5'")
    length = max(version.count("."), found[2].count(".")) + 1
    return _COMPARE[found[1]](_version(version, length), _version(found[2], length))


def _version(text: str, length: int) -> tuple[int, ...]:
    numbers = [int(n) for n in re.findall(r"\d+", text)][:length]
    return tuple(numbers + [0] * (length - len(numbers)))
