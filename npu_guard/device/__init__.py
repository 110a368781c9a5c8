"""A device's limits as data: TOML files in `rules/profiles/`, or of the user's own.

Every limit has a source. Limits of the whole device have a key each (`keys.py`), which a rule reads; limits of single
operators bound a metric (`metric.py`), which says what rule reports them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from npu_guard.device.keys import LIMITS, ResizeForm, convert, limit_value, suggest

if TYPE_CHECKING:
    from npu_guard.device.device import Limit, Operator, Profile, load_profile, requirements
    from npu_guard.device.requirement import CONSEQUENCES, Requirement

__all__ = [
    "CONSEQUENCES",
    "LIMITS",
    "Limit",
    "Operator",
    "Profile",
    "Requirement",
    "ResizeForm",
    "convert",
    "limit_value",
    "load_profile",
    "requirements",
    "suggest",
]


def __getattr__(name: str) -> object:
    """Devices themselves are measured with onnx, and settings do without it: what needs it is imported when it is used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "requirement" if name in ("CONSEQUENCES", "Requirement") else "device"
    return getattr(importlib.import_module(f"npu_guard.device.{module}"), name)
