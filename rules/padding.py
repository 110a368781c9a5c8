from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npu_guard.analysis.window import padding
from npu_guard.checking.rule import Case, Draft, Rule

if TYPE_CHECKING:
    from npu_guard.checking.context import Context
    from npu_guard.graph.graph import Node


class Padding(Rule):
    """A window is padded wider than the device's limit, or a Pad operator uses a mode that the device lacks.

    *What it does*

    Compares the padding at each side of Conv, ConvTranspose, MaxPool, AveragePool and LpPool with `pad.max`, also where
    the model states it as `auto_pad` or as an output shape. Compares the mode of Pad with `pad.modes`.

    *Why it matters*

    The engine makes the border while it reads the map, up to a fixed width and with a constant. Other borders are copies
    of the map's own pixels, which is a rearrangement of data.

    *What to do*

    Where the mode is refused, pad with zeros and train again. Where the width is, make the border by a Pad of its own or by
    Concat with constants, or pad the input outside the model.
    """

    code = "NPU205"
    name = "padding"
    ops = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "Pad")
    limits = ("pad.max", "pad.modes")
    good = (
        Case(
            """g (float[1,8,32,32] x) => (float[1,8,32,32] y)
            <float[8,8,15,15] w> { y = Conv<pads = [7,7,7,7]>(x, w) }""",
            limits={"pad.max": 7},
            title="7 pixels are the most that fits",
        ),
        Case(
            """g (float[1,8,32,32] x) => (float[1,8,16,16] y)
            <float[8,8,16,16] w> { y = Conv<auto_pad = "SAME_UPPER", strides = [2,2]>(x, w) }""",
            limits={"pad.max": 7},
            title="14 in all, 7 at each side",
        ),
        Case(
            """g (float[1,8,4,4] x) => (y)
            <float[8,8,16,16] w> { y = ConvTranspose<strides = [2,2], output_shape = [8,8]>(x, w) }""",
            limits={"pad.max": 7},
            title="the output shape asks for 7 at each side",
        ),
        Case(
            """g (float[1,8,4,4] x) => (y)
            <int64[8] pads = {0,0,9,9,0,0,9,9}> { y = Pad(x, pads) }""",
            limits={"pad.max": 7, "pad.modes": ["constant"]},
            title="constant is the mode where none is named; pad.max is for windows",
        ),
    )
    bad = (
        Case(
            """g (float[1,8,32,32] x) => (float[1,8,32,32] y)
            <float[8,8,17,17] w> { y = Conv<pads = [8,8,8,8]>(x, w) }""",
            limits={"pad.max": 7},
            expect=(("y", 8),),
        ),
        Case(
            """g (float[1,8,32,32] x) => (float[1,8,32,32] y)
            <float[8,8,1,16] w> { y = Conv<auto_pad = "SAME_LOWER">(x, w) }""",
            limits={"pad.max": 7},
            expect=(("y", 8),),
            title="15 in all, 8 at one side",
        ),
        Case(
            """g (float[1,8,4,4] x) => (y)
            <float[8,8,17,17] w> { y = ConvTranspose<strides = [2,2], auto_pad = "SAME_UPPER">(x, w) }""",
            limits={"pad.max": 7},
            expect=(("y", 8),),
        ),
        Case(
            """g (float[1,8,4,4] x) => (float[1,8,8,8] y)
            <int64[8] pads = {0,0,2,2,0,0,2,2}> { y = Pad<mode = "reflect">(x, pads) }""",
            limits={"pad.modes": ["constant"]},
            expect=(("y", "reflect"),),
            allowed="constant",
        ),
        Case(
            """g (float[1,8,"H",32] x) => (y)
            <float[8,8,3,3] w> { y = Conv<auto_pad = "SAME_UPPER", strides = [2,2]>(x, w) }""",
            limits={"pad.max": 7},
            undecided=("y",),
            title="the padding depends on H",
        ),
    )

    def check(self, node: Node, ctx: Context) -> Iterable[Draft]:
        if node.op_type == "Pad":
            modes, mode = ctx.limit("pad.modes"), node.attr("mode", "constant")
            if modes is not None and mode not in modes:
                yield Draft(f"pads by {mode}", limit="pad.modes", measured=mode, allowed=", ".join(modes))
            return
        allowed = ctx.limit("pad.max")
        if allowed is not None and (widest := max(sum(padding(node, ctx), ()))) > allowed:
            yield Draft(f"pads {widest} pixels at one side, more than {allowed}", limit="pad.max", measured=widest)
