"""What somebody may have meant by a name that is no model: a file with nearly that name, or Python code."""

from __future__ import annotations

import contextlib
import os

from npu_guard.base.regex import regex

_CLASS = regex(r"^class[ \t]+(\w+)[ \t]*\([^)]*Module\b", 8)  # re.MULTILINE
_DOTTED = regex(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_READ = 1 << 20
"""Characters of a file of Python in which a class is looked for."""


def instead_of(name: str) -> str:
    """What to say behind `no such file`: `; did you mean 'net.onnx'?`, or nothing."""
    if _DOTTED.fullmatch(name):
        path = name.replace(".", "/")
        for file in (f"{path}.py", f"{path}/__init__.py"):
            if os.path.isfile(file):
                return f"; {python_code(name, file)}"
        module, _, last = name.rpartition(".")
        if close := _close(f"{last}.py", module.replace(".", "/")):
            return f"; {python_code(f'{module}.{close[:-3]}', os.path.join(module.replace('.', '/'), close))}"
    folder, base = os.path.split(name)
    close = _close(base, folder)
    return f"; did you mean {os.path.join(folder, close)!r}?" if close else ""


def _close(name: str, folder: str) -> str:
    import difflib  # for those who mistype

    with contextlib.suppress(OSError, ValueError):
        ends = os.path.splitext(name)[1] == ".py"
        there = sorted(file for file in os.listdir(folder or ".") if not ends or file.endswith(".py"))
        return next(iter(difflib.get_close_matches(name, there, 1, 0.7)), "")
    return ""


def python_code(name: str, file: str) -> str:
    """How the network in a file of Python is named: `Python code is named with what makes the network: net.py:Net`."""
    with contextlib.suppress(OSError), open(file, encoding="utf-8", errors="replace") as code:
        if found := _CLASS.search(code.read(_READ)):
            return f"Python code is named with what makes the network, such as {name}:{found.group(1)}"
    return f"Python code is named with what makes the network: {name}:CALLABLE"
