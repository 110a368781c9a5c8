"""What `npu-guard init` writes: settings and CI files, from `templates/`. Nothing that exists is replaced unasked."""

from __future__ import annotations

import enum
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from npu_guard.base.errors import UsageError
from npu_guard.base.files import write_atomic
from npu_guard.base.installation import VERSION
from npu_guard.base.regex import regex
from npu_guard.project.config import find_config

TEMPLATES = Path(__file__).parent / "templates"
HOOK = "npu-guard-check"
EVERY_MODEL = "**/*.onnx"
_NOT_IN_A_PATTERN = regex(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff$\\]")
_BESIDE = ("**/*.toml", "**/*.data", "**/*.bin", "**/*.weights", "npu-guard-baseline.json", ".gitlab-ci.npu-guard.yml")
"""What a check reads besides models."""
_LFS = regex(r"^[^#\n]*\bfilter=lfs\b", re.MULTILINE)


class State(enum.Enum):
    """What became of a file."""

    WRITTEN = "wrote"
    REPLACED = "replaced"
    SAME = "is there already"
    KEPT = "left as it is"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Item:
    """One file of the scaffold and what became of it."""

    name: str
    state: State
    said: str
    """One sentence for people."""


def expect_pattern(pattern: str) -> None:
    """Raise UsageError where a pattern could mean something else to a CI system, or files outside the project."""
    if not pattern.strip() or _NOT_IN_A_PATTERN.search(pattern):
        raise UsageError(f"--model {pattern!r}: write a pattern such as {EVERY_MODEL}, with forward slashes and without $")
    if pattern != pattern.strip() or pattern.startswith(("/", "~")) or ".." in pattern.split("/"):
        raise UsageError(f"--model {pattern!r}: the pattern must be relative to this folder")


def write_files(folder: Path, profile: str, pattern: str, *, force: bool = False) -> list[Item]:
    """Write the files into a folder. What cannot be written is an item too, and the others are still tried."""
    values = {
        "@PROFILE@": json.dumps(profile, ensure_ascii=False),
        "@MODELS@": _quoted(pattern),
        "@CHANGES@": ", ".join(map(_quoted, (pattern, *(("**/*.py",) if ":" in pattern else ()), *_BESIDE))),
        "@VERSION@": VERSION,
        "@LFS@": "true" if _uses_lfs(folder) else "false",
    }
    return list(_write(folder, lambda template: _fill(template, values), force))


def snippet() -> str:
    """The entry for a `.pre-commit-config.yaml` that exists, to be put below its `repos:`."""
    return _fill("pre-commit-config.yaml", {"@VERSION@": VERSION}).partition("\n")[2]


def _write(folder: Path, text: Callable[[str], str], force: bool) -> Iterator[Item]:
    name = "npu-guard.toml"
    if _has_own_settings(folder):
        said = f"pyproject.toml has [tool.npu-guard], which {name} would hide; nothing was written"
        yield Item(name, State.KEPT, said)
    else:
        yield _one(folder, name, text(name), force)
    hooks = ".pre-commit-config.yaml"
    yield _hooks(folder, hooks) or _one(folder, hooks, text("pre-commit-config.yaml"), force)
    yield _one(folder, ".github/workflows/npu-guard.yml", text("github.yml"), force)
    yield _one(folder, ".gitlab-ci.npu-guard.yml", text("gitlab.yml"), force)


def _one(folder: Path, name: str, content: str, force: bool) -> Item:
    path, raw = folder / name, content.encode("utf-8")
    there = os.path.lexists(path)
    try:
        if there and os.path.isfile(path) and path.read_bytes() == raw:
            return Item(name, State.SAME, f"{name} is there already and says the same")
        if there and not force:
            return Item(name, State.KEPT, f"{name} exists and was left as it is; --force replaces it")
        path.parent.mkdir(parents=True, exist_ok=True)
        if there and not os.path.isfile(path):
            raise UsageError(f"{name}: exists and is no file; remove it first")
        write_atomic(path, [raw])
    except UsageError as error:
        return Item(name, State.FAILED, str(error).replace(f"{folder}{os.sep}", ""))
    except OSError as error:
        return Item(name, State.FAILED, f"{name}: cannot be written ({error.strerror or error})")
    return Item(name, State.REPLACED, f"replaced {name}") if there else Item(name, State.WRITTEN, f"wrote {name}")


def _hooks(folder: Path, name: str) -> Item | None:
    """What is said where there are hooks already: others' too, so that not even --force replaces the file."""
    path = folder / name
    if not os.path.lexists(path):
        return None
    try:
        known = HOOK in path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return Item(name, State.FAILED, f"{name}: cannot be read ({error.strerror or error})")
    if known:
        return Item(name, State.SAME, f"{name} has the hook already")
    return Item(name, State.KEPT, f"{name} exists and was left as it is; add this below its 'repos:'")


def _has_own_settings(folder: Path) -> bool:
    """Whether pyproject.toml holds the settings; one that cannot be read is no reason to write others beside it."""
    return not os.path.lexists(folder / "npu-guard.toml") and find_config(folder) == folder / "pyproject.toml"


def _quoted(text: str) -> str:
    """A text in YAML."""
    return "'" + text.replace("'", "''") + "'"


def _uses_lfs(folder: Path) -> bool:
    try:
        return _LFS.search((folder / ".gitattributes").read_text(encoding="utf-8", errors="replace")) is not None
    except OSError:
        return False


def _fill(template: str, values: dict[str, str]) -> str:
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    return re.sub("|".join(map(re.escape, values)), lambda match: values[match.group()], text)
