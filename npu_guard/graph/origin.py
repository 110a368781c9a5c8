"""Where a node came from: the module path and the line of Python, from what exporters leave in the model."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from npu_guard.base.checkout import relative_path
from npu_guard.base.regex import regex
from npu_guard.base.text import text
from npu_guard.graph.calls import CALL, PARAMETER, Calls
from npu_guard.graph.ops import other_family
from npu_guard.results.findings import INPUT, Location, SourceLine

if TYPE_CHECKING:  # what only asks `relative` does without onnx
    from npu_guard.graph.graph import Model, Node, Value

_SCOPES = "pkg.torch.onnx.name_scopes"
_CLASSES = "pkg.torch.onnx.class_hierarchy"
_STACK = "pkg.torch.onnx.stack_trace"
_FRAME = regex(r'File "([^"\n]{1,1000})", line (\d{1,9}), in ([^\n]{1,200})')
_VERBOSE_FRAME = regex(r"^([^\n]{1,1000})\((\d{1,9})\): ([^\n]{1,200}+)$", re.MULTILINE)
"""A line of the older exporter's doc_string, where it was asked to be verbose. The last `+` is against backtracking: in a line
of many such numbers each would be tried with all ends.
"""
_INSTALLED = regex(r"(^|/)(site-packages|dist-packages)/|(^|/)lib/python3\.\d+/|^<", re.IGNORECASE)
_TORCH = regex(r"^(/|[A-Za-z]:/).*/torch/(_\w+|nn|fx|jit|onnx|export|autograd|utils|ao|functional\.py)(/|\.py|$)")
"""A torch that runs from its own checkout. Only absolute paths: a project's own folder may be called torch too."""
_CALLS = frozenset({"_call_impl", "_wrapped_call_impl", "_slow_forward"})
"""Functions of torch between any two modules, for frames that have lost their folders."""
_NUMBERED = regex(r"_[1-9]\d{0,5}/")
_LAYER = regex(r"[A-Za-z_][\w.-]{0,100}")
_MAX_TEXT = 65536
_MAX_NAMES = 64
_MAX_NAMES_TEXT = 4096
"""What a node's own names may take. Exporters' are far below; beyond it nothing is recorded."""
_MAX_PARTS = 64
_MAX_SCOPE = 512
"""Characters of a module path: all nodes of a module repeat it in a report."""
_MAX_STEPS = 64
"""Nodes to look at around one that says nothing of its origin."""
_MAX_EDGES = 512
"""What connects them: a node may have as many inputs and readers as the model has nodes."""
_MAX_FRAMES = 20
"""Lines of a stack that may be the user's own, of which each is looked for in the project."""
_MAX_FILES = 1000
"""Files to look for in the project, for one model."""

_Known = TypeVar("_Known")
Lookups = dict[str, tuple[str, bool]]
"""Files of recorded lines, with what became of each: on that, besides the model, a source depends."""


class _Stack(NamedTuple):
    """What a node's recorded stack comes to."""

    source: tuple[str, int, str] | None
    asked: Lookups
    empty: bool


_NO_STACK = _Stack(None, {}, empty=True)


class _Memo:
    """What the nodes of one model record, read once. It hangs on the model and ends with it."""

    def __init__(self) -> None:
        self.recorded: dict[Node, tuple[str, ...] | None] = {}
        self.scopes: dict[Node, tuple[str, ...]] = {}
        self.root: Path | None = None
        self.stacks: dict[Node, _Stack] = {}
        """With lines looked for below the root; another one is asked for only where somebody checks a model twice."""
        self.calls = Calls()
        self.files: dict[tuple[str, Path | None], tuple[str, bool]] = {}


def _memo(model: Model) -> _Memo:
    if model.recorded is None:
        model.recorded = _Memo()
    found: _Memo = model.recorded
    return found


def location_of(node: Node) -> Location:
    """Identity of a node for reports and fingerprints."""
    return Location(node.label, node.op, node.output.name, scope_of(node), node.graph.path, other_family(node.op))


def input_location(value: Value) -> Location:
    """A graph input as a place; ONNX has no operator for it."""
    return Location(value.name, INPUT, value.name)


def scope_of(node: Node) -> tuple[str, ...]:
    """Module path such as ("encoder", "layer3", "0").

    From dynamo's metadata, or from the names of the older exporter; where a simplifier has dropped the one and there
    are none of the other, from the name of the node's parameters, which is their path in the module tree. Nodes that come from
    TensorFlow have their layers in their names.
    """
    scopes = _memo(node.graph.model).scopes
    found = scopes.get(node)
    if found is None:
        found = scopes[node] = bounded_scope(_scope(node))
    return found


def bounded_scope(path: Sequence[str]) -> tuple[str, ...]:
    """A module path as far as any real one goes."""
    if len(path) <= _MAX_PARTS and sum(map(len, path)) <= _MAX_SCOPE:
        return tuple(path)
    kept, left = [], _MAX_SCOPE
    for part in path[:_MAX_PARTS]:
        if left > 0:
            kept.append(part[:left])
            left -= len(part)
    return tuple(kept)


def _scope(node: Node) -> tuple[str, ...]:
    recorded = _recorded(node)
    if recorded is not None:
        return (node.kind in ("convolution", "product") and _is_norm(node) and _owner(node)) or recorded
    if node.name.startswith("/"):
        path = _memo(node.graph.model).calls.scope(node.name[:_MAX_NAMES_TEXT], node.graph.model)
        return _whose_call(path, node) if _NUMBERED.search(node.name) is not None else path
    return _owner(node) or _surrounding(node, _recorded) or _layers(node.name[:_MAX_NAMES_TEXT])


def _layers(name: str) -> tuple[str, ...]:
    """`model/block/conv/Conv2D` is in layer model.block.conv, as TensorFlow names what Keras makes.

    tf2onnx joins the names of what it fuses by semicolons, the one that it keeps first, and numbers what it puts in between:
    `model/conv/Conv2D__12`. A name with other characters than a layer may have is no path.
    """
    parts = name.partition(";")[0].split("/")[:-1]
    return tuple(parts) if all(map(_LAYER.fullmatch, parts)) else ()


def _recorded(node: Node) -> tuple[str, ...] | None:
    recorded = _memo(node.graph.model).recorded
    if node not in recorded:
        written = node.metadata(_SCOPES)
        names = None if written is None else _names(written)
        module = names[-2] if names is not None and len(names) > 1 else ""  # the last entry is the operator itself
        recorded[node] = None if names is None else bounded_scope([part for part in module.split(".") if part])
    return recorded[node]


def _names(recorded: str) -> list[str] | None:
    """What exporters write as Python's text of a list: `['', 'layer1', 'layer1.0', 'conv2d']`. None where it is no such text."""
    if len(recorded) > _MAX_NAMES_TEXT or not (recorded.startswith("[") and recorded.endswith("]")):
        return None
    names = recorded[2:-2].split("', '", _MAX_NAMES)
    if recorded.startswith("['") and recorded.endswith("']") and recorded.count("'") == 2 * len(names):
        return names
    inside = recorded[1:-1].strip()
    entries = [entry.strip() for entry in inside.split(",", _MAX_NAMES)] if inside else []
    for entry in entries:
        if len(entry) < 2 or entry[0] not in "'\"" or entry.find(entry[0], 1) != len(entry) - 1:
            return None
    return [entry[1:-1] for entry in entries]


def _is_norm(node: Node) -> bool:
    """Whether the metadata are a normalisation's: folded into a convolution it leaves its own. The weight knows whose it is."""
    return re.search(r"Norm\w*', '[^']*'\]$", (node.metadata(_CLASSES) or "")[-300:]) is not None


def _whose_call(path: tuple[str, ...], node: Node) -> tuple[str, ...]:
    """The module that a node's parameters name, where its path without the numbers of calls is that: there may be a `conv_1`
    beside a `conv` that is called twice."""
    owner = _owner(node)
    plain = (again.group(1) if (again := CALL.fullmatch(part)) is not None else part for part in path)
    return owner if owner and owner != path and owner == tuple(plain) else path


def _owner(node: Node) -> tuple[str, ...]:
    """The module whose parameters the node reads, `layer1.0.conv1` for `layer1.0.conv1.weight`; () where they are of several."""
    names = [v.name for v in node.inputs if v is not None and v.initializer is not None]
    modules = {found.group(1) for name in names if (found := PARAMETER.match(name)) is not None}
    return tuple(modules.pop().split(".")) if len(modules) == 1 else ()


def source_of(node: Node, root: Path | None, asked: Lookups | None = None, *, around: bool = True) -> SourceLine | None:
    """The innermost line of the user's own code in the recorded stack, relative to `root`.

    A node that an exporter or an optimiser put in between has no stack; it gets the line that everything around it has,
    where that is a single one. `asked` takes up what was looked for in the project.
    Without `around` it has none: all nodes can be asked for.
    """
    found = _recorded_source(node, root, asked)
    if found is None and around and _stack(node, root).empty:
        found = _surrounding(node, lambda other: _recorded_source(other, root, asked))
    return None if found is None else SourceLine(*found, ".".join(scope_of(node)))


def _recorded_source(node: Node, root: Path | None, asked: Lookups | None) -> tuple[str, int, str] | None:
    stack = _stack(node, root)
    if asked is not None and stack.asked:
        asked.update(stack.asked)
    return stack.source


def _stack(node: Node, root: Path | None) -> _Stack:
    memo = _memo(node.graph.model)
    if memo.root is not root:  # a path takes longer to hash than a node is read
        if memo.root != root:
            memo.stacks.clear()
        memo.root = root
    found = memo.stacks.get(node)
    if found is None:
        found = memo.stacks[node] = _read_stack(node, root, memo)
    return found


def _read_stack(node: Node, root: Path | None, memo: _Memo) -> _Stack:
    if not node.proto.metadata_props and not node.proto.doc_string:  # as of all nodes of an older export
        return _NO_STACK
    outside, own, empty = None, 0, True
    asked: Lookups = {}
    for file, line, function in _frames(node):
        empty = False
        if _INSTALLED.search(file) or _TORCH.search(file):
            continue
        own += 1
        if own > _MAX_FRAMES:
            break
        known = memo.files.get((file, root))
        if known is None and len(memo.files) < _MAX_FILES:
            known = memo.files[file, root] = relative_path(file, root)
        if known is not None:
            asked[file] = known
            if known[1]:
                return _Stack((known[0], line, function), asked, empty)
        if outside is None and ("/" in file or function not in _CALLS):
            outside = (known or relative_path(file, None))[0], line, function
    return _Stack(outside, asked, empty)


def _frames(node: Node) -> Iterator[tuple[str, int, str]]:
    """(file with forward slashes, line, function), innermost first."""
    recorded = node.metadata(_STACK)
    if recorded is not None:
        found = list(reversed(_FRAME.findall(recorded[:_MAX_TEXT])))
    else:
        found = _VERBOSE_FRAME.findall(text(node.proto.doc_string)[:_MAX_TEXT])
    for file, line, function in found:
        yield file.strip().replace("\\", "/"), int(line), function.strip()


def _surrounding(node: Node, known: Callable[[Node], _Known | None]) -> _Known | None:
    """What the nearest nodes that know it, on both sides, agree upon."""
    model = node.graph.model
    if not model.traced or model.surveys <= 0:
        return None
    model.surveys -= 1
    answers: set[_Known] = set()
    for step in (_producers, _readers):
        seen: set[Node] = set()
        pending, edges, found = [node], _MAX_EDGES, False
        while pending:
            other = pending.pop()
            if other in seen:
                continue
            seen.add(other)
            answer = None if other is node else known(other)
            if answer is None:
                around = step(other)
                edges -= len(around)
                if len(seen) > _MAX_STEPS or edges < 0:
                    return None
                pending += around
            else:
                answers.add(answer)
                found = True
        if not found or len(answers) > 1:
            return None
    return answers.pop()


def _producers(node: Node) -> list[Node]:
    return [v.producer for v in node.inputs[:_MAX_EDGES] if v is not None and v.producer is not None]


def _readers(node: Node) -> list[Node]:
    readers = (reader for v in node.outputs[:_MAX_EDGES] if v is not None for reader in v.consumers)
    return list(itertools.islice(readers, _MAX_EDGES + 1))
