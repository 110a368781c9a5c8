"""`make ecosystem`: check, plan, fix and verify models that nobody here wrote, and a table of what came of it.

    python bench/ecosystem.py [NAME=FOLDER ...] [--jobs 2] [--limit N] [--output docs/ecosystem.md]

onnx's own node tests are made from the installed package; other corpora are folders of .onnx files. In a folder with pairs
NAME.dynamo.onnx and NAME.ts.onnx, the two exporters' spellings must give the same findings (`bench/spellings.py` says which
do not). Exit code 1 where there is a crash, an internal error or a wrong rewrite.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from npu_guard import pipeline, registry
from npu_guard.config import Config
from npu_guard.errors import NpuGuardError
from npu_guard.fleet import local
from npu_guard.results import ModelReport, Outcome
from npu_guard.substitution import EXACT

PROFILE = "aimotive-aiware"
LARGEST = 600 << 20
"""Bytes of a model that is fixed and run; larger ones are checked only."""


@dataclass(frozen=True)
class Outcomes:
    """One model: what `check` says, whether ONNX Runtime runs it, and what `fix` did."""

    name: str
    verdict: str = "crashed"
    refused: str = ""
    internal: tuple[str, ...] = ()
    findings: Counter[str] = field(default_factory=Counter)
    undecided: int = 0
    fix: str = "crashed"
    """`equal`, `close`, `differs`, `nothing`, `not_run`, `usage` or `internal`."""
    applied: int = 0
    rolled_back: tuple[str, ...] = ()
    left: int = 0
    cpu: float = 0.0


def one(path: str, fixing: bool) -> Outcomes:
    began = time.process_time()
    report = pipeline.check_models([path], Config(profile=PROFILE)).models[0]
    spent = time.process_time() - began
    name = Path(path).name
    if report.error is not None:
        return Outcomes(name, "unreadable", f"{report.error[0]}: {report.error[1].replace(path, name)}", fix="nothing", cpu=spent)
    found = Counter(f.rule for f in report.findings)
    undecided = sum(f.outcome is Outcome.UNDECIDED for f in report.findings)
    internal = tuple(f"{c.rule} at {c.node}: {c.error}" for c in report.crashes)
    base = functools.partial(Outcomes, name, report.verdict.value, "", findings=found, undecided=undecided, cpu=spent)
    if not fixing or Path(path).stat().st_size > LARGEST or not report.findings:
        return base(internal=internal, fix="nothing", left=errors(report))
    return fixed(path, base, internal)


def errors(report: ModelReport) -> int:
    return sum(f.severity.value == "error" and f.outcome is Outcome.FAIL for f in report.findings)


def fixed(path: str, base: functools.partial[Outcomes], internal: tuple[str, ...]) -> Outcomes:
    from npu_guard import repair

    exact = [s for s in registry.substitutions() if s.exactness == EXACT]
    try:
        done = repair.fix_model(path, registry.profile(PROFILE), Config(profile=PROFILE), exact, seeds=(0,))
    except NpuGuardError as error:
        return base(internal=internal, fix="usage", rolled_back=(str(error).replace(path, Path(path).name),))
    except Exception as error:
        return base(internal=(*internal, f"fix: {type(error).__name__}: {error}"), fix="internal")
    back = tuple(f"{r.substitution} at {r.node}: {r.reason}" for r in done.refused if r.reason.startswith("rolled back"))
    word = done.verification.verdict if done.applied else "nothing"
    return base(internal=internal, fix=word, applied=len(done.applied), rolled_back=back, left=errors(done.after))


def node_tests(folder: Path) -> int:
    """onnx's node tests as files: the package holds what makes them."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import onnx.backend.test.case.node as cases

        made = [case for case in cases.collect_testcases(None) if case.model is not None]
    for case in made:
        (folder / f"{case.name}.onnx").write_bytes(case.model.SerializeToString())
    return len(made)


def wheel_data() -> Path:
    """The models that the onnx package ships for backend tests."""
    import onnx.backend.test

    return Path(onnx.backend.test.__file__).parent / "data"


def row(name: str, all_of: Iterable[Outcomes]) -> tuple[str, bool]:
    """A line of the table, and whether nothing went wrong."""
    found = list(all_of)
    crashes = sum("crashed" in (o.verdict, o.fix) for o in found)
    internal = sum(bool(o.internal) for o in found)
    wrong = sum(o.fix == "differs" for o in found)
    findings = sum(o.findings.total() for o in found)
    undecided = sum(o.undecided for o in found)
    cells = [
        name, str(len(found)), str(sum(o.verdict == "unreadable" for o in found)), str(crashes), str(internal),
        str(findings), f"{100 * undecided / max(findings, 1):.1f} %", str(sum(o.applied > 0 for o in found)),
        str(sum(o.applied for o in found)), str(sum(len(o.rolled_back) for o in found if o.fix != "usage")), str(wrong),
        f"{1000 * statistics.median(o.cpu for o in found):.0f} ms",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |", not (crashes or internal or wrong)


HEAD = """# Models that nobody here wrote

Made by `make ecosystem`; run before each release. Refused are models that `check` could not read, most of which ONNX Runtime
does not load either. Crashes, internal errors and wrong rewrites must be 0. A rewrite that is rolled back was caught by the
verification of its block and is not in the result. The time is the median CPU time of `check` for one model.

| corpus | models | refused | crashes | internal errors | findings | undecided | models fixed | rewrites | rolled back | wrong | time |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""  # noqa: E501


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpora", nargs="*", metavar="NAME=FOLDER")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit", type=int, help="only the first models of each corpus")
    parser.add_argument("--no-fix", action="store_true")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    lines, good, details = [], True, []
    with tempfile.TemporaryDirectory() as made:
        print(f"{node_tests(Path(made))} node tests of onnx", file=sys.stderr)
        corpora = {"onnx node tests": Path(made), "onnx backend data": wheel_data()}
        corpora |= {name: Path(folder) for name, _, folder in (c.partition("=") for c in arguments.corpora)}
        for name, folder in corpora.items():
            files = [str(f) for f in sorted(folder.rglob("*.onnx"))][: arguments.limit]
            work = functools.partial(one, fixing=not arguments.no_fix)
            results = []
            for result in local.each(work, files, arguments.jobs, lambda path: Outcomes(Path(path).name)):
                results.append(result)
                if len(results) % 100 == 0:
                    print(f"{name}: {len(results)} of {len(files)}", file=sys.stderr)
            line, well = row(name, results)
            print(line, flush=True)
            lines.append(line)
            good &= well
            details += [(name, r) for r in sorted(results, key=lambda r: r.name)]
    for name, r in details:
        for what in (*r.internal, *r.rolled_back, *(["crashed"] if "crashed" in (r.verdict, r.fix) else [])):
            print(f"{name}: {r.name}: {what}")
        if r.fix == "differs":
            print(f"{name}: {r.name}: the fixed model differs")
    if arguments.output:
        arguments.output.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
