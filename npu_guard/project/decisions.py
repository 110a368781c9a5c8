"""Python code of a network that decides by what a tensor holds: no exported model can, and torch says so in its own terms."""

from __future__ import annotations

import linecache
import os
import sysconfig
from collections.abc import Callable, Iterator
from traceback import walk_tb
from types import TracebackType

GUARD = "GuardOnDataDependentSymNode"
"""Torch's exception."""
INSTALLED = {"site-packages", "dist-packages"}
"""Folders that may lie in that of Python itself, with packages of others."""


def decision_in(error: BaseException, relative: Callable[[str], str | None]) -> str:
    """The place that decides, as "net.py:9 in forward (`if x.mean() > 0:`)", where an error comes from one; else "".

    `relative` gives a file's path in the project, None outside of it.
    """
    while error.__cause__ is not None and type(error).__name__ != GUARD:
        error = error.__cause__
    if type(error).__name__ != GUARD:
        return ""
    frames = list(_frames(error.__traceback__))
    frame = next((f for f in reversed(frames) if relative(f[0])), frames[-1] if frames else None)
    if frame is None:
        return "its code"
    file, line, function = frame
    code = linecache.getline(file, line).strip()
    return f"{relative(file) or os.path.basename(file)}:{line} in {function}" + (f" (`{code}`)" if code else "")


def _frames(trace: TracebackType | None) -> Iterator[tuple[str, int, str]]:
    """File, line and function of the frames of neither torch, Python itself nor this package, outermost first."""
    import torch

    own = [os.path.dirname(torch.__file__), os.path.dirname(os.path.dirname(__file__))]
    python = sysconfig.get_path("stdlib")
    for frame, line in walk_tb(trace):
        file = frame.f_code.co_filename
        library = file.startswith(python) and not INSTALLED & set(file.split(os.sep))
        if not library and not file.startswith(("<", *own)):
            yield file, line, frame.f_code.co_name
