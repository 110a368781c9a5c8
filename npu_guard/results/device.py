"""The device that a model was checked against, in words: a part of `findings.py`, and as inert."""

from __future__ import annotations

from msgspec import Struct


class DeviceLimit(Struct, frozen=True):
    """One limit of a device: the key, what it limits, its value in words, and who says so."""

    key: str
    meaning: str
    value: str
    source: str
    note: str


class DeviceOperators(Struct, frozen=True):
    """Operators of which a device's documents say the same."""

    status: str
    detail: str
    source: str
    names: tuple[str, ...]


class Device(Struct, frozen=True):
    """The profile that a model was checked against, as a reader of the report sees it."""

    name: str
    title: str
    source: str
    notes: tuple[str, ...]
    limits: tuple[DeviceLimit, ...]
    unset: tuple[tuple[str, str], ...]
    """(key, meaning) of the limits that the profile does not set."""
    operators: tuple[DeviceOperators, ...]
    toolchain: str = ""
    """The compiler whose limits these are, with its version."""
    unlisted: str = ""
    """What becomes of operators that are not among them."""
    digest: str = ""
    """SHA-256 of the files that state all that, one after the other, as `cat BASE.toml FILE.toml | sha256sum` prints it."""
