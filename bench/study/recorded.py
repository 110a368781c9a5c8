"""Answers of the compilers, checked in: what was asked, and what came back. And the reasons for what the two disagree on."""

from __future__ import annotations

import fnmatch
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from single import Case

FOLDER = Path(__file__).parent / "recorded"
REASONS = Path(__file__).parent / "reasons.toml"
TARGETS = {
    "rockchip-rk3588": "rknn",
    "qualcomm-htp": "qnn",
    "ethos-u55": "vela",
    "ethos-u55-legacy": "vela",
    "ethos-u85": "vela",
}
"""Profiles with the compiler that decides about them."""


@dataclass(frozen=True)
class Answered:
    """A case with the compiler's word on its operator: see npu_guard/compilers/answers.py."""

    case: Case
    word: str
    message: str


@dataclass(frozen=True)
class Reason:
    """Why a disagreement stays. `cases` and `profile` are globs."""

    profile: str
    cases: tuple[str, ...]
    reason: str


def read(profile: str) -> Mapping[str, Answered]:
    """By key, in the order of the study. Empty where nothing was recorded."""
    path = FOLDER / f"{profile}.json"
    entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return {
        e["key"]: Answered(Case(e["key"], e["family"], e["text"], e.get("opset", 17)), e["word"], e.get("message", ""))
        for e in entries
    }


def write(profile: str, answers: Iterable[Answered]) -> None:
    """One case in a line, so that a diff shows cases."""
    lines = []
    for a in answers:
        entry: dict[str, Any] = {"key": a.case.key, "family": a.case.family, "text": a.case.text}
        if a.case.opset != 17:
            entry["opset"] = a.case.opset
        entry["word"] = a.word
        if a.message:
            entry["message"] = a.message
        lines.append(json.dumps(entry, ensure_ascii=True))
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{profile}.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def reasons() -> tuple[Reason, ...]:
    """In the order of the file; the first that fits a case counts."""
    entries = tomllib.loads(REASONS.read_text(encoding="utf-8")).get("reason", [])
    return tuple(Reason(e["profile"], tuple(e["cases"]), e["reason"]) for e in entries)


def reason_for(profile: str, key: str, known: Iterable[Reason]) -> str:
    """The reason for a disagreement, empty where nobody gave one."""
    for entry in known:
        if fnmatch.fnmatchcase(profile, entry.profile) and any(fnmatch.fnmatchcase(key, glob) for glob in entry.cases):
            return entry.reason
    return ""
