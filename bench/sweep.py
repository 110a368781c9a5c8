"""Every form that is a function of one number, on every number: `make sweep` writes docs/sweep.md.

    python bench/sweep.py --output docs/sweep.md
    python bench/sweep.py --every 4096          # one in so many numbers, to see that it works

A form counts as one of a single number where permuting the input of its example permutes the output, on both sides. ONNX Runtime
runs the example before and after on all 2^32 patterns of 32 bits; nothing here uses the project's verifier.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from npu_guard.analysis.analyze import analyze
from npu_guard.checking import registry
from npu_guard.checking.engine import check
from npu_guard.checking.examples import case_model, profile_for
from npu_guard.checking.rule import Case
from npu_guard.file.document import Document
from npu_guard.file.load import load
from npu_guard.fixing.catalog import substitutions
from npu_guard.fixing.driver import Settings, fix_document
from npu_guard.project.config import Config
from npu_guard.rewriting.substitution import Example, Substitution
from npu_guard.verification.feeds import fitting_feeds, input_specs, seeded_feeds
from npu_guard.verification.runtime import Runtime

Array = NDArray[Any]
BITS = 1 << 32
CHUNK = 1 << 17
"""Numbers in one run: half a MiB, so that what passes from operator to operator stays in the cache."""
INFINITY = 0x7F800000
"""Its pattern; larger ones, without the sign, are NaN."""
SHAPE = (1, 8, 1, CHUNK // 8)
SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(slots=True)
class Row:
    """What all numbers say of one form."""

    name: str
    graph: str
    label: str
    tried: int = 0
    """Numbers, infinities among them; NaN apart."""
    same: int = 0
    """Those for which both sides are the same number, or both NaN."""
    nan: bool = True
    """Whether both sides give the same for NaN."""
    unlike: int = 0
    """Finite numbers for which one side alone is finite."""
    unlike_from: float = np.inf
    unlike_to: float = -np.inf
    absolute: float = 0.0
    absolute_at: float = 0.0
    relative: float = 0.0
    relative_at: float = 0.0
    """Where the original is a normal number."""


def rewritten(substitution: Substitution, example: Example, folder: Path, runtime: Runtime) -> tuple[Any, ...] | None:
    """Models before and after for an example of one float input and one output, with the label that the rewrite has."""
    limits = substitution.limits if example.limits is None else example.limits
    operators = substitution.operators if example.operators is None else example.operators
    case = Case(example.graph, limits=dict(limits), opset=example.opset, operators=dict(operators), require=example.require)
    model = onnx.shape_inference.infer_shapes(case_model(case))
    types = [(i.type.tensor_type.elem_type, len(i.type.tensor_type.shape.dim)) for i in (*model.graph.input, *model.graph.output)]
    if types != [(onnx.TensorProto.FLOAT, 4)] * 2:
        return None
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    skeleton = load(path)
    document, analysis, profile = Document.of(skeleton), analyze(skeleton), profile_for(case)
    wanted = input_specs(analysis.model.graph.inputs)
    settings = Settings(
        [substitution], seeded_feeds(wanted, 0), fitting_feeds(wanted, [0]), (0,), "", {}, warnings=True
    )  # fmt: skip
    fixed = fix_document(document, analysis, lambda a: check(a, profile, registry.rules(), Config()), profile, settings, runtime)
    if not fixed.applied:
        return None
    proof = fixed.applied[0].verification.proof
    label = proof.label if proof is not None and substitution.exactness == "exact" else "approximate"
    return document.runnable()[0], fixed.document.runnable()[0], label


def session(content: bytes, shape: Sequence[int]) -> onnxruntime.InferenceSession:
    """The model for an input of another shape, as written: without ONNX Runtime's own rewrites."""
    model = onnx.load_model_from_string(content)
    del model.graph.value_info[:]
    for entry in (*model.graph.input, *model.graph.output):
        entry.type.tensor_type.ClearField("shape")
        for extent in shape:
            entry.type.tensor_type.shape.dim.add().dim_value = extent
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: onnxruntime.InferenceSession, x: Array) -> Array:
    """The only output for the only input."""
    (result,) = model.run(None, {model.get_inputs()[0].name: x})
    return np.asarray(result)


def is_unary(before: bytes, after: bytes) -> bool:
    """Whether both sides treat each number of an input alike, wherever it stands."""
    shape = (1, 8, 4, 4)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(128).astype(np.float32) * 3
    order = rng.permutation(128)
    for content in (before, after):
        try:
            model = session(content, shape)
        except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
            return False
        straight, permuted = (run(model, v.reshape(shape)) for v in (x, x[order]))
        if straight.size != 128 or not np.allclose(straight.ravel()[order], permuted.ravel(), rtol=1e-5, atol=1e-6):
            return False
    return True


def forms(folder: Path) -> Iterator[tuple[Row, bytes, bytes]]:
    """Each form of one number with both of its models."""
    seen = set()
    with Runtime() as runtime:
        for substitution in substitutions():
            for example in substitution.good:
                text = " ".join(example.graph.split())
                made = rewritten(substitution, example, folder, runtime) if "float[1,8,4,4] x" in text else None
                if made is not None and (substitution.name, text) not in seen and is_unary(*made[:2]):
                    seen.add((substitution.name, text))
                    yield Row(substitution.name, text.split("=> (y) ")[1], made[2]), made[0], made[1]


def sweep(row: Row, before: bytes, after: bytes, every: int) -> None:
    """Fill in the row."""
    models = session(before, SHAPE), session(after, SHAPE)
    for start in range(0, BITS, CHUNK * every):
        patterns = np.arange(start, start + CHUNK * every, every, dtype=np.uint64).astype(np.uint32)
        x = patterns.view(np.float32)
        one, other = (run(model, x.reshape(SHAPE)).ravel() for model in models)
        known = patterns & 0x7FFFFFFF <= INFINITY
        numbers = CHUNK if known.all() else int(known.sum())
        row.tried += numbers
        if np.array_equal(one.view(np.uint32), other.view(np.uint32)):  # by far the most, and the cheapest to see
            row.same += numbers
            continue
        same = (one == other) | (np.isnan(one) & np.isnan(other))
        row.same += int((same & known).sum())
        row.nan = row.nan and bool(same[~known].all())
        rest = ~same & known
        _measure(row, x[rest], one[rest].astype(np.float64), other[rest].astype(np.float64))


def _measure(row: Row, x: Array, one: Array, other: Array) -> None:
    """The numbers for which both sides differ."""
    finite = np.isfinite(one) & np.isfinite(other)
    unlike = x[~finite & np.isfinite(x)]
    if unlike.size:
        row.unlike += unlike.size
        row.unlike_from = min(row.unlike_from, float(unlike.min()))
        row.unlike_to = max(row.unlike_to, float(unlike.max()))
    if not finite.all():
        x, one, other = x[finite], one[finite], other[finite]
    error, size = np.abs(one - other), np.abs(one)
    relative = error / np.where(size >= SMALLEST, size, np.inf)
    for name, values in (("absolute", error), ("relative", relative)):
        if values.size and values.max() > getattr(row, name):
            setattr(row, name, float(values.max()))
            setattr(row, f"{name}_at", float(x[values.argmax()]))


def page(rows: Sequence[Row], every: int) -> str:
    """The table as Markdown."""
    number = "all 4,294,967,296 numbers" if every == 1 else f"one in {every} of the numbers"
    lines = [
        "# Forms of one number, on every number",
        "",
        f"Written by `make sweep` (`bench/sweep.py`): {number} of float32 through both sides of each",
        "form, by ONNX Runtime on a CPU, one thread, optimisations off. *Same* are equal numbers, or NaN on both sides.",
        "*Relative* counts where the original gives a normal number; near a zero of the function it may be the original that",
        "is off, as exp(x) - 1 is for small x. *One side finite* are finite inputs for which only one side overflows or is",
        "NaN; *NaN* says whether both give the same for it.",
        "",
        "| form | original | label | same | largest difference | at | largest relative | at | one side finite | NaN |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        unlike = f"{row.unlike:,}, from {row.unlike_from:.3g} to {row.unlike_to:.3g}" if row.unlike else "none"
        cells = (
            row.name, f"`{row.graph}`", row.label, f"{100 * row.same / row.tried:.2f} %", f"{row.absolute:.2g}",
            f"{row.absolute_at:.4g}", f"{row.relative:.2g}", f"{row.relative_at:.4g}", unlike, "same" if row.nan else "differs",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for row, before, after in forms(Path(name)):
            sweep(row, before, after, given.every)
            print(row, flush=True)
            rows.append(row)
    text = page(rows, given.every)
    if given.output is not None:
        given.output.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
