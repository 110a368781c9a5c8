"""Python code as it is at a revision of git, exported: by a process of its own, among the files of that revision alone.

The modules of the working tree may be imported here already, and one process has one module of a name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from npu_guard.base.errors import ModelError, UsageError
from npu_guard.base.text import printable
from npu_guard.project import revision
from npu_guard.project.example import Input
from npu_guard.project.revision import Revision

# The folder that Python begins its path with is that of the revision, which may have an npu_guard of its own.
_START = "import sys; sys.path[:] = sys.argv[3:]; from npu_guard.project.old_code_process import main; main(*sys.argv[1:3])"


def export_at_revision(code: Revision, folder: Path, inputs: Sequence[Input]) -> Path:
    """Write the files of a revision to an empty folder, and export `code.path`, such as `package.module:callable`, among them.

    Returns the file. Raises ModelError where the revision has nothing of that name, and UsageError for whatever else goes wrong.
    """
    commit = revision.commit_of(code.name)
    root, here = revision.check_out(commit, folder)
    top = revision.top_folder()
    task, told, path = folder / "task.json", folder / "told.json", folder / "net.onnx"
    order = {"target": code.path, "inputs": [asdict(i) for i in inputs], "root": str(root), "top": str(top), "path": str(path)}
    task.write_text(json.dumps(order))
    command = [sys.executable, "-c", _START, str(task), str(told), *(_there(entry, top, root) for entry in sys.path if entry)]
    done = subprocess.run(command, cwd=here, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    shown = printable(f"{code.name}:{code.path}", 1000)
    if not os.path.exists(told):
        raise UsageError(f"{shown}: the process that exported it ended with {done.returncode}")
    kind, said = json.loads(told.read_text())
    said = said.replace(f"{root}{os.sep}", "").removeprefix(f"{code.path}: ")
    if kind == "missing":
        raise ModelError("missing", f"{shown}: {said}")
    if kind:
        raise UsageError(f"{shown}: {said}")
    return path


def _there(entry: str, top: Path, root: Path) -> str:
    """A folder of the path of Python, in the revision's files where they have it: `src` of an editable installation."""
    path, at = Path(os.path.realpath(entry)), Path(os.path.realpath(top))
    if path.is_relative_to(at) and os.path.isdir(there := root / path.relative_to(at)):
        return str(there)
    return entry
