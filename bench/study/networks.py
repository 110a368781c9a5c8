"""The sample networks through the compilers that read ONNX: whole graphs, where operators are merged and laid out together."""

from __future__ import annotations

import collections
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import recorded

from npu_guard.checking import registry
from npu_guard.compilers.adapter import ask
from npu_guard.compilers.compare import Comparison, compare_answers
from npu_guard.compilers.settings import CompilerSettings
from npu_guard.pipeline.check import check_model
from npu_guard.project.config import Config
from npu_guard.results.findings import Verdict
from npu_guard.zoo import samples

FILE = recorded.FOLDER / "networks.json"
PROFILES = ("rockchip-rk3588", "qualcomm-htp")


def study(pythons: Mapping[str, str], *, again: bool) -> None:
    """Export each network small and ask the compilers that are there about it, if it was not asked yet. Needs torch."""
    known = read()
    found = {profile: dict(known.get(profile, {})) for profile in PROFILES}
    with tempfile.TemporaryDirectory(prefix="npu-guard-study-") as folder:
        for entry in samples.entries():
            here = [profile for profile in PROFILES if recorded.TARGETS[profile] in pythons]
            asked = [profile for profile in here if again or entry.name not in found[profile]]
            told = [profile for profile in PROFILES if "rules" not in found[profile].get(entry.name, {"rules": ""})]
            path = Path(folder) / f"{entry.name}.onnx"
            if asked or told:
                samples.export_system(entry.name, path, "tiny", "legacy")  # its opset of 17 is one that all compilers read
            for profile in set(told) - set(asked):
                found[profile][entry.name]["rules"] = check_model(str(path), registry.profile(profile), Config()).verdict.value
            for profile in asked:
                report = check_model(str(path), registry.profile(profile), Config(), layers=True)
                name = recorded.TARGETS[profile]
                comparison = compare_answers(report, ask(name, CompilerSettings(python=pythons[name]), str(path), profile))
                found[profile][entry.name] = summary(comparison, report.verdict)
                print(f"{profile}: {entry.name}: {comparison.answer.status} {dict(comparison.counts())}", flush=True)
                FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def summary(comparison: Comparison, verdict: Verdict) -> dict[str, Any]:
    """What both say of the whole, counts, and the operators on which the two differ."""
    differing = collections.Counter(
        (row.outcome, row.location.op_type, row.message)
        for row in comparison.rows
        if row.outcome in ("missed", "false-alarm", "undecided")
    )
    return {
        "rules": verdict.value,
        "status": comparison.answer.status,
        "message": comparison.answer.message[:200],
        "counts": dict(comparison.counts()),
        "differing": [[outcome, op, message[:120], count] for (outcome, op, message), count in differing.items()],
    }


def read() -> Mapping[str, Mapping[str, Any]]:
    """What was recorded, by profile and network."""
    found: Mapping[str, Mapping[str, Any]] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    return found
