"""The process that exports Python code of a revision of git. Its current folder and its path are those of the revision."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from npu_guard.base.errors import NpuGuardError, UsageError
from npu_guard.project.example import Input
from npu_guard.project.target import export_loaded, load_target


def main(task: str, told: str) -> None:
    """Do what the file `task` says, and write to `told` the kind of error and the sentence, both empty where all went well."""
    order = json.loads(Path(task).read_text())
    inputs = [Input(i["name"], tuple(i["shape"]), i["dtype"]) for i in order["inputs"]]
    kind, said = "", ""
    before = set(sys.modules)
    try:
        loaded = load_target(order["target"], inputs, option="--input-shape")
        _expect_all_old(set(sys.modules) - before, Path(order["top"]), Path(order["root"]))
        export_loaded(order["target"], loaded, Path(order["path"]), root=Path(order["root"]))
    except NpuGuardError as error:
        kind, said = error.kind, str(error)
    Path(told).write_text(json.dumps([kind, said]))


def _expect_all_old(names: Iterable[str], top: Path, root: Path) -> None:
    """Raise UsageError where a module came from the working tree: what is exported would be no network of the revision."""
    top, root, ours = top.resolve(), root.resolve(), Path(__file__).resolve().parents[1]
    installed = (Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), ours)
    for name in sorted(names):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is None:
            continue
        path = Path(file).resolve()
        if path.is_relative_to(top) and not path.is_relative_to(root) and not any(map(path.is_relative_to, installed)):
            why = "is imported from the working tree, not from the revision; export the one of then to a file and name that"
            raise UsageError(f"{name} {why}")
