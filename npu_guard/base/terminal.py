"""What goes to standard output and standard error. Nothing else in the package prints."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from npu_guard.base.errors import UsageError
from npu_guard.base.text import inert, printable

_NARROWEST = 20
"""Characters of a line that no terminal folds."""


def complain(message: str) -> None:
    """One line on standard error, if anybody listens; a terminal gets it folded at its width."""
    line = f"npu-guard: {printable(message, 2000)}"
    with contextlib.suppress(OSError):
        if len(line) > _NARROWEST and (width := _width(sys.stderr)) is not None:
            from npu_guard.base.folding import fold  # where a terminal reads

            line = "\n".join(fold(line, width, 2))
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def show_text(content: str, *, folded: bool = False) -> None:
    """Standard output whatever its encoding: what it lacks is escaped, not fatal. `folded` fits lines into a terminal.

    A reader who has gone (`| head`) misses the rest and changes nothing else. Raises UsageError where it cannot be written.
    """
    encoding = sys.stdout.encoding or "utf-8"
    if folded and (width := terminal_width()) is not None:
        from npu_guard.base.folding import fold_text  # where a terminal reads

        content = fold_text(content, width)
    try:
        sys.stdout.write(content.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        # Python would write what is left when it ends, and complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise UsageError(f"standard output cannot be written ({error.strerror})") from None


def wants_colour(terminal: bool, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether text has colour: by the environment where it says so, else where a terminal that can show it reads.

    NO_COLOR (https://no-color.org), then FORCE_COLOR and CLICOLOR_FORCE, then CLICOLOR=0 (https://bixense.com/clicolors/) and
    TERM=dumb. A variable that is empty says nothing.
    """
    if environment.get("NO_COLOR"):
        return False
    forced = [value for name in ("FORCE_COLOR", "CLICOLOR_FORCE") if (value := environment.get(name))]
    if forced:
        return any(value != "0" for value in forced)
    return terminal and environment.get("CLICOLOR") != "0" and environment.get("TERM") != "dumb"


def terminal_width() -> int | None:
    """Characters in a line where a terminal reads standard output; None where something else does, which takes lines whole."""
    return _width(sys.stdout)


def _width(stream: TextIO) -> int | None:
    if not stream.isatty():
        return None
    said = os.environ.get("COLUMNS", "")
    with contextlib.suppress(OSError, ValueError):
        return int(said) if said.isdecimal() and int(said) else os.get_terminal_size(stream.fileno()).columns or 80
    return 80


def show_markdown(page: str) -> None:
    """Rendered on a terminal, as it is elsewhere."""
    page = inert(page)
    if not sys.stdout.isatty():
        show_text(page)
        return
    from npu_guard.base.manual_page import show

    show(page, color=wants_colour(terminal=True))


def write_result(path: Path, content: str) -> None:
    """A result into a file, whole or not at all."""
    from npu_guard.base.files import write_atomic

    write_atomic(path, [content.encode("utf-8", "backslashreplace")])


def write_told(path: Path, content: str) -> None:
    """The same, and a line on standard error that says where it is."""
    write_result(path, content)
    complain(f"wrote {path}")
