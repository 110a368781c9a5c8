"""Model-local functions, expanded where they are called, so that what follows sees one kind of graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.base import sandbox
from npu_guard.base.errors import ModelError
from npu_guard.base.limits import Limits, exceeded
from npu_guard.base.text import short, text
from npu_guard.file.bodies import walk_nodes
from npu_guard.file.parsed_size import bound

if TYPE_CHECKING:
    import onnx

Id = tuple[str, str, str]
"""Domain, name and overload of a function."""


def inline_functions(proto: onnx.ModelProto, name: str, limits: Limits) -> bytes:
    """The model without calls of its functions, serialized.

    Raises ModelError where they are recursive, would expand to too much, or cannot be expanded.
    """
    from onnx import inliner

    _bound_expansion(proto, name, limits)
    reasons = _align_versions(proto)
    known = [_id(f) for f in proto.functions]

    def expand() -> bytes:
        done = inliner.inline_local_functions(proto)
        left = set(known).intersection(_calls(done.graph.node))  # what it cannot expand it leaves there without a word
        return b"%d\n" % known.index(min(left, key=known.index)) if left else b"\n" + done.SerializeToString()

    result = sandbox.run(expand)
    if result.status != "ok":
        said = " ".join(result.text.rpartition(" failed: ")[2].split())[:300]  # without the place in the inliner's source
        why = {"error": said, "crash": "the inliner crashed", "memory": "they need too much memory"}
        raise _stays(name, why.get(result.status, "time ran out"))
    left, _, content = result.data.partition(b"\n")
    bound(content, name, limits)
    if left:
        call = known[int(left)]
        raise _stays(name, reasons.get(call, f"{_shown(call)} is called in a way that the inliner does not know"))
    return content


def _stays(name: str, why: str) -> ModelError:
    return ModelError("invalid", f"{name}: its model-local functions cannot be inlined: {why}")


def _align_versions(proto: onnx.ModelProto) -> dict[Id, str]:
    """Let functions import what the model imports, where the operators that they use are the same ones there.

    The inliner skips functions that import another version of anything. Returns why others stay as they are.
    """
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    known = {_id(f) for f in proto.functions}
    reasons: dict[Id, str] = {}
    for function in proto.functions:
        for entry in function.opset_import:
            wanted = versions.get(entry.domain, entry.version)
            if entry.version == wanted:
                continue
            own = sorted(call for call in set(_calls(function.node)) - known if call[0] == entry.domain)
            changed = next((call for call in own if _since(call, entry.version) != _since(call, wanted)), None)
            if changed is None:
                entry.version = wanted
            else:
                reasons[_id(function)] = (
                    f"{_shown(_id(function))} is written for opset {entry.version} and the model for {wanted}, where"
                    f" {_shown(changed)} is another operator; export all for one opset"
                )
    return reasons


def _since(call: Id, version: int) -> int | None:
    """The version that ONNX has an operator from, in an opset; None where it has none."""
    import onnx

    try:
        return int(onnx.defs.get_schema(text(call[1]), version, text(call[0])).since_version)
    except (onnx.defs.SchemaError, TypeError):  # TypeError: a version beyond 32 bits
        return None


def _id(function: onnx.FunctionProto) -> Id:
    return function.domain, function.name, function.overload


def _bound_expansion(proto: onnx.ModelProto, name: str, limits: Limits) -> None:
    """Refuse recursive functions, too deep ones, and those that would expand to too many nodes or bytes."""
    bodies = {_id(f): _calls(f.node) for f in proto.functions}
    own_bytes = {_id(f): f.ByteSize() for f in proto.functions}
    sizes: dict[Id, tuple[int, int, int]] = {}  # (expanded nodes, call depth, expanded bytes)
    for root in bodies:
        path: list[Id] = [root]
        while path:
            here = path[-1]
            pending = next((c for c in bodies[here] if c in bodies and c not in sizes), None)
            if pending is not None:
                if pending in path:
                    raise ModelError("invalid", f"{name}: model-local function {_shown(pending)} calls itself")
                path.append(pending)
                continue
            path.pop()
            known = [sizes[c] for c in bodies[here] if c in sizes]
            own = len(bodies[here]) - len(known)
            nodes = own + sum(n for n, _, _ in known)
            size = own_bytes[here] + sum(b for _, _, b in known)
            sizes[here] = (nodes, 1 + max((d for _, d, _ in known), default=0), size)
            if sizes[here][1] > limits.call_depth:
                levels = "levels of model-local functions that call each other:"
                raise exceeded(name, levels, sizes[here][1], "call-depth", limits.call_depth)
    calls = _calls(proto.graph.node)
    expanded = [sizes.get(c, (1, 0, 0)) for c in calls]
    if (total := sum(n for n, _, _ in expanded)) > limits.nodes:
        raise exceeded(name, "nodes, model-local functions expanded:", total, "nodes", limits.nodes)
    if (size := proto.graph.ByteSize() + sum(b for _, _, b in expanded)) > limits.structure_bytes:
        what = "bytes of the model without its weights, model-local functions expanded:"
        raise exceeded(name, what, size, "structure-bytes", limits.structure_bytes)


def _calls(nodes: Iterable[onnx.NodeProto]) -> list[Id]:
    """Operators called by these nodes and the graphs inside them."""
    return [(node.domain, node.op_type, node.overload) for node in walk_nodes(nodes)]


def _shown(call: Id) -> str:
    domain, name = text(call[0]), text(call[1])
    return repr(short(f"{domain}::{name}" if domain else name))
