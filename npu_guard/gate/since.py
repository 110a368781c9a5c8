"""`check --since REV`: what models had at a revision of git is known, so that only what came since counts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from npu_guard.base import clock
from npu_guard.base.address import is_url
from npu_guard.base.errors import NpuGuardError
from npu_guard.base.text import printable
from npu_guard.gate import baseline
from npu_guard.pipeline.check import check_models
from npu_guard.pipeline.simplify import as_judged
from npu_guard.project import revision
from npu_guard.project.config import Config
from npu_guard.project.old_code import export_at_revision
from npu_guard.project.revision import Revision
from npu_guard.project.target import example_inputs, is_target
from npu_guard.results.findings import ModelReport, Report
from npu_guard.results.summary import verdict


def without_known(report: Report, name: str, config: Config, files: Mapping[str, str]) -> tuple[Report, list[str]]:
    """The report with findings suppressed that the models have at the revision too, and lines for people.

    `files` are those that were read; Python code is exported as it was. A model that is neither code nor a file of the working
    tree, or that the revision does not have or nobody could read there, counts whole, and that is said. Raises UsageError
    outside a repository and for an unknown revision.
    """
    commit = revision.commit_of(name)
    name = printable(name)
    lines, older, whole = [], [], dict[str, str]()
    renamed: dict[str, str] | None = None
    with tempfile.TemporaryDirectory(prefix="npu-guard-", ignore_cleanup_errors=True) as folder:
        for number, model in enumerate(report.models):
            if model.error is not None:
                continue
            own = Path(folder, str(number))
            own.mkdir()
            code = is_target(model.path)
            if not code and (is_url(model.path) or files.get(model.path) != model.path):
                other = f"'npu-guard diff {name}:FILE {printable(model.path)}' compares it with a file of then"
                whole[model.path] = f"is no file of the working tree, so all of it counts; {other}"
                continue
            if code:
                try:
                    file = export_at_revision(Revision(commit, model.path), own, example_inputs(config.input_shapes))
                except NpuGuardError as error:
                    said = printable(str(error).replace(f"{commit}:{model.path}: ", ""), 400)
                    whole[model.path] = f"could not be exported as it is at {name}, so all of it counts ({said})"
                    continue
            else:
                path = revision.below_root(model.path)
                if not revision.has_file(commit, path):
                    renamed = revision.renamed_since(commit) if renamed is None else renamed
                    if path not in renamed:
                        whole[model.path] = f"is new since {name}, so all of it counts"
                        continue
                    path = renamed[path]
                    lines.append(f"{printable(model.path)}: was {printable(path)} at {name}")
                file = revision.write(Revision(commit, path), own)
            with as_judged({os.fspath(file): os.fspath(file)}, replace(config, cache=None), compare=False) as prepared:
                found = check_models([os.fspath(file)], prepared.config, files=prepared.files)
                (before,) = prepared.told(found).models
            if before.error is not None or before.crashes:
                whole[model.path] = f"could not be checked as it is at {name}, so all of it counts"
            else:
                older.append(replace(before, path=model.path))
    known = baseline.make_baseline(replace(report, models=tuple(older)), report.models[0].profile if report.models else "")
    judged = baseline.apply_baseline(report, known, lambda f: verdict(f, report.fail_on), clock.today(), known=f"known at {name}")
    lines += [f"{printable(path)}: {why}" for path, why in whole.items()]
    lines += baseline.fixed_lines(judged, name)
    models = (_told(m, name, whole) if m.error is None else m for m in judged.report.models)
    return replace(judged.report, models=tuple(models)), lines


def _told(model: ModelReport, name: str, whole: Mapping[str, str]) -> ModelReport:
    """With the revision among its notes, so that each format says what the verdict is about."""
    note = whole.get(model.path)
    return replace(model, notes=(*model.notes, note or f"only what came since {name} counts"))
