"""How uncertain a model is of its own outputs: what one ulp of its inputs and the rounding of each of its operators moves.

The model runs a few times with every number that is fed moved by its last bit, and with every value that an operator rounds
moved by as much as that operator may round (stochastic arithmetic: Vignes, Discrete stochastic arithmetic, 2004). What moves
then on its own accord, such as a softmax over large scores, an ArgMax of a tie or a value on the border of two steps, no
spelling of the model keeps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from npu_guard.analysis.analyze import Analysis
from npu_guard.file.document import Document
from npu_guard.verification import slices
from npu_guard.verification.accumulation import is_exact, summed_terms
from npu_guard.verification.feeds import Array, Feed
from npu_guard.verification.runtime import CannotRun, Runtime

DRAWS, MORE = 4, 16
"""Runs that tell how far a model moves, and those where a difference is beyond what the first few show: where all of an output
hangs on one sum, the largest of four moves may by chance be a fraction of what another rounding does.
"""
_T = onnx.TensorProto
_ULP: dict[int, float] = {_T.FLOAT: 2.0**-24, _T.FLOAT16: 2.0**-11, _T.DOUBLE: 2.0**-53}
"""Half of the distance between 1 and the next number: what one rounding may be, relative to the result."""

_GATES = frozenset({"Sigmoid", "LSTM", "GRU"})
"""Operators whose kernels in ONNX Runtime round a number near 1/2 or 1, whatever is left of it: the sigmoid of -17 comes out as
9e-8 where it is 4e-8, that of -20 as 0."""


@dataclass(frozen=True, slots=True)
class Noise:
    """How far one output of a model moves on one input."""

    whole: float = 0.0
    """The largest difference of any value."""
    by_slice: Mapping[int, NDArray[np.float64]] = field(default_factory=dict)
    """That of each slice, by the axis along which the output is cut."""
    seen: Sequence[Array] = ()
    """What came out instead, for outputs that are no floating-point numbers or come in steps."""
    ordered: bool = False
    """Whether what lies between two of these may come out as well, as between two steps, but not between two labels."""


def measure_noise(
    runtime: Runtime, model: Document, feeds: Sequence[Feed], reference: Sequence[Mapping[str, Array]], names: Sequence[str],
    analysis: Analysis | None = None, chosen: Sequence[int] | None = None,
    draws: int = DRAWS,
) -> dict[str, list[Noise]]:  # fmt: skip
    """How far each output moves on each of the feeds, or on those that are `chosen`; on the others it counts as certain.

    `analysis` tells what the nodes of the model are; without it, the inputs alone are moved.
    """
    found = {name: [Noise() for _ in feeds] for name in names}
    moved = None if analysis is None else rounded(model, analysis)
    for i in range(len(feeds)) if chosen is None else chosen:
        nudged = [_nudged(feeds[i], np.random.default_rng(seed)) for seed in range(draws)]
        runs = _runs(runtime, moved, nudged, names) if moved is not None else None
        runs = runs or _runs(runtime, model, nudged, names) or []
        for name in names:
            found[name][i] = _spread(reference[i][name], [run[name] for run in runs])
    return found


def _runs(runtime: Runtime, model: Document, feeds: Sequence[Feed], names: Sequence[str]) -> list[dict[str, Array]] | None:
    content, folder = model.runnable()
    try:
        return runtime.run(content, folder.resolve(), feeds, list(names))
    except CannotRun:
        return None


def _nudged(feed: Feed, rng: np.random.Generator) -> Feed:
    return {
        name: np.nextafter(array, np.where(rng.random(array.shape) < 0.5, np.inf, -np.inf).astype(array.dtype))
        if array.dtype.kind == "f"
        else array
        for name, array in feed.items()
    }


def _spread(reference: Array, runs: Sequence[Array]) -> Noise:
    if reference.dtype.kind != "f":
        return Noise(seen=tuple(runs))
    whole, by_slice = 0.0, {axis: np.zeros(reference.shape[axis]) for axis in slices.slice_axes(reference.shape)}
    for run in runs:
        if run.shape != reference.shape:  # a shape that hangs on last bits
            return Noise(math.inf, {axis: np.full(len(v), math.inf) for axis, v in by_slice.items()})
        with np.errstate(invalid="ignore"):  # what is infinite on both sides has no difference
            difference = np.abs(reference.astype(np.float64) - run)
        difference = np.where(np.isfinite(difference), difference, 0.0)
        whole = max(whole, float(difference.max(initial=0.0)))
        for axis, known in by_slice.items():
            np.maximum(known, slices.slice_peaks(difference, axis), out=known)
    return Noise(whole, by_slice)


def rounded(model: Document, analysis: Analysis) -> Document:
    """A copy in which each value that an operator rounds is multiplied by random numbers near 1, others in each run.

    They lie as far from 1 as the operator may round: by one rounding, or by what that many terms add up to.
    """
    copy = model.copy()
    graph = copy.proto.graph
    values = analysis.model.graph.values
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        graph.node.append(node)
        kept = graph.node[-1]
        for i, name in enumerate(node.output):
            value = values.get(name)
            if value is None or value in analysis.static or value.producer is None or is_exact(node.op_type, node.domain):
                continue
            if (ulp := _ULP.get(value.dtype)) is not None:
                kept.output[i] = f"{name}/exact"
                summed = min(ulp, _ULP[_T.FLOAT])  # kernels for float16 sum in float32
                part = max(ulp, summed * math.sqrt(summed_terms(analysis, value.producer)))
                if node.op_type in _GATES and not node.domain:
                    graph.node.extend(_shifted(f"{name}/exact", f"{name}/gate", value.dtype, ulp))
                    graph.node.extend(_multiplied(name, value.dtype, part, f"{name}/gate"))
                else:
                    graph.node.extend(_multiplied(name, value.dtype, part))
        if node.op_type.startswith("QLinear"):  # it rounds inside; its scales, moved by one rounding, show what lies on a border
            for i, name in enumerate(node.input):
                value = values.get(name)
                if value is not None and value.dtype == _T.FLOAT:
                    kept.input[i] = f"{name}/by {kept.output[0]}"
                    made = _multiplied(kept.input[i], _T.FLOAT, _ULP[_T.FLOAT], name)
                    graph.node.remove(kept)
                    graph.node.extend([*made, kept])
                    kept = graph.node[-1]
    return copy


def _shifted(source: str, name: str, dtype: int, part: float) -> list[onnx.NodeProto]:
    """Nodes that add random numbers up to `part` to what an operator gave."""
    return _moved(source, name, dtype, "Add", (-part, part), name.removesuffix("/gate"))


def _multiplied(name: str, dtype: int, part: float, source: str = "") -> list[onnx.NodeProto]:
    """Nodes that make `name` of `source`, or of what the operator gave, in a model of any opset."""
    # ONNX Runtime draws by a float32, of which there are few so near 1: a wider interval, and its edges are as likely as they
    # should. None is as near as what moves a float64, so that is added, times what it moves.
    if dtype == _T.DOUBLE:
        moved = _moved(source or f"{name}/exact", f"{name}/part", dtype, "Mul", (-part, part), name)
        return [*moved, onnx.helper.make_node("Add", [source or f"{name}/exact", f"{name}/part"], [name], name=f"{name}/sum")]
    part = max(part, 2.0**-23)
    return _moved(source or f"{name}/exact", name, dtype, "Mul", (1.0 - part, 1.0 + part), name)


def _moved(
    source: str, name: str, dtype: int, by: str, between: tuple[float, float], seeded: str
) -> list[onnx.NodeProto]:  # fmt: skip
    """Nodes that make `name` of `source` by an operator and random numbers; the end of the name `seeded` is the seed."""
    make, plain = onnx.helper.make_node, dtype if dtype in (_T.FLOAT, _T.DOUBLE) else _T.FLOAT
    seed = float(int.from_bytes(seeded.encode("utf-8", "replace")[-4:], "little") % 65521)
    drawn, (low, high) = f"{name}/factor", between
    nodes = [make("RandomUniformLike", [source], [drawn], low=low, high=high, seed=seed, dtype=plain, name=f"{name}/draw")]
    if plain != dtype:
        nodes.append(make("Cast", [drawn], [f"{drawn}/cast"], to=dtype, name=f"{name}/cast"))
        drawn = f"{drawn}/cast"
    return [*nodes, make(by, [source, drawn], [name], name=f"{name}/move")]
