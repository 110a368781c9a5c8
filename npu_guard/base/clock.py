"""The day: what has an end is held against it, and a report names it where one asks for that."""

from __future__ import annotations

import datetime
import os

from npu_guard.base.errors import UsageError
from npu_guard.base.text import printable


def today() -> datetime.date:
    """The day here, which suppressions and baseline entries with an end are held against."""
    return datetime.date.today()


def report_date(*, dated: bool) -> str:
    """ISO date for a report: that of SOURCE_DATE_EPOCH, which reproducible builds set, else of today if `dated`, else empty.

    The variable's meaning: https://reproducible-builds.org/specs/source-date-epoch/. Raises UsageError where it is no number.
    """
    stamp = os.environ.get("SOURCE_DATE_EPOCH", "")
    if stamp:
        try:
            # The specification's digits alone: `int` takes a sign, underscores and digits of other scripts as well.
            if stamp.isascii() and stamp.isdigit():
                return datetime.datetime.fromtimestamp(int(stamp), tz=datetime.UTC).date().isoformat()
        except (ValueError, OverflowError, OSError):
            pass
        raise UsageError(f"SOURCE_DATE_EPOCH is {printable(stamp, 40)!r}; it must be a number of seconds since 1970")
    return datetime.datetime.now(tz=datetime.UTC).date().isoformat() if dated else ""
