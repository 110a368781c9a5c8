"""`check --since REV`: what models had at a revision of git is known, so that only what came since counts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from npu_guard.base import clock
from npu_guard.base.address import is_url
from npu_guard.base.text import printable
from npu_guard.gate import baseline
from npu_guard.pipeline.check import check_models
from npu_guard.pipeline.simplify import as_judged
from npu_guard.project import revision
from npu_guard.project.config import Config
from npu_guard.results.findings import Report
from npu_guard.results.summary import verdict


def without_known(report: Report, name: str, config: Config, files: Mapping[str, str]) -> tuple[Report, list[str]]:
    """The report with findings suppressed that the models have at the revision too, and lines for people.

    `files` are those that were read; a model that is no file of the working tree, or that the revision does not have or
    nobody could read there, counts whole. Raises UsageError outside a repository and for an unknown revision.
    """
    commit = revision.commit_of(name)
    lines, older = [], []
    renamed: dict[str, str] | None = None
    with tempfile.TemporaryDirectory(prefix="npu-guard-", ignore_cleanup_errors=True) as folder:
        for number, model in enumerate(report.models):
            if model.error is not None or is_url(model.path) or files.get(model.path) != model.path:
                continue
            path = revision.below_root(model.path)
            if not revision.has_file(commit, path):
                renamed = revision.renamed_since(commit) if renamed is None else renamed
                if path not in renamed:
                    lines.append(f"{printable(model.path)}: is new since {name}, so all of it counts")
                    continue
                path = renamed[path]
                lines.append(f"{printable(model.path)}: was {printable(path)} at {name}")
            own = Path(folder, str(number))
            own.mkdir()
            file = revision.write(revision.Revision(name, path), own)
            with as_judged({os.fspath(file): os.fspath(file)}, replace(config, cache=None), compare=False) as prepared:
                found = check_models([os.fspath(file)], prepared.config, files=prepared.files)
                (before,) = prepared.told(found).models
            if before.error is not None or before.crashes:
                lines.append(f"{printable(model.path)}: could not be checked as it is at {name}, so all of it counts")
            else:
                older.append(replace(before, path=model.path))
    known = baseline.make_baseline(replace(report, models=tuple(older)), report.models[0].profile if report.models else "")
    judged = baseline.apply_baseline(report, known, lambda f: verdict(f, report.fail_on), clock.today(), known=f"known at {name}")
    if judged.fixed:
        lines.append(f"fixed since {name}: {len(judged.fixed)}")
    return judged.report, lines
