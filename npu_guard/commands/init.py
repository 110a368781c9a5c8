"""`npu-guard init`: settings and CI files for a project."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import click

from npu_guard.base.terminal import complain, show_text
from npu_guard.base.text import printable
from npu_guard.checking import registry
from npu_guard.project.config import DEFAULT_PROFILE
from npu_guard.project.init import EVERY_MODEL, State, expect_pattern, snippet, write_files


@click.command("init", short_help="Write settings, a pre-commit hook and CI files.")
@click.option("--profile", metavar="NAME", default=DEFAULT_PROFILE, show_default=True,
              help="Device: a name from 'npu-guard profiles' or the path of a TOML file.")  # fmt: skip
@click.option("--model", "pattern", metavar="GLOB", default=EVERY_MODEL, show_default=True,
              help="Which models CI checks, relative to this folder.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace files that exist, except .pre-commit-config.yaml.")
def command(profile: str, pattern: str, force: bool) -> int:
    """Write settings, a pre-commit hook, a GitHub workflow and a GitLab job into the current folder.

    \b
    npu-guard.toml                   device, and how to accept a finding with a reason
    .pre-commit-config.yaml          checks the models of a commit
    .github/workflows/npu-guard.yml  annotations, code scanning, a comment on the pull request
    .gitlab-ci.npu-guard.yml         code quality and tests of a merge request

    A file that exists is left as it is, unless --force is given. To a .pre-commit-config.yaml of yours the entry is only
    printed. Settings in pyproject.toml stay where they are.

    Exit code 2 where a file cannot be written, or where every file exists and says something else; otherwise 0.
    """
    expect_pattern(pattern)
    registry.profile(profile)
    items = write_files(Path.cwd(), profile, pattern, force=force)
    for item in items:
        if item.state in (State.KEPT, State.FAILED):
            complain(item.said)
        else:
            show_text(f"{item.said}\n")
        if item.state is State.KEPT and item.name == ".pre-commit-config.yaml":
            show_text(f"\n{snippet()}\n")
    states = {item.state for item in items}
    if State.FAILED in states:
        return 2
    if states == {State.KEPT}:
        complain("nothing was written; --force replaces the files that exist")
        return 2
    show_text(_next(pattern))
    return 0


def _next(pattern: str) -> str:
    """What to do with the files."""
    found = sorted(name for name in glob.glob(pattern, recursive=True) if os.path.isfile(name))
    model = printable(found[0], 200) if found else "MODEL"
    lines = ["", "What to do next"]
    if not found:
        lines.append(f"  No file matches {printable(pattern)} yet: commit a model or export one in CI, else the check fails.")
    lines += [
        f"  npu-guard check '{model}'" if model.isprintable() and "'" not in model else "  npu-guard check MODEL",
        "  Findings that are there already: add '--write-baseline npu-guard-baseline.json' and commit that file.",
        "  pre-commit install   once in each checkout; 'pre-commit autoupdate' brings the newest version",
        "  GitHub: commit the workflow. GitLab: add it to .gitlab-ci.yml, as the first lines of the job's file say.",
        "  Delete what you do not use.",
    ]
    return "\n".join(lines) + "\n"
