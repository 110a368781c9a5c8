"""One operator as a model, written from knobs, and what a device file can measure at it."""

from __future__ import annotations

import functools
import hashlib
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npu_guard.base.errors import NpuGuardError, Undecidable
from npu_guard.checking.context import Context
from npu_guard.checking.examples import case_model
from npu_guard.checking.rule import Case
from npu_guard.device import Profile
from npu_guard.device.metric import metric

OPSET = 17
IR_VERSION = 8
"""The newest that all the compilers read which npu-guard knows."""
MOST_ELEMENTS = 1 << 22
"""Of one tensor: a larger one would measure the machine."""

Value = int | float | str | bool | tuple[int, ...]


@dataclass(frozen=True)
class Range:
    """A knob that is a whole number, and where it starts."""

    base: int
    high: int
    low: int = 1


@dataclass(frozen=True)
class Choice:
    """A knob with a few values; the first is where it starts."""

    values: tuple[Value, ...]

    @property
    def base(self) -> Value:
        """Where it starts."""
        return self.values[0]


Knob = Range | Choice
Point = tuple[tuple[str, Value], ...]
"""The value of each knob, in the order of the form."""


@dataclass(frozen=True)
class Form:
    """An operator, its knobs, and how it is written from them; `write` raises ValueError where they do not go together."""

    op: str
    knobs: Mapping[str, Knob]
    write: Callable[[Mapping[str, Any]], str]
    numbers: tuple[str, ...]
    """Metrics that a bound may be on, the plainest first: where several explain the same answers, the first is stated."""
    kinds: tuple[str, ...] = ()
    """Metrics that tell forms of the operator apart."""

    @property
    def base(self) -> Point:
        """All knobs where they start."""
        return tuple((name, knob.base) for name, knob in self.knobs.items())

    def turned(self, point: Point, **values: Value) -> Point:
        """A point with some knobs turned."""
        return tuple((name, values.get(name, value)) for name, value in point)


@dataclass(frozen=True)
class Model:
    """A model of one operator, and the values of metrics at it."""

    key: str
    """Hash of what a compiler sees."""
    data: bytes
    facts: Mapping[str, tuple[Any, ...]]
    """By metric; one that cannot be measured is left out."""


@functools.lru_cache(maxsize=1 << 15)
def _built(op: str, metrics: tuple[str, ...], text: str) -> Model | None:
    import onnx

    from npu_guard.analysis.analyze import analyze
    from npu_guard.file.load import load

    try:
        model = case_model(Case(graph=text, opset=OPSET))
        model.ir_version = IR_VERSION
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception:  # the parser's and the inference's ways to say that knobs do not go together are many
        return None
    data = model.SerializeToString(deterministic=True)
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        Path(file.name).write_bytes(data)
        try:
            analysis = analyze(load(file.name))
        except NpuGuardError:
            return None
    node = next((n for n in analysis.model.graph.nodes if n.op == op), None)
    if node is None:
        return None
    context = Context(analysis, Profile("learning", "", "", (), {}, {}, {}))
    facts = {}
    for name in metrics:
        try:
            measured = metric(name).measure(node, context)
        except (Undecidable, NpuGuardError, AttributeError, IndexError, TypeError, ValueError):  # not of this operator
            continue
        if measured.values and None not in measured.values:
            facts[name] = measured.values
    return Model(hashlib.sha256(data).hexdigest()[:24], data, facts)


def built(form: Form, point: Point) -> Model | None:
    """The model at a point; None where there is none, or one that is too large to ask about."""
    try:
        text = form.write(dict(point))
    except ValueError:
        return None
    return _built(form.op, (*form.numbers, *form.kinds), text)


def tensor(name: str, shape: Sequence[int], dtype: str = "float") -> str:
    """An input or a weight in ONNX's text. Raises ValueError where it is too large, or empty."""
    if min(shape, default=1) < 1 or math.prod(shape) > MOST_ELEMENTS:
        raise ValueError(f"{name} has {math.prod(shape)} elements")
    return f"{dtype}[{','.join(map(str, shape))}] {name}"


def vector(name: str, values: Sequence[float], dtype: str = "int64") -> str:
    """A constant in ONNX's text."""
    return f"{dtype}[{len(values)}] {name} = {{{','.join(map(str, values))}}}"


def call(op: str, operands: Sequence[str], results: Sequence[str] = ("y",), **attributes: Any) -> str:
    """One line of ONNX's text; attributes that are None are left out."""
    said = [
        f"{name} = " + (f'"{value}"' if isinstance(value, str) else f"{list(value)}" if isinstance(value, tuple) else f"{value}")
        for name, value in attributes.items()
        if value is not None
    ]
    between = f"<{', '.join(said)}>" if said else ""
    return f"{', '.join(results)} = {op}{between}({', '.join(operands)})"


def graph(line: str, inputs: Sequence[str], held: Sequence[str] = (), outputs: Sequence[str] = ("float[] y",)) -> str:
    """A model of one call."""
    between = f" <{', '.join(held)}>" if held else ""
    return f"g ({', '.join(inputs)}) => ({', '.join(outputs)}){between} {{ {line} }}"
