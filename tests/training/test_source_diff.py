"""A line at the end of `__init__`, however the code is laid out."""

from __future__ import annotations

import ast

import pytest

from npu_guard.training.source_diff import add_statement

LAYOUTS = {
    "a line each": ("    a = 1\n    b = 2\n", "    a = 1\n    b = 2\n    new()\n"),
    "several on the last line": ("    a = 1\n    b = 2; c = 3; d = 4\n", "    a = 1\n    b = 2; c = 3; d = 4\n    new()\n"),
    "all on one line": ("    a = 1; b = 2  # why\n", "    a = 1; b = 2  # why\n    new()\n"),
    "tabs": ("\ta = 1; b = 2\n", "\ta = 1; b = 2\n\tnew()\n"),
    "a block at the end": ("    a = 1\n    if a:\n        b = 2\n", "    a = 1\n    if a:\n        b = 2\n    new()\n"),
    "no end of the last line": ("    a = 1; b = 2", "    a = 1; b = 2\n    new()\n"),
    "on the line of def": (" a = 1; b = 2  # why\n", " a = 1; b = 2; new()  # why\n"),
    "letters beyond ASCII": (" a = 'ü'; b = 2\n", " a = 'ü'; b = 2; new()\n"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_statement_is_added_at_the_end_of_a_body(name: str) -> None:
    before, after = LAYOUTS[name]
    head = "def init():" + ("" if before.startswith(" a") else "\n")
    raw = [line.encode() for line in (head + before).splitlines(keepends=True)]
    (init,) = ast.parse(head + before).body
    assert isinstance(init, ast.FunctionDef)
    first, last = init.body[0], init.body[-1]
    end = {"end_lineno": last.end_lineno, "end_col_offset": last.end_col_offset}
    add_statement(raw, ast.Pass(lineno=first.lineno, col_offset=first.col_offset, **end), b"new()")
    made = b"".join(raw).decode()
    assert made == head + after
    (whole,) = ast.parse(made).body
    assert isinstance(whole, ast.FunctionDef)
    assert ast.unparse(whole.body[-1]) == "new()"
