"""How well `verify` tells models apart: random networks with one subtle change each, and the same networks spelled otherwise.

    python bench/verification.py --count 2000 --output docs/verification.md

What is right is decided without the verifier: both models run on other inputs than it draws, and a pair differs where a channel,
or an index of the last axis, is off by more than four times the tolerance that the verifier states, on any of them. Of what it
states as rounding, no more than 1e-4 of the output counts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent))

from verification_changes import CHANGES, INTERFACE, RESPELLINGS
from verification_networks import network

from npu_guard.analysis.analyze import analyze
from npu_guard.file.load import load
from npu_guard.pipeline.verify import compare_models
from npu_guard.results.verification import Verification
from npu_guard.verification.feeds import input_specs, seeded_feeds
from npu_guard.verification.runtime import CannotRun, Runtime

Array = NDArray[Any]
FRESH = (1000, 1001, 1002, 1003, 1004, 1005)
"""Seeds of the inputs on which it is decided what is right; the verifier draws with 0, 1, 2 and some that follow."""
CLEAR = 4.0
"""How often the stated tolerance a difference has to exceed to count: between once and so often, both verdicts are right."""


@dataclass(slots=True)
class Row:
    """What came of one kind of change."""

    pairs: int = 0
    differ: int = 0
    """Those that differ on fresh inputs by clearly more than the tolerance."""
    told: int = 0
    """Those of them that the verifier tells apart."""
    beyond: int = 0
    """Those that the verifier tells apart where fresh inputs show no difference: its own inputs do."""
    missed: list[str] = field(default_factory=list)


def runs(model: onnx.ModelProto, feeds: Sequence[Any], runtime: Runtime, folder: Path) -> list[dict[str, Array]] | None:
    """Outputs of a model, None where it does not run."""
    try:
        return runtime.run(model.SerializeToString(), folder, feeds)
    except CannotRun:
        return None


def apart(
    first: Sequence[dict[str, Array]], second: Sequence[dict[str, Array]], tolerances: dict[str, tuple[float, float]]
) -> bool:
    """Whether two models clearly differ on any of the inputs; tolerances are relative and absolute."""
    for a, b in zip(first, second, strict=True):
        for (name, x), y in zip(a.items(), b.values(), strict=True):
            if x.shape != y.shape or x.dtype != y.dtype:
                return True
            if x.dtype.kind != "f":
                if float(np.mean(x != y)) > 0.01:
                    return True
                continue
            if not np.array_equal(np.isfinite(x), np.isfinite(y)):
                return True
            u, v = (np.where(np.isfinite(side), side, 0).astype(np.float64) for side in (x, y))
            stated, rounding = tolerances.get(name, (0.0, 0.0))
            relative, absolute = CLEAR * max(stated, 1e-6), CLEAR * min(rounding, 1e-4 * np.abs(u).max(initial=0.0)) + 1e-30
            for axis in range(u.ndim) if u.ndim > 2 else ():
                others = tuple(i for i in range(u.ndim) if i != axis)
                if (np.abs(u - v).max(axis=others) > relative * np.abs(u).max(axis=others) + absolute).any():
                    return True
            if np.abs(u - v).max(initial=0.0) > relative * np.abs(u).max(initial=0.0) + absolute:
                return True
    return False


def one(
    number: int, change: Callable[[onnx.ModelProto, np.random.Generator], bool], folder: Path, runtime: Runtime
) -> tuple[Verification, bool] | None:
    """The verdict on a network and its changed form, and whether they clearly differ; None where the change does not apply."""
    rng = np.random.default_rng(number)
    before = network(rng)
    after = onnx.ModelProto()
    after.CopyFrom(before)
    if not change(after, rng):
        return None
    paths = [folder / "before.onnx", folder / "after.onnx"]
    for model, path in zip((before, after), paths, strict=True):
        onnx.save(model, path)
    verdict, _ = compare_models(str(paths[0]), str(paths[1]), {}, borrowed=runtime)
    analysis = analyze(load(str(paths[0])))
    wanted = input_specs(analysis.model.graph.inputs, analysis.constants)
    feeds = [feed for seed in FRESH for feed in seeded_feeds(wanted, seed)]
    first, second = (runs(m, feeds, runtime, folder) for m in (before, after))
    if first is None:
        return None
    if second is None:
        return verdict, True
    return verdict, apart(first, second, {o.name: (o.rtol, o.atol) for o in verdict.outputs})


def study(count: int) -> tuple[dict[str, Row], dict[str, Row]]:
    """So many pairs with a change, and a quarter as many that are spelled otherwise, by kind."""
    tables: tuple[dict[str, Row], dict[str, Row]] = ({}, {})
    with tempfile.TemporaryDirectory() as name, Runtime() as runtime:
        for table, kinds, total in ((tables[0], CHANGES, count), (tables[1], RESPELLINGS, max(len(RESPELLINGS), count // 4))):
            done = number = 0
            while done < total and number < 8 * total:
                kind = list(kinds)[number % len(kinds)]
                found = one(number, kinds[kind], Path(name), runtime)
                number += 1
                if found is None:
                    continue
                done += 1
                verdict, differs = found[0], (found[1] or kind in INTERFACE) and kinds is CHANGES
                row = table.setdefault(kind, Row())
                row.pairs += 1
                said = verdict.verdict != "equal"
                row.differ += differs
                row.told += differs and said
                row.beyond += said and not differs
                if (differs and not said) or (said and kinds is RESPELLINGS):
                    row.missed.append(f"{number - 1}: {verdict.verdict} {verdict.reason}")
    return tables


def page(count: int, changed: dict[str, Row], spelled: dict[str, Row]) -> str:
    """The tables as Markdown."""
    differ, told = (sum(getattr(r, name) for r in changed.values()) for name in ("differ", "told"))
    pairs, refused = sum(r.pairs for r in spelled.values()), sum(len(r.missed) for r in spelled.values())
    lines = [
        "# How well `verify` tells models apart",
        "",
        f"Written by `make verification COUNT={count}` (`bench/verification.py`). Random networks of a few operators each,",
        "with one subtle change, go through `npu-guard verify`. What is right is decided without it: both run on 20 other",
        "inputs, and a pair differs where a slice along any axis is off by more than four times the tolerance that the",
        "verifier states, or where the change is one of the interface. Smaller differences count for neither side.",
        "*More* are pairs that the verifier tells apart by its own inputs where the 20 others show nothing, or less than",
        "four times the tolerance.",
        "",
        f"Of {sum(r.pairs for r in changed.values())} changed pairs, {differ} differ and {told} of these are told apart. "
        f"Of {pairs} pairs that are spelled otherwise, {pairs - refused} are equal.",
        "",
        "| change | pairs | differ | told apart | more |",
        "|---|---|---|---|---|",
    ]
    for kind, row in changed.items():
        share = f"{100 * row.told / row.differ:.0f} %" if row.differ else "-"
        lines.append(f"| {kind} | {row.pairs} | {row.differ} | {row.told} ({share}) | {row.beyond} |")
    lines += ["", "| the same, spelled otherwise | pairs | equal |", "|---|---|---|"]
    lines += [f"| {kind} | {row.pairs} | {row.pairs - len(row.missed)} |" for kind, row in spelled.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page; 1 where a pair is judged wrongly."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    changed, spelled = study(given.count)
    text = page(given.count, changed, spelled)
    if given.output is None:
        print(text)
    else:
        given.output.write_text(text, encoding="utf-8")
    wrong = [f"{kind}: {line}" for table in (changed, spelled) for kind, row in table.items() for line in row.missed]
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
