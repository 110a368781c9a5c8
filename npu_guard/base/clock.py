"""The day: what has an end is held against it, and a report names it where one asks for that."""

from __future__ import annotations

import datetime
import os

from npu_guard.base.errors import UsageError


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
            return datetime.datetime.fromtimestamp(int(stamp), tz=datetime.UTC).date().isoformat()
        except (ValueError, OverflowError, OSError):
            raise UsageError(f"SOURCE_DATE_EPOCH is {stamp!r}; it must be a number of seconds since 1970") from None
    return datetime.datetime.now(tz=datetime.UTC).date().isoformat() if dated else ""
