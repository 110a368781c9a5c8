"""Pairs of graphs on the two sides of a limit that has guards, alternatives or a minimum, for all devices.

A window (convolution or pooling) has a few knobs, all numbers known. What a device file says of them is worked out here from
these numbers, by rules of a few lines each that share nothing with `npu_guard.device`. Of all windows that differ by one step
of one knob, the first pair of which one keeps to the limit and one does not is asked about.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from npu_guard.device.device import Profile
from npu_guard.device.requirement import Requirement

_FLOAT = onnx.TensorProto.FLOAT
POOLS = ("MaxPool", "AveragePool")
WINDOWS = ("Conv", "ConvTranspose", *POOLS)
_MOST = 4000
"""Windows to look at for one limit."""


class Window(NamedTuple):
    """A square window on a square map, with all that limits ask about."""

    op: str
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    pads: int = 0
    depthwise: bool = False

    @property
    def reach(self) -> int:
        """Extent of the dilated window."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def channels(self) -> int:
        """Channels going in and coming out."""
        return 16

    @property
    def extent(self) -> int:
        """Rows and columns of the map: of two windows beside each other, at least."""
        return max(self.reach + 2 * self.stride - 2 * self.pads, self.reach, 4)

    @property
    def is_valid(self) -> bool:
        """Whether ONNX allows it, and whether each of its knobs has an effect."""
        if self.op in POOLS and (self.dilation > 1 or self.depthwise or self.kernel == 1):
            return False  # a pool of one pixel is folded away, or is a stride alone
        return self.pads < self.kernel and (self.dilation == 1 or self.kernel > 1)

    def measures(self) -> Mapping[str, tuple[Any, ...]]:
        """What a device file calls these numbers. Sources: the words of docs/adding-a-device.md."""
        group = self.channels if self.depthwise else 1
        found: dict[str, tuple[Any, ...]] = {
            "batch": (1,), "rank": (4,), "rank.X": (4,), "padded": (self.pads > 0,), "pads": (self.pads,) * 4,
            "pads.begin": (self.pads,) * 2, "pads.end": (self.pads,) * 2, "channels": (self.channels,) * 2,
            "channels_in": (self.channels,), "channels_out": (self.channels,),
        }  # fmt: skip
        for name, number in (("kernel", self.kernel), ("stride", self.stride), ("dilated_kernel", self.reach)):
            found |= {name: (number,) * 2, f"{name}.h": (number,), f"{name}.w": (number,)}
            found |= {f"{name}.largest": (number,), f"{name}.product": (number * number,)}
        if self.op in POOLS:
            return found | {"attr.ceil_mode": (0,), "attr.auto_pad": ("NOTSET",)}
        found |= {"dilation": (self.dilation,) * 2, "dilated": (self.dilation > 1,), "depthwise": (self.depthwise,)}
        found |= {"dilation.h": (self.dilation,), "dilation.w": (self.dilation,), "group": (group,), "grouped": (False,)}
        found |= {"pointwise": (self.kernel == 1,), "constant.W": (True,), "attr.auto_pad": ("NOTSET",)}
        return found | {"filter_channels": (self.channels // group,), "group_channels": (self.channels // group,) * 2}

    def model(self) -> onnx.ModelProto:
        """The window between two activations; its node is called `node`."""
        stated: dict[str, Any] = {"strides": [self.stride] * 2, "pads": [self.pads] * 4}
        weights: list[onnx.TensorProto] = []
        if self.op in POOLS:
            stated["kernel_shape"] = [self.kernel] * 2
        else:
            inner = 1 if self.depthwise else self.channels
            array = np.zeros((self.channels, inner, self.kernel, self.kernel), np.float32)
            weights = [numpy_helper.from_array(array, "w")]
            stated |= {"dilations": [self.dilation] * 2, "group": self.channels if self.depthwise else 1}
        nodes = [
            helper.make_node("Relu", ["x"], ["a"], "first"),
            helper.make_node(self.op, ["a", *(t.name for t in weights)], ["b"], "node", **stated),
            helper.make_node("Relu", ["b"], ["y"], "last"),
        ]
        end = onnx.ValueInfoProto(name="y")
        end.type.tensor_type.elem_type = _FLOAT
        shape = [1, self.channels, self.extent, self.extent]
        graph = helper.make_graph(nodes, "mutant", [helper.make_tensor_value_info("x", _FLOAT, shape)], [end], weights)
        return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])


class Guarded(NamedTuple):
    """A limit with a window on each of its sides."""

    requirement: Requirement
    within: Window
    beyond: Window

    @property
    def limit(self) -> str:
        """What evidence of it begins with: the bound that is broken follows, where there are several."""
        metric = self.requirement.clause.metric.text
        return metric if self.requirement.alternatives else f"{metric}."


def keeps(bounds: Mapping[str, Any], values: Sequence[Any]) -> bool | None:
    """Whether numbers keep to bounds; None where a bound is none of those that are known here."""
    answers = []
    for name, bound in bounds.items():
        if name in ("max", "min", "below", "multiple_of"):
            if isinstance(bound, bool) or not isinstance(bound, (int, float)):
                return None
            tests = {
                "max": lambda v, b=bound: v <= b, "min": lambda v, b=bound: v >= b, "below": lambda v, b=bound: v < b,
                "multiple_of": lambda v, b=bound: v % b == 0,
            }  # fmt: skip
            answers.append(all(tests[name](v) for v in values))
        elif name in ("in", "not_in", "is"):
            allowed = bound if isinstance(bound, tuple) else (bound,)
            alike = [v in [a for a in allowed if not isinstance(a, tuple)] or tuple(values) in allowed for v in values]
            answers.append(not any(alike) if name == "not_in" else all(alike))
        elif name == "equal":
            answers.append(len(set(values)) == 1)
        else:
            return None
    return all(answers)


def _clauses(clauses: Sequence[Any], measures: Mapping[str, tuple[Any, ...]]) -> bool | None:
    """Whether all clauses hold; None where one of them is about something else, unless another says no."""
    answers = [keeps(dict(c.bounds), measures[c.metric.text]) if c.metric.text in measures else None for c in clauses]
    return False if False in answers else None if None in answers else True


def judged(requirement: Requirement, window: Window) -> bool | None:
    """True where the limit holds and the window is beyond it, False where it is not; None where that is not known here."""
    measures = window.measures()
    guarded = _clauses(requirement.when, measures)
    if guarded is not True:
        return False if guarded is False else None
    if not requirement.alternatives:
        kept = _clauses((requirement.clause,), measures)
        return None if kept is None else not kept
    found = [_clauses(alternative, measures) for alternative in requirement.alternatives]
    return False if True in found else None if None in found else True


def guarded_mutants(profile: Profile) -> Iterator[Guarded]:
    """A pair for each limit on windows with a guard, with alternatives, or with another bound than a maximum."""
    for requirement in profile.requirements:
        if not (requirement.when or requirement.alternatives or set(dict(requirement.clause.bounds)) - {"max"}):
            continue
        for op in WINDOWS:
            for bound in dict(requirement.clause.bounds) or ("",):
                if op in requirement.ops and (pair := _pair(requirement, op, bound)) is not None:
                    yield Guarded(requirement, *pair)


def _pair(requirement: Requirement, op: str, bound: str) -> tuple[Window, Window] | None:
    """The first two windows, one step apart, of which the second alone is beyond a bound, the guards holding at both."""
    numbers = _numbers(requirement)
    near = sorted({n + d for n in (*numbers, 2) for d in (-1, 0, 1) if 1 <= n + d <= 64})
    grid = itertools.islice(
        (w for w in itertools.starmap(Window, itertools.product((op,), near, near, (1, 2), (0, 1), (False, True))) if w.is_valid),
        _MOST,
    )
    for window in grid:
        if judged(requirement, window) is not True or (bound and not _breaks(requirement, window, bound)):
            continue
        for knob, step in itertools.product(("kernel", "stride", "dilation", "pads"), (-1, 1)):
            other = window._replace(**{knob: getattr(window, knob) + step})
            low = 0 if knob == "pads" else 1
            if getattr(other, knob) < low or not other.is_valid or _clauses(requirement.when, other.measures()) is not True:
                continue
            if judged(requirement, other) is False:
                return other, window
    return None


def _breaks(requirement: Requirement, window: Window, bound: str) -> bool:
    """Whether a window is beyond this one of the bounds."""
    metric, bounds = requirement.clause.metric.text, dict(requirement.clause.bounds)
    return bool(requirement.alternatives) or keeps({bound: bounds[bound]}, window.measures()[metric]) is False


def _numbers(requirement: Requirement) -> set[int]:
    """Whole numbers that the limit names, and their roots, as some are of areas."""
    clauses = [requirement.clause, *requirement.when, *itertools.chain.from_iterable(requirement.alternatives)]
    bounds = [b for c in clauses for _, b in c.bounds]
    flat = [n for b in bounds for n in (b if isinstance(b, tuple) else (b,)) if type(n) is int and 0 < n < 5000]
    return {n for n in flat if n <= 64} | {math.isqrt(n) for n in flat if n > 64}
