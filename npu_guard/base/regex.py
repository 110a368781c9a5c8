"""Regular expressions that are compiled when they are first used: most runs use few of those that modules state."""

from __future__ import annotations

import re
from typing import Any, AnyStr, cast


def regex(pattern: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """As `re.compile`, which takes longer than all the rest of reading a module."""
    return cast("re.Pattern[AnyStr]", _Regex(pattern, flags))


class _Regex:
    def __init__(self, pattern: str | bytes, flags: int) -> None:
        self._stated = pattern, flags

    def __getattr__(self, name: str) -> Any:
        """A method of the compiled pattern, kept, so that it is found at once from then on."""
        pattern, flags = self._stated
        method = getattr(re.compile(pattern, flags), name)
        setattr(self, name, method)
        return method
