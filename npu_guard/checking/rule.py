"""What a rule is: the nodes it wants, the limits it reads, examples, and a `check` that only asks and yields."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct, field

from npu_guard.results.findings import Finding, Number, Severity

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node, Value
    from npu_guard.project.config import Suppression


class Draft(Struct, frozen=True):
    """What a rule says of a node; the engine adds place, fingerprint and the device's limit."""

    message: str
    limit: str | None = None
    measured: Number | None = None
    allowed: Number | None = None
    """Where it is not the limit's plain value."""
    severity: Severity | None = None
    """Where it is not the rule's."""
    value: Value | None = None
    """The tensor that shows the problem; the node's first output where it is None."""
    consequence: str = ""
    """What becomes of the node, as device files call it, where the device's documents say so."""


class Case(Struct, frozen=True):
    """An executable example: a graph in ONNX text, the limits it assumes, and what the rule must say.

    `graph` is what comes after the model header: `g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Relu(x) }`. What is
    declared between `<` and `>` without a value, and produced by no node, is a weight.
    """

    graph: str
    limits: dict[str, Any] = field(default_factory=dict)
    operators: dict[str, str] = field(default_factory=dict)
    """What the device's documents say of operators: `supported`, `refused`, `judged`, or `channels` (only over channels)."""
    expect: tuple[tuple[str, Number | None], ...] = ()
    """For a bad case: (first output of the node, measured value) of each finding, in order."""
    undecided: tuple[str, ...] = ()
    """First outputs of nodes at which the rule must say that the graph does not tell."""
    severity: Severity | None = None
    allowed: Number | None = None
    """What the finding says is allowed, where that is not the limit's plain value."""
    opset: int = 20
    title: str = ""
    require: tuple[dict[str, Any], ...] = ()
    """Limits on metrics, as `[[limit]]` in a device's file has them."""
    suppress: tuple[tuple[str, str], ...] = ()
    """(rule, node) of each suppression in the settings, for rules about those."""


class Rule:
    """Base of all rules; a subclass sets the class attributes and writes `check`.

    The class docstring is the manual page: first line the short description, then the paragraphs
    *What it does*, *Why it matters* and *What to do*.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    severity: ClassVar[Severity] = Severity.ERROR
    replaces: ClassVar[bool] = False
    """Whether it is about the operator as such, so that what to do is to write another one."""
    ops: ClassVar[tuple[str, ...]]
    limits: ClassVar[tuple[str, ...]] = ()
    """Limits that the rule reads. A profile that sets none of them, nor a metric of the rule, makes it not applicable."""
    parametric: ClassVar[bool] = False
    """Whether all that it reports are limits on metrics, so that it has no `check` of its own."""
    about_settings: ClassVar[bool] = False
    """Whether it looks at the settings and at no node; then it has `check_settings`, and `ops` are empty."""
    good: ClassVar[tuple[Case, ...]]
    bad: ClassVar[tuple[Case, ...]]

    def needed(self, ctx: Context) -> bool:
        """Whether any node can have the problem: a cheap look at the whole model, for rules that ask every node."""
        return True

    def needed_at(self, node: Node, ctx: Context) -> bool:
        """Whether any node of this one's operator can have the problem: asked once for each operator, with its first node."""
        return True

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        """Problems of one node. Look-ups in `ctx` raise Undecidable where the graph does not tell."""
        raise NotImplementedError

    def check_input(self, value: Value, ctx: Context) -> Iterable[Draft]:
        """Problems of one graph input, for the few rules that look at them."""
        return ()

    def check_settings(self, unused: Sequence[Suppression], findings: Sequence[Finding]) -> Iterable[Draft]:
        """Problems of the settings: of suppressions that accept none of the findings."""
        return ()

    @classmethod
    def manual(cls) -> str:
        """The docstring, without its indentation."""
        return inspect.cleandoc(cls.__doc__ or "")

    @classmethod
    def summary(cls) -> str:
        """The short description."""
        return cls.manual().splitlines()[0]

    @classmethod
    def section(cls, title: str) -> str:
        """One section of the manual, on one line."""
        lines: Iterator[str] = iter(cls.manual().splitlines())
        for line in lines:
            if line.strip() == f"*{title}*":
                break
        text = []
        for line in lines:
            if line.startswith("*") and line.rstrip().endswith("*"):
                break
            text.append(line.strip())
        return " ".join(text).strip()
