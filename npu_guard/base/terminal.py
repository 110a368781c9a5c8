"""What goes to standard output and standard error. Nothing else in the package prints."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from npu_guard.base.errors import UsageError
from npu_guard.base.text import inert, printable


def complain(message: str) -> None:
    """One line on standard error, if anybody listens."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"npu-guard: {printable(message, 2000)}\n")
        sys.stderr.flush()


def show_text(content: str) -> None:
    """Standard output whatever its encoding: what it lacks is escaped, not fatal.

    A reader who has gone (`| head`) misses the rest and changes nothing else. Raises UsageError where it cannot be written.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(content.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        # Python would write what is left when it ends, and complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise UsageError(f"standard output cannot be written ({error.strerror})") from None


def show_markdown(page: str) -> None:
    """Rendered on a terminal, as it is elsewhere."""
    page = inert(page)
    if not sys.stdout.isatty():
        show_text(page)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console(width=min(Console().width, 100)).print(Markdown(page))


def write_result(path: Path, content: str) -> None:
    """A result into a file, whole or not at all."""
    from npu_guard.base.files import write_atomic

    write_atomic(path, [content.encode("utf-8", "backslashreplace")])
