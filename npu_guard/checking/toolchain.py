"""What a device's compiler does not take as a whole: operator sets, versions of the format, and groups of operators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from npu_guard.checking.rule import Draft
from npu_guard.device import CONSEQUENCES
from npu_guard.results.findings import Severity

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value

Refusal = tuple["Node | None", "Value", Draft]
"""A node, or None for the model; the value that it is said of; what is said."""


def of_format(ctx: Context) -> Iterator[Refusal]:
    """At the model's first input: the compiler does not read its operator set or its version of the format."""
    tool, graph = ctx.profile.toolchain, ctx.analysis.model.graph
    given = next((value for value in graph.inputs if value.initializer is None), None)
    if tool is None or given is None:
        return
    opset, version = graph.model.opsets.get("", 0), graph.model.skeleton.proto.ir_version
    name, high, low, newest = f"{tool.name} {tool.version}".rstrip(), tool.opset_max, tool.opset_min, tool.ir_max
    found: list[tuple[str, str, int, int]] = []
    if high is not None and opset > high:
        text = f"the model is of operator set {opset}, and {name} reads sets up to {high}; export it with that one"
        found.append((text, "toolchain.opset_max", opset, high))
    if low is not None and 0 < opset < low:
        text = f"the model is of operator set {opset}, and {name} reads sets from {low} on; export it with a newer one"
        found.append((text, "toolchain.opset_min", opset, low))
    if newest is not None and version > newest:
        text = f"the file has format version {version} (ir_version), and {name} reads up to {newest}; save it with that one"
        found.append((text, "toolchain.ir_max", version, newest))
    for text, key, measured, allowed in found:
        yield None, given, Draft(text, key, measured, allowed, Severity.ERROR, consequence="compile-error")


def of_groups(ctx: Context) -> Iterator[Refusal]:
    """At the operator that gives its result: a group whose operators fit one by one, and not together."""
    from npu_guard.device.matching import taken  # few devices have any

    for node, (pattern, root) in taken(ctx.profile.faults, ctx.analysis.nodes(), ctx).items():
        if node is root:
            becomes, severity = CONSEQUENCES[pattern.consequence]
            text = f"{pattern.name} does not fit as a whole: {pattern.note or becomes} ({pattern.source})"
            yield node, node.output, Draft(text, severity=severity, consequence=pattern.consequence)
