"""Models as git knows them: `main:models/net.onnx` names a file of a revision, which git itself writes to a folder.

`git cat-file --filters` gives the content as a checkout would have it, so Git LFS works where git is set up for it.
"""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from npu_guard.base.address import is_url
from npu_guard.base.errors import ModelError, UsageError
from npu_guard.base.text import printable

_LFS = b"version https://git-lfs.github.com/spec/"
_SHALLOW = "; this clone is shallow: 'git fetch --unshallow' gets what is missing (fetch-depth: 0 in a workflow)"
_MOST_SEARCHED = 256 << 20
"""Bytes of a model in which names of files beside it are looked for; a larger one holds its weights itself."""


class Revision(NamedTuple):
    """A file, or a folder, of a revision."""

    name: str
    """The revision as the user wrote it."""
    path: str
    """Below the repository's root, with forward slashes; relative to the current folder where it begins with `./` or `../`."""


def parse(text: str) -> Revision | None:
    """`REV:path` where the path has a slash or ends in .onnx; None for a file that exists, a URL, and all else."""
    name, colon, path = text.partition(":")
    if not colon or not name or not path or is_url(text) or os.path.lexists(text):
        return None
    return Revision(name, path) if "/" in path or re.search(r"\.onnx$", path, re.IGNORECASE) else None


def commit_of(name: str) -> str:
    """The hash of the commit that a revision names. Raises UsageError where there is no repository or no such revision."""
    _git("rev-parse", "--git-dir", fails="is not inside a git repository")
    shallow = _git("rev-parse", "--is-shallow-repository", fails="is not inside a git repository").strip() == b"true"
    more = (
        "; this clone is shallow: 'git fetch --unshallow' gets what is missing (fetch-depth: 0 in a workflow)" if shallow else ""
    )
    told = _git(
        "rev-parse",
        "--verify",
        "--quiet",
        "--end-of-options",
        f"{name}^{{commit}}",
        fails=f"git knows no revision {name!r}{more}",
    )
    return told.decode().strip()


def renamed_since(commit: str) -> dict[str, str]:
    """Models of the working tree that git takes for others of a commit under a new name: from new to old path below the root."""
    pairs = ["-M", "--name-status", "-z", "--diff-filter=R", "--no-ext-diff"]
    told = _git("diff", *pairs, commit, "--", ":(top,icase)*.onnx", fails="git cannot compare with the revision")
    parts = [os.fsdecode(part) for part in told.split(b"\0") if part]
    return dict(zip(parts[2::3], parts[1::3], strict=True))


def below_root(path: str) -> str:
    """A path of the working tree as git names it, with forward slashes. Raises UsageError outside the repository."""
    top = top_folder()
    try:
        return Path(os.path.realpath(path)).relative_to(os.path.realpath(top)).as_posix()
    except ValueError:
        raise UsageError(f"{path}: lies outside the git repository {top.name!r}") from None


def files_of(revision: Revision, suffix: str) -> list[str] | None:
    """Files below a folder of a revision whose names end so, sorted, relative to it; None where the path is no folder.

    Raises ModelError where it ends in a slash, as names of folders alone do, and there is none.
    """
    commit, path = commit_of(revision.name), rooted(revision.path)
    if _kind(commit, path) != "tree":
        if revision.path.endswith("/"):
            raise ModelError("missing", _missing(revision, commit, path))
        return None
    told = _git(
        "ls-tree", "--full-tree", "-r", "-z", "--name-only", f"{commit}:{path}", fails=f"git cannot list {revision.path!r}"
    )
    names = (os.fsdecode(name) for name in told.split(b"\0") if name)
    return sorted(name for name in names if name.lower().endswith(suffix))


def has_file(commit: str, path: str) -> bool:
    """Whether a commit has a file of this path."""
    return _kind(commit, path) == "blob"


def write(revision: Revision, folder: Path) -> Path:
    """Write a model of a revision, and the files beside it that it names, to a folder.

    Raises ModelError where the revision has no such file, and UsageError for what else is wrong.
    """
    commit, path = commit_of(revision.name), rooted(revision.path)
    shown = f"{revision.name}:{revision.path}"
    if (kind := _kind(commit, path)) != "blob":
        is_folder = f"{shown}: is a folder; name a model in it, or compare it with 'npu-guard diff {shown.rstrip('/')}/ FOLDER'"
        raise UsageError(is_folder) if kind == "tree" else ModelError("missing", _missing(revision, commit, path))
    model = folder / PurePosixPath(path).name
    _blob(commit, path, model, shown)
    _beside(commit, path, model, shown)
    return model


def check_out(commit: str, folder: Path) -> tuple[Path, Path]:
    """Write all files of a commit below an empty folder: its root, and where the current folder is in it.

    Neither the working tree nor the index changes. Raises UsageError, also where
    the commit has no such folder as the current one.
    """
    fails = "is not inside a git repository"
    top, prefix = (
        os.fsdecode(_git("rev-parse", f"--show-{part}", fails=fails)).rstrip("\n").rstrip("/") for part in ("toplevel", "prefix")
    )
    if prefix and _kind(commit, prefix) != "tree":
        raise UsageError(f"{prefix}/: the revision has no such folder, from which its code would be run")
    root, environment = folder / "tree", os.environ | {"GIT_INDEX_FILE": os.fspath(folder / "index")}
    root.mkdir()
    fails = "git cannot write the files of the revision"
    _git("read-tree", commit, fails=fails, environment=environment, folder=top)
    _git("checkout-index", "--all", f"--prefix={root}/", fails=fails, environment=environment, folder=top)
    return root, root / prefix


def top_folder() -> Path:
    """The root of the working tree. Raises UsageError outside a repository."""
    return Path(os.fsdecode(_git("rev-parse", "--show-toplevel", fails="is not inside a git repository")).rstrip("\n"))


def _missing(revision: Revision, commit: str, path: str) -> str:
    """That a revision has no such file or folder, and which one may have been meant."""
    import difflib  # for those who mistype

    told = _git("ls-tree", "--full-tree", "-r", "-z", "--name-only", commit, fails=f"git cannot list {revision.name}")
    names = {os.fsdecode(name) for name in told.split(b"\0") if name}
    folder = revision.path.endswith("/")
    if folder:
        names = {parent for name in names for parent in map(str, PurePosixPath(name).parents) if parent != "."}
    close = difflib.get_close_matches(path, sorted(names), 1, 0.7)
    end = "/" if folder else ""
    hint = f"; did you mean '{revision.name}:{close[0]}{end}'?" if close else ""
    return f"{revision.name}:{revision.path}: there is no such {'folder' if folder else 'file'} in that revision{hint}"


def _beside(commit: str, path: str, model: Path, shown: str) -> None:
    """Write the files of weights that stand beside a model in a revision: those whose names it holds."""
    if model.stat().st_size > _MOST_SEARCHED:
        return
    content = model.read_bytes()
    inside = posixpath.dirname(path)
    told = _git(
        "ls-tree", "--full-tree", "-r", "-z", "--name-only", f"{commit}:{inside}", fails=f"git cannot list what is beside {shown}"
    )
    for name in filter(None, told.split(b"\0")):
        if name in content and os.fsdecode(name) != model.name:
            target = model.parent / os.fsdecode(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            _blob(commit, posixpath.join(inside, os.fsdecode(name)), target, shown)


def _blob(commit: str, path: str, target: Path, shown: str) -> None:
    with target.open("wb") as file:
        _git("cat-file", "--filters", f"{commit}:{path}", fails=f"{shown}: git cannot read it", output=file)
    with target.open("rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise UsageError(
                f"{shown}: is a Git LFS pointer; install git-lfs and run 'git lfs install', so that git reads the file"
            )


def rooted(path: str) -> str:
    """A path as git counts it, from the repository's root; `./` and `../` are taken from the current folder, as git does."""
    if path.startswith(("./", "../")):
        prefix = _git("rev-parse", "--show-prefix", fails="is not inside a git repository").decode().rstrip("\n")
        path = posixpath.normpath(posixpath.join(prefix, path))
    return path.strip("/")


def _kind(commit: str, path: str) -> str:
    """`blob`, `tree` or "" where the commit has no such path."""
    done = subprocess.run(["git", "cat-file", "-t", f"{commit}:{path}"], capture_output=True, check=False)
    return done.stdout.decode().strip() if done.returncode == 0 else ""


def _git(
    *arguments: str, fails: str, output: IO[bytes] | None = None, environment: Mapping[str, str] | None = None, folder: str = "."
) -> bytes:
    """What git says, run in `folder`. Raises UsageError with `fails` and git's own reason."""
    try:
        done = subprocess.run(
            ["git", *arguments], stdin=subprocess.DEVNULL, stdout=output or subprocess.PIPE, stderr=subprocess.PIPE, check=False,
            env=environment, cwd=folder,
        )  # fmt: skip
    except FileNotFoundError:
        raise UsageError("git is not installed, and a revision was named") from None
    except ValueError:  # a name with a NUL
        raise UsageError(printable(fails, 1000)) from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        where = f"{Path.cwd()}: " if fails.startswith("is not") else ""
        raise UsageError(f"{where}{printable(fails, 1000)}{f' ({printable(said[-1])})' if said and not where else ''}")
    return done.stdout or b""
