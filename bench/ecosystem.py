"""`make ecosystem`: check, fix, verify and cut models that nobody here wrote, and a table of what came of it.

    python bench/ecosystem.py [NAME=FOLDER ...] [--jobs 2] [--limit N] [--resume FILE] [--output docs/ecosystem.md]

onnx's own node tests are made from the installed package; other corpora are folders of .onnx files. In a folder with pairs
NAME.dynamo.onnx and NAME.ts.onnx, the two exporters' spellings must give the same findings (`spellings.py`). Exit code 1
where there is a crash, an internal error, a wrong rewrite, or a difference of spellings that nobody has explained.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import spellings

from npu_guard.base.errors import NpuGuardError
from npu_guard.base.pool import run_in_pool
from npu_guard.checking import registry
from npu_guard.fixing import catalog
from npu_guard.pipeline.check import check_models, judged
from npu_guard.project.config import Config
from npu_guard.results.findings import Outcome
from npu_guard.rewriting.substitution import EXACT
from npu_guard.verification.runtime import CannotRun

PROFILE = "aimotive-aiware"
LARGEST = 600 << 20
"""Bytes of a model that is fixed and run; larger ones are checked only."""
NETWORK = 1_000_000
"""MACs from which on a model is worth cutting; below, it is an operator."""
SLOW = 60.0
"""Seconds from which on one model is named."""
EVERY = 30.0
"""Seconds between lines of progress."""
FEW = 3
"""Things of one kind that are told of one model."""


@dataclass(frozen=True)
class Outcomes:
    """One model: what `check` says, whether ONNX Runtime runs it, and what `fix`, `verify` and `partition` did."""

    name: str
    verdict: str = "crashed"
    refused: str = ""
    internal: tuple[str, ...] = ()
    findings: dict[str, int] = field(default_factory=dict)
    undecided: int = 0
    fix: str = "crashed"
    """`equal`, `close`, `differs`, `nothing`, `not_run`, `usage` or `internal`."""
    verified: str = ""
    """What `verify` says of the written file, on other inputs; empty where none was written."""
    partition: str = ""
    """What the pieces give against the whole; empty where the model was not cut."""
    applied: int = 0
    rolled_back: tuple[str, ...] = ()
    left_out: str = ""
    cpu: float = 0.0
    seconds: float = 0.0


def one(path: str, root: str, fixing: bool) -> Outcomes:
    began, name = time.monotonic(), str(Path(path).relative_to(root))
    processor = time.process_time()
    report = check_models([path], Config(profile=PROFILE)).models[0]
    spent = time.process_time() - processor
    if report.error is not None:
        refused = f"{report.error[0]}: {report.error[1].replace(path, name)}"
        return Outcomes(name, "unreadable", refused, fix="nothing", cpu=spent, seconds=time.monotonic() - began)
    undecided = sum(f.outcome is Outcome.UNDECIDED for f in report.findings)
    internal = tuple(f"{c.rule} at {c.node}: {c.error}" for c in report.crashes)
    found = spellings.kinds(report.findings)
    result = Outcomes(name, report.verdict.value, "", internal, found, undecided, "nothing", cpu=spent)
    if fixing and Path(path).stat().st_size <= LARGEST:
        if report.findings:
            result = fixed(path, result)
        if (report.totals.macs or 0) >= NETWORK:
            result = cut(path, result)
    return replace(result, seconds=time.monotonic() - began)


def fixed(path: str, so_far: Outcomes) -> Outcomes:
    from npu_guard.file.save import save_document
    from npu_guard.pipeline.fix import fix_model
    from npu_guard.pipeline.verify import verify_models

    exact = [s for s in catalog.substitutions() if s.exactness == EXACT]
    try:
        done = fix_model(path, registry.profile(PROFILE), Config(profile=PROFILE), exact, seeds=(0,))
        word, verified = done.verification.verdict if done.applied else "nothing", ""
        if word == "equal":
            with tempfile.TemporaryDirectory() as folder:
                target = Path(folder) / "fixed.onnx"
                save_document(done.document, target)
                verified = verify_models(path, str(target), {}, seeds=(1,)).verdict
    except NpuGuardError as error:
        return replace(so_far, fix="usage", rolled_back=(str(error).replace(path, so_far.name),))
    except Exception as error:
        return replace(so_far, internal=(*so_far.internal, f"fix: {type(error).__name__}: {error}"), fix="internal")
    back = tuple(f"{r.substitution} at {r.node}: {r.reason}" for r in done.refused if r.reason.startswith("rolled back"))
    crashes = tuple(f"{c.rule} at {c.node}: {c.error}" for c in done.after.crashes)
    return replace(
        so_far, fix=word, verified=verified, applied=len(done.applied), rolled_back=back, left_out=left_out(done.verification),
        internal=tuple(dict.fromkeys((*so_far.internal, *crashes))),
    )  # fmt: skip


def left_out(verification: object) -> str:
    reason: str = getattr(verification, "reason", "")
    return reason if reason.startswith("left out") else ""


def cut(path: str, so_far: Outcomes) -> Outcomes:
    from npu_guard.partitioning.files import write_partition
    from npu_guard.partitioning.partition import partition_model

    device = registry.profile(PROFILE)
    try:
        document, analysis, checked = judged(path, device, Config(profile=PROFILE))
        found = partition_model(analysis, checked, device)
        with tempfile.TemporaryDirectory() as folder:
            verdict = write_partition(document, found, Path(folder) / "pieces").verdict
    except (NpuGuardError, CannotRun):
        return replace(so_far, partition="usage")
    except Exception as error:
        return replace(so_far, internal=(*so_far.internal, f"partition: {type(error).__name__}: {error}"))
    return replace(so_far, partition=verdict)


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


def wrong(outcome: Outcomes) -> bool:
    return "differs" in (outcome.fix, outcome.verified, outcome.partition) or outcome.verified == "not_run"


def row(name: str, found: Sequence[Outcomes]) -> tuple[str, bool]:
    """A line of the table, and whether nothing went wrong."""
    crashes = sum("crashed" in (o.verdict, o.fix) for o in found)
    internal = sum(bool(o.internal) for o in found)
    bad = sum(wrong(o) for o in found)
    findings = sum(sum(o.findings.values()) for o in found)
    undecided = sum(o.undecided for o in found)

    def part(what: str) -> str:
        words = [getattr(o, what) for o in found if getattr(o, what)]
        return f"{words.count('equal')} of {len(words)}"

    cells = [
        name, str(len(found)), str(sum(o.verdict == "unreadable" for o in found)), str(crashes), str(internal),
        str(findings), f"{100 * undecided / max(findings, 1):.1f} %", str(sum(o.applied > 0 for o in found)),
        str(sum(o.applied for o in found)), str(sum(len(o.rolled_back) for o in found if o.fix != "usage")),
        part("verified"), part("partition"), str(bad),
        f"{1000 * statistics.median(o.cpu for o in found):.0f} ms", f"{max(o.seconds for o in found):.0f} s",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |", not (crashes or internal or bad)


HEAD = """# Models that nobody here wrote

Made by `make ecosystem`; run before each release. Refused are models that `check` could not read, most of which ONNX Runtime
does not load either. Crashes, internal errors and wrong results must be 0. A rewrite that is rolled back was caught by
verification and is not in the result; nearly all of these are models that ONNX Runtime itself does not run. *verified* are
files that `fix` wrote and `verify` found equal to the original, on other inputs than `fix` had (one seed of each kind of input
for either). *cut* are networks (from a million MACs on) whose pieces `partition` found equal to the whole, of those that were
tried; what makes its weights at run time wants `run-bytes` for it. Times: the median of CPU time of `check` for one model, and
the longest that all commands took together for one, beside other work on two cores. There is no time limit but those that the
commands have by themselves, and no model met one.

| corpus | models | refused | crashes | internal errors | findings | undecided | models fixed | rewrites | rolled back | verified | cut | wrong | check | longest |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
"""  # noqa: E501


def run(name: str, folder: Path, arguments: argparse.Namespace, known: dict[tuple[str, str], Outcomes]) -> list[Outcomes]:
    """Results for all files of a corpus; those that `known` has are not run again."""
    files = sorted(folder.rglob("*.onnx"))[: arguments.limit]
    results = [known[name, key] for key in (str(f.relative_to(folder)) for f in files) if (name, key) in known]
    have = {r.name for r in results}
    tasks = [str(f) for f in files if str(f.relative_to(folder)) not in have]
    work = functools.partial(one, root=str(folder), fixing=not arguments.no_fix)
    told = time.monotonic()
    for result in run_in_pool(work, tasks, arguments.jobs, lambda path: Outcomes(str(Path(path).relative_to(folder)))):
        results.append(result)
        if arguments.resume:
            with arguments.resume.open("ab") as journal:
                journal.write(msgspec.json.encode((name, result)) + b"\n")
        if time.monotonic() - told > EVERY:
            told = time.monotonic()
            print(f"{name}: {len(results)} of {len(files)}", file=sys.stderr, flush=True)
    return sorted(results, key=lambda r: r.name)


def details(name: str, results: Iterable[Outcomes]) -> None:
    """What somebody has to look at, on standard output."""
    for r in results:
        told = [*r.internal[:FEW], *r.rolled_back[:FEW], *(["crashed"] if "crashed" in (r.verdict, r.fix) else [])]
        more = len(r.internal[FEW:]) + len(r.rolled_back[FEW:])
        told += [f"and {more} more"] if more else []
        told += [r.left_out] if r.left_out else []
        told += [f"wrong: fix {r.fix}, verify {r.verified}, partition {r.partition}"] if wrong(r) else []
        told += [f"partition {r.partition}"] if r.partition not in ("", "equal", "differs") else []
        told += [f"slow: {r.seconds:.0f} s"] if r.seconds > SLOW else []
        for what in told:
            print(f"{name}: {r.name}: {what}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpora", nargs="*", metavar="NAME=FOLDER")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit", type=int, help="only the first models of each corpus")
    parser.add_argument("--no-fix", action="store_true", help="check only")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="keep results here, and go on with those of the same code")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    known: dict[tuple[str, str], Outcomes] = {}
    if arguments.resume and arguments.resume.exists():
        for line in arguments.resume.read_bytes().splitlines():
            name, outcome = msgspec.json.decode(line, type=tuple[str, Outcomes])
            known[name, outcome.name] = outcome
    lines, good, compared = [], True, []
    with tempfile.TemporaryDirectory() as made:
        print(f"{node_tests(Path(made))} node tests of onnx", file=sys.stderr)
        corpora = {"onnx node tests": Path(made), "onnx backend data": wheel_data()}
        corpora |= {name: Path(folder) for name, _, folder in (c.partition("=") for c in arguments.corpora)}
        for name, folder in corpora.items():
            results = run(name, folder, arguments, known)
            line, well = row(name, results)
            print(line, flush=True)
            details(name, results)
            lines.append(line)
            pairs = spellings.pairs({r.name: r.findings for r in results})
            if pairs:
                compared += ["", f"## {name}: two exporters' spellings", "", spellings.table(pairs).rstrip()]
            good &= well and all(pair.reason for pair in pairs if pair.difference)
    text = "\n".join((*lines, *compared)) + "\n"
    print("\n".join(compared))
    if arguments.output:
        arguments.output.write_text(HEAD + text, encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
