"""Cases at each limit of a profile and one step past it, made from the profile: a new limit is swept without more code.

A limit bounds a metric of an operator. A maker writes that operator from knobs (kernel, stride, axes ...), a dial turns a
value of the metric into knobs, and bases are the forms in which guards (`when`) may want the operator. A case counts only if
the metric, measured by the engine, has the wanted value.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import judge
import single as m
from makers import MAKERS, Knobs, Maker, factors
from single import Case

from npu_guard.base.errors import Undecidable
from npu_guard.checking.context import Context
from npu_guard.device import Profile, Requirement
from npu_guard.device.keys import EVERY
from npu_guard.device.metric import Metric
from npu_guard.device.predicate import Clause
from npu_guard.graph.graph import Node

ELEMENTS = 1 << 25
"""A larger tensor is left out: it would measure the machine."""


def cases(profile: Profile) -> list[Case]:
    """Without those that the fixed sweep has; keys name operator, metric, value and base."""
    found: dict[str, Case] = {}
    for op, clause, requirement in _questions(profile):
        for value in _values(op, clause):
            for case in _at(profile, op, clause.metric, value, requirement):
                found.setdefault(case.key, case)
    return list(found.values())


def unswept(profile: Profile, families: Container[str] | None = None) -> list[str]:
    """Operators and metrics with a limit in the profile for which there is no case, or none among these families."""
    made = {c.family for c in cases(profile)} if families is None else families
    return sorted(
        {f"{op} {clause.metric.text}" for op, clause, _ in _questions(profile) if _family(op, clause.metric) not in made}
    )


def _questions(profile: Profile) -> Iterator[tuple[str, Clause, Requirement]]:
    for requirement in (r for r in profile.requirements if not r.reported):  # of those, the compiler asked says otherwise
        for op in ("Relu", "Add") if requirement.ops == (EVERY,) else requirement.ops:
            for clause in (requirement.clause, *(c for way in requirement.alternatives for c in way), *requirement.when):
                if clause.bounds:
                    yield op, clause, requirement


def _values(op: str, clause: Clause) -> Iterator[Any]:
    """At the bound and past it; of a set its members, and what lies beside them."""
    words = _WORDS.get(f"{op} {clause.metric.text}", ())
    for name, bound in clause.bounds:
        if name in ("max", "below") and isinstance(bound, int):
            last = bound - (name == "below")
            yield from (last, _next_product(last) if clause.metric.text.endswith(".product") else last + 1)
        elif name == "min" and isinstance(bound, int):
            yield from (bound, bound - 1)
        elif name in ("in", "not_in"):
            numbers = [b for b in bound if isinstance(b, int)]
            yield from (*bound, *([max(numbers) + 1] if numbers else words))
        elif name == "is" and isinstance(bound, int | float) and not isinstance(bound, bool):
            flag = clause.metric.text.startswith("attr.") and bound in (0, 1)
            yield from (
                bound,
                1 - bound if flag and isinstance(bound, int) else bound + 1 if isinstance(bound, int) else bound / 2,
            )
        elif name == "is" and isinstance(bound, bool):
            yield from (True, False)
        elif name == "is":
            yield from (bound, *words)
        elif name == "multiple_of" and isinstance(bound, int):
            yield from (bound, 2 * bound, bound + 1)
        elif name in ("power_of_two", "integer"):
            yield from (4, 3) if name == "power_of_two" else (2, 2.5)


def _next_product(value: int) -> int:
    """The next number that is nearly a square number, so that no single factor is what breaks a limit."""
    return next(n for n in range(value + 1, 2 * value + 2) if 4 * (f := factors(n))[0] >= f[1] or n < 64)


_WORDS: Mapping[str, Sequence[str]] = {
    "Resize attr.mode": ("nearest", "linear", "cubic"),
    "Pad attr.mode": ("constant", "reflect", "edge"),
    "DepthToSpace attr.mode": ("DCR", "CRD"),
    "GridSample attr.mode": ("bilinear", "nearest", "bicubic"),
    "GridSample attr.padding_mode": ("zeros", "border", "reflection"),
    "RoiAlign attr.mode": ("avg", "max"),
    "RoiAlign attr.coordinate_transformation_mode": ("half_pixel", "output_half_pixel"),
    **{
        f"{op} attr.auto_pad": ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
        for op in ("Conv", "ConvTranspose", "MaxPool", "AveragePool")
    },
    "Resize attr.nearest_mode": ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
    "Resize attr.coordinate_transformation_mode": ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"),
}
"""What else ONNX allows where a limit names words."""


def _family(op: str, metric: Metric) -> str:
    return f"At limits: {op} {metric.text}"


def _at(profile: Profile, op: str, metric: Metric, value: Any, requirement: Requirement) -> Iterator[Case]:
    """One case for each way to get the value, in the first base that the guards let pass."""
    maker = MAKERS.get(op)
    if maker is None:
        return
    ways: dict[int, tuple[Case, bool]] = {}
    for name, base in maker.bases.items():
        for way, knobs in enumerate(maker.turn(metric.text, value)):
            if way in ways and ways[way][1]:
                continue
            case = _case(op, metric, value, name, way, maker, {**base, **knobs})
            fits = _measured(profile, case, op, metric, value, requirement) if case else None
            if case and fits is not None and (fits or way not in ways):
                ways[way] = (case, fits)
    yield from (case for case, _ in ways.values())


def _case(op: str, metric: Metric, value: Any, base: str, way: int, maker: Maker, knobs: Knobs) -> Case | None:
    try:
        text = maker.write(**knobs)
        if metric.text.startswith("constant.") and value is False and metric.text not in maker.dials:
            text = m.loosened(text, op, metric.text.partition(".")[2])
    except (TypeError, ValueError, LookupError):  # knobs that do not go together
        return None
    words = [
        "limit",
        op,
        metric.text,
        "x".join(map(str, value)) if isinstance(value, tuple) else f"{value}",
        base,
        "along the width" if way else "",
    ]
    return Case(" ".join(filter(None, words)), _family(op, metric), text)


def _measured(profile: Profile, case: Case, op: str, metric: Metric, value: Any, requirement: Requirement) -> bool | None:
    """Whether the guards hold; None where the model is not valid or the metric does not have the value."""
    try:
        analysis = judge.analysis_of(case)
    except Exception:  # whatever says that this is no model
        return None
    node = next((n for n in analysis.model.graph.nodes if n.op == op), None)
    if node is None:
        return None
    ctx = Context(analysis, profile)
    if any(math.prod(d for d in (ctx.shape(v) or ()) if isinstance(d, int)) > ELEMENTS for v in node.inputs if v is not None):
        return None
    try:
        values = metric.measure(node, ctx).values
    except Undecidable:
        return None
    if not (
        value in values or tuple(values) == value or (isinstance(value, float) and any(math.isclose(v, value) for v in values))
    ):
        return None
    return all(_holds(guard, node, ctx) for guard in requirement.when)


def _holds(guard: Clause, node: Node, ctx: Context) -> bool:
    return guard.judge(node, ctx).fits is True
