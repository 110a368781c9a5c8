from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.analysis.static import regroups
from npu_guard.checking.rule import Case, Draft, Rule
from npu_guard.device import CONSEQUENCES
from npu_guard.device.keys import EVERY
from npu_guard.results.findings import Severity

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node


class UnsupportedOperator(Rule):
    """The device refuses the operator, or its documents do not mention it.

    *What it does*

    Looks the operator up in the profile's table. One that the profile refuses is an error. One that the table does not
    mention is a warning: nobody has said that it compiles; an error where ONNX has none of that name in its own domain. Some
    operators are in the table for the channel axis alone (Softmax, ReduceSum); over other axes they are a warning too. Axes
    of extent 1 do not count. Before opset 13, Softmax runs over its axis and all that follow.

    *Why it matters*

    The compiler maps each operator onto a unit of the hardware. What has no unit goes to the host, if it compiles at all.

    *What to do*

    Write the function with operators of the profile's table; `npu-guard profiles NAME` prints it. Where a form in PyTorch is
    known for the operator, `check --verbose` shows it.
    """

    code = "NPU101"
    name = "unsupported-operator"
    replaces = True
    ops = (EVERY,)
    good = (
        Case(
            "g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Relu(x) }",
            operators={"Relu": "supported"},
        ),
        Case(
            "g (float[1,8,1,1] x) => (float[1,8] y) { y = Flatten(x) }",
            operators={"Flatten": "judged"},
            title="a rule of its own decides",
        ),
        Case(
            "g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Softmax<axis = -3>(x) }",
            operators={"Softmax": "channels"},
            title="over channels, counted from the end",
        ),
        Case(
            """g (float[1,8,1,1] x) => (float[1,1,1,1] y)
            <int64[3] axes = {1, 2, 3}> { y = ReduceSum(x, axes) }""",
            operators={"ReduceSum": "channels"},
            title="axes of extent 1 do not count",
        ),
        Case(
            "g (float[1,8,1,1] x) => (float[1,8,1,1] y) { y = Softmax(x) }",
            operators={"Softmax": "channels"},
            opset=11,
            title="axis 1 and what follows, which is nothing here",
        ),
        Case(
            "g (float[1,8] x) => (y) { y = Erf(x) }",
            title="a profile without a table of operators",
        ),
    )
    bad = (
        Case("g (float[1,8,4,4] x) => (y) { y = NonZero(x) }", operators={"NonZero": "refused"}, expect=(("y", None),)),
        Case(
            "g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Erf(x) }",
            operators={"Relu": "supported"},
            expect=(("y", None),),
            severity=Severity.WARNING,
            title="not in the table",
        ),
        Case(
            "g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = com.example.Relu(x) }",
            operators={"Relu": "supported"},
            expect=(("y", None),),
            severity=Severity.WARNING,
            title="of the same name, but not ONNX's",
        ),
        Case("g (float[8] x) => (float[8] y) { y = Rellu(x) }", operators={"Relu": "supported"}, expect=(("y", None),)),
        Case(
            "g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Softmax(x) }",
            operators={"Softmax": "channels"},
            expect=(("y", None),),
            severity=Severity.WARNING,
            title="over width",
        ),
        Case(
            "g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Softmax<axis = 1>(x) }",
            operators={"Softmax": "channels"},
            expect=(("y", None),),
            severity=Severity.WARNING,
            opset=11,
            title="over channels and space at once, as it was before opset 13",
        ),
        Case(
            'g (float[1,8,"H",4] x) => (y) { y = Softmax<axis = 2>(x) }',
            operators={"Softmax": "channels"},
            undecided=("y",),
            title="H may be 1",
        ),
    )

    def needed_at(self, node: Node, ctx: Context) -> bool:
        entry = ctx.operator(node)
        return entry is None or entry.status == "refused" or entry.only is not None

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        if not ctx.profile.operators or regroups(node, ctx.analysis.constants):
            return
        entry, unlisted = ctx.operator(node), ctx.profile.unlisted
        if entry is None and unlisted is not None:
            yield Draft(
                f"{node.op}: {unlisted.reason}", severity=CONSEQUENCES[unlisted.consequence][1], consequence=unlisted.consequence
            )
        elif entry is None and node.graph.model.is_made_up(node):
            yield Draft(f"{node.op} is no operator of ONNX")
        elif entry is None:
            yield Draft(f"{node.op} is not documented for this device", severity=Severity.WARNING)
        elif entry.status == "refused":
            text = f"{node.op}: {entry.reason}{'' if entry.certain else ' (uncertain)'}"
            severity = CONSEQUENCES[entry.consequence][1] if entry.certain else Severity.WARNING
            yield Draft(text, severity=severity, consequence=entry.consequence)
        elif entry.only == "channels" and (others := _beside_channels(node, ctx)):
            axes = " and ".join(map(str, others))
            text = f"{node.op} over axis {axes} is not documented for this device (only over channels)"
            yield Draft(text, severity=Severity.WARNING)


def _beside_channels(node: Node, ctx: Context) -> tuple[int, ...]:
    """Axes other than that of channels over which the operator runs."""
    x = ctx.input(node, 0)
    own, whole = ctx.axes(node), ctx.dims(x)
    others = [(axis, at) for axis, at in zip(own, ctx.map_axes(x, own), strict=True) if at != 1 and whole[axis] != 1]
    if any(isinstance(whole[axis], int) for axis, _ in others):
        return tuple(at for _, at in others)
    for axis, _ in others:
        ctx.extent(x, axis)  # undecidable: it may be 1
    return ()
