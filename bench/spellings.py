"""Findings of one network in two exporters' spellings: `python bench/spellings.py FOLDER`.

The folder holds pairs `NAME.dynamo.onnx` and `NAME.ts.onnx` (torch's older exporter). Prints what is not the same, and
every model with an error, a crash of a rule or an unknown shape.
"""

from __future__ import annotations

import collections
import sys
from pathlib import Path

from npu_guard import pipeline, registry
from npu_guard.config import Config
from npu_guard.results import ModelReport

Count = collections.Counter[tuple[str, str, str, str]]


def counted(report: ModelReport) -> Count:
    return collections.Counter(
        (f.rule, f.severity.value, f.outcome.value, str(f.evidence and f.evidence.measured)) for f in report.findings
    )


def words(found: Count) -> str:
    return ", ".join(f"{n} {rule} {severity}" for (rule, severity, _, _), n in sorted(found.items())) or "nothing"


def main(folder: Path) -> None:
    profile = registry.profile("aimotive-aiware")
    reports = {p.name[: -len(".onnx")]: pipeline.check_model(str(p), profile, Config()) for p in sorted(folder.glob("*.onnx"))}
    for name, report in reports.items():
        if report.error or report.crashes or report.unknown:
            print(f"{name}: error {report.error}, crashes {len(report.crashes)}, unknown shapes {len(report.unknown)}")
    names = sorted({name.rpartition(".")[0] for name in reports})
    pairs = [n for n in names if f"{n}.dynamo" in reports and f"{n}.ts" in reports]
    same = 0
    for name in pairs:
        dynamo, legacy = (counted(reports[f"{name}.{spelling}"]) for spelling in ("dynamo", "ts"))
        if dynamo == legacy:
            same += 1
        else:
            print(f"{name}: only dynamo has {words(dynamo - legacy)}; only the older exporter has {words(legacy - dynamo)}")
    print(f"{len(reports)} models, {len(pairs)} pairs, {same} with the same findings")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
