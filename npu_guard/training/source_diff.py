"""A unified diff of the user's own source: constructors of replaced modules where they stand for themselves, else one line.

A constructor stands for itself where it is assigned to `self.name` once, in no loop, in a class with one instance in the network.
"""

from __future__ import annotations

import ast
import difflib
import inspect
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from npu_guard.training.files import Block, Manifest


@dataclass(slots=True)
class SourceDiff:
    """The diff, and for each block that is in none of its lines, why."""

    text: str = ""
    rest: list[tuple[str, str]] = field(default_factory=list)


class Elsewhere(Exception):
    """A module whose constructor does not stand for itself: the reason."""


def source_diff(network: nn.Module, manifest: Manifest, root: Path, package: str) -> SourceDiff:
    """The diff of files below the root; blocks are imported from the package, a folder by its path."""
    edits: dict[Path, list[tuple[ast.expr, str]]] = defaultdict(list)
    names: dict[Path, set[str]] = defaultdict(set)
    result = SourceDiff()
    for block in manifest.blocks:
        try:
            file, node = constructor_of(network, block)
        except (Elsewhere, OSError, TypeError, SyntaxError) as reason:
            result.rest.append((block.path, str(reason)))
            continue
        kind = block.module
        if not kind.startswith("nn."):
            names[file].add(kind)
            kind = f"{kind}({ast.unparse(node) if block.keeps else ''})"
        edits[file].append((node, kind))
    if result.rest or not edits:
        _apply_line(network, edits, result, package)
    for file, changed in edits.items():
        result.text += _file_diff(file, changed, sorted(names[file]), root, package)
    return result


def constructor_of(network: nn.Module, block: Block) -> tuple[Path, ast.expr]:
    """File and expression that make the module. Raises Elsewhere."""
    if not block.path:
        raise Elsewhere("the network's own forward changes")
    parts = block.path.split(".")
    at = len(parts) - 1
    while type(network.get_submodule(".".join(parts[:at]))).__module__.startswith("torch.nn."):
        at -= 1
        if at < 0:
            raise Elsewhere("no class of the user's is around it")
    owner = type(network.get_submodule(".".join(parts[:at])))
    file, init = _init_of(owner)
    if sum(type(m) is owner for m in network.modules()) > 1:
        raise Elsewhere(f"{owner.__name__} has several instances, and the line makes all of them")
    assigned = [
        s
        for s in ast.walk(init)
        if isinstance(s, (ast.Assign, ast.AnnAssign))
        for t in (s.targets if isinstance(s, ast.Assign) else [s.target])
        if isinstance(t, ast.Attribute) and t.attr == parts[at] and isinstance(t.value, ast.Name) and t.value.id == "self"
    ]
    if len(assigned) != 1 or assigned[0].value is None:
        raise Elsewhere(f"self.{parts[at]} is assigned {len(assigned)} times")
    node: ast.expr = assigned[0].value
    for step in parts[at + 1 :]:
        node = _element(node, step)
    loops = [n for n in ast.walk(init) if isinstance(n, (ast.For, ast.While, ast.ListComp, ast.GeneratorExp))]
    if any(loop.lineno <= node.lineno <= (loop.end_lineno or 0) for loop in loops):
        raise Elsewhere("it is made in a loop")
    if not isinstance(node, ast.Call):
        raise Elsewhere(f"`{ast.unparse(node)[:40]}` is no constructor")
    return file, node


def _init_of(owner: type[nn.Module]) -> tuple[Path, ast.FunctionDef]:
    file = inspect.getsourcefile(owner)
    if file is None:
        raise Elsewhere(f"the source of {owner.__name__} is not at hand")
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    named = [c for c in ast.walk(tree) if isinstance(c, ast.ClassDef) and c.name == owner.__name__]
    inits = [f for c in named for f in c.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"]
    if len(inits) != 1:
        raise Elsewhere(f"{owner.__name__} has no __init__ of its own")
    return Path(file), inits[0]


def _element(node: ast.expr, step: str) -> ast.expr:
    """The element of a literal container such as nn.Sequential(a, b) or nn.ModuleList([a, b]). Raises Elsewhere."""
    if not isinstance(node, ast.Call) or not step.isdigit():
        raise Elsewhere(f"`{ast.unparse(node)[:50]}` is no literal container")
    given = node.args
    if len(given) == 1 and isinstance(given[0], (ast.List, ast.Tuple)):
        given = given[0].elts
    if int(step) >= len(given) or any(isinstance(a, (ast.Starred, ast.ListComp, ast.GeneratorExp)) for a in given):
        raise Elsewhere("it is made in a loop")
    return given[int(step)]


def _apply_line(network: nn.Module, edits: dict[Path, list[tuple[ast.expr, str]]], result: SourceDiff, package: str) -> None:
    """One line at the end of the network's `__init__` in place of all others, where one block is at no constructor."""
    try:
        file, init = _init_of(type(network))
    except (Elsewhere, OSError, TypeError, SyntaxError) as reason:
        result.rest.append(("", f"npu_guard.torch.apply(network, {package!r}) after it is made, as {reason}"))
        return
    edits.clear()
    first, last = init.body[0], init.body[-1]
    end = {"end_lineno": last.end_lineno, "end_col_offset": last.end_col_offset}
    line = ast.Pass(lineno=first.lineno, col_offset=first.col_offset, **end)
    edits[file] = [(line, f'npu_guard.torch.apply(self, "{package}/")')]  # type: ignore[list-item]  # marks a line to be added


def add_statement(raw: list[bytes], body: ast.stmt, new: bytes) -> None:
    """Add a statement behind a body that lies from the beginning to the end of a node, in lines of source.

    It is a line of its own, or stands behind a semicolon where the body begins on the line of its `def`.
    """
    last = (body.end_lineno or body.lineno) - 1
    margin = raw[body.lineno - 1][: body.col_offset]
    if margin.strip():
        raw[last] = raw[last][: body.end_col_offset] + b"; " + new + raw[last][body.end_col_offset :]
        return
    if not raw[last].endswith(b"\n"):
        raw[last] += b"\n"
    raw.insert(last + 1, margin + new + b"\n")


def _file_diff(file: Path, edits: list[tuple[ast.expr, str]], names: list[str], root: Path, package: str) -> str:
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    raw = [line.encode() for line in lines]
    for node, new in sorted(edits, key=lambda e: (-e[0].lineno, -e[0].col_offset)):
        if isinstance(node, ast.Pass):
            add_statement(raw, node, new.encode())
            continue
        last = (node.end_lineno or node.lineno) - 1
        before, after = raw[node.lineno - 1][: node.col_offset], raw[last][node.end_col_offset :]
        raw[node.lineno - 1 : last + 1] = [before + new.encode() + after]
    tree = ast.parse(text)
    end = max((n.end_lineno or 0 for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))), default=0)
    line_added = any(isinstance(node, ast.Pass) for node, _ in edits)
    blocks = f"{package.replace('/', '.')}.blocks"
    imports = ["import npu_guard.torch\n"] if line_added else [f"from {blocks} import {', '.join(names)}\n"] if names else []
    changed = [line.decode() for line in raw]
    changed[end:end] = imports
    try:
        name = file.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        name = file.name
    return "".join(difflib.unified_diff(lines, changed, f"a/{name}", f"b/{name}"))
