"""Every way in which the user's input can be wrong. A traceback is only ever a bug of ours.

Each error carries the exit code of the command-line contract; the message is one sentence that says what is
wrong, where, and what to do.
"""

from __future__ import annotations


class NpuGuardError(Exception):
    """Base of all errors that are the input's fault. Never raised itself."""

    exit_code = 4
    kind = "internal"


class UsageError(NpuGuardError):
    """Wrong command line, config, profile, or a missing optional package (exit code 2)."""

    exit_code = 2
    kind = "usage"


class ModelError(NpuGuardError):
    """A model that cannot be read or is refused (exit code 3).

    `kind` is one of the words of the JSON contract's `error.kind`: `missing`, `unreadable`, `not-onnx`,
    `truncated`, `unsupported-version`, `invalid`, `limit`, `timeout`, `crashed`.
    """

    exit_code = 3

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class NotVerified(NpuGuardError):
    """What a model leaves open, or needs, keeps it from being run at all (exit code 5)."""

    exit_code = 5
    kind = "not-verified"


class Undecidable(Exception):
    """Raised by analysis look-ups when the graph does not tell; the engine makes an UNDECIDED finding of it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
