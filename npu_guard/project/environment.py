"""Settings from environment variables: they count more than the project's file and less than flags."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from npu_guard.base.errors import UsageError
from npu_guard.base.text import printable
from npu_guard.device import suggest
from npu_guard.project.config import LEVELS_OF_FAILURE, Config, expect_docs_url, expect_max_cost

VARIABLES = {
    "profile": "NPU_GUARD_PROFILE",
    "fail-on": "NPU_GUARD_FAIL_ON",
    "allow-undecided": "NPU_GUARD_ALLOW_UNDECIDED",
    "max-cost": "NPU_GUARD_MAX_COST",
    "cache": "NPU_GUARD_CACHE",
    "docs-url": "NPU_GUARD_DOCS_URL",
}
"""The variable of each setting that has one; empty counts as not set."""
_OTHERS = ("NPU_GUARD_CACHE_KEY", "NPU_GUARD_COMPILERS", "NPU_GUARD_EXAMPLES")
"""Variables that one module alone reads, and those of the project's own tests."""
_YES, _NO = ("1", "true", "yes"), ("0", "false", "no")


def with_environment(config: Config, environment: Mapping[str, str] = os.environ) -> Config:
    """The settings under what the environment says. Raises UsageError for a value that a setting cannot have."""
    found: dict[str, Any] = {}
    for setting, variable in VARIABLES.items():
        value = environment.get(variable, "")
        if not value:
            continue
        kinds: dict[str, Any] = {"allow-undecided": value.lower() in _YES, "cache": Path(value)}
        if setting == "fail-on" and value not in LEVELS_OF_FAILURE:
            raise UsageError(f"{variable} is {value!r}; it must be one of {', '.join(LEVELS_OF_FAILURE)}")
        if setting == "allow-undecided" and value.lower() not in _YES + _NO:
            raise UsageError(f"{variable} is {value!r}; it must be true or false")
        if setting == "max-cost":
            kinds["max-cost"] = _number(value, variable)
            expect_max_cost(kinds["max-cost"], variable)
        if setting == "docs-url":
            expect_docs_url(value, variable)
        found[setting.replace("-", "_")] = kinds.get(setting, value)
    return replace(config, **found) if found else config


def misspelt(environment: Mapping[str, str] = os.environ) -> list[str]:
    """A line for each variable that looks like a setting and is none, with the one that may have been meant."""
    known = {*VARIABLES.values(), *_OTHERS}
    names = (name for name in sorted(environment) if name.startswith("NPU_GUARD_") and name not in known)
    return [f"{printable(name, 80)} is set, and there is no such setting; it is ignored{suggest(name, known)}" for name in names]


def _number(value: str, variable: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UsageError(f"{variable} is {value!r}; it must be a number") from None
