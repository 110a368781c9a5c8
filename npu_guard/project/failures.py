"""What goes wrong in code of the user's, in one sentence with the line of that code."""

from __future__ import annotations

import traceback
from pathlib import Path

from npu_guard.base.errors import UsageError
from npu_guard.project.config import project_root


def failed(error: BaseException, what: str) -> UsageError:
    """The user's error in one line, with the line of their code. An interrupt goes on being one."""
    if isinstance(error, KeyboardInterrupt):
        raise error
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    text = type(error).__name__ + (f": {lines[0][:300]}" if lines else "")
    place = where(error)
    return UsageError(f"{what}: {text}{f' ({place})' if place else ''}")


def where(error: BaseException) -> str:
    """`file:line` of the innermost frame inside the project, of the error or of what caused it."""
    root = project_root(Path.cwd()).resolve()
    own = Path(__file__).parents[1].resolve()
    current: BaseException | None = error
    found = ""
    for _ in range(32):
        if current is None:
            break
        places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(current.__traceback__)]
        if isinstance(current, SyntaxError) and current.filename:
            places.append((current.filename, current.lineno))
        for name, line in places:
            file = Path(name)
            if file.is_absolute() and file.resolve().is_relative_to(root) and not _installed(file, own):
                found = f"{file.resolve().relative_to(root).as_posix()}:{line}"
        current = current.__cause__ or current.__context__
    return found


def _installed(file: Path, own: Path) -> bool:
    return bool({"site-packages", "dist-packages"} & set(file.parts)) or file.resolve().is_relative_to(own)
