"""Python code of a revision of git: `REV:package.module:callable`, and `check --since` of code, in a real repository."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from npu_guard.project.target import is_target, of_revision

Program = Callable[..., Any]
NET = """
import torch
from old_seg.blocks import kernel

def net():
    return torch.nn.Sequential(torch.nn.Conv2d(8, 8, 19, padding=9), torch.nn.Conv2d(8, 8, kernel(), padding=kernel() // 2))

def inputs():
    return (torch.zeros(1, 8, 32, 32),)
"""


def git(folder: Path, *arguments: str) -> None:
    own = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *own, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository whose network has a second convolution of 3 taps; in the working tree it has 21, by another module."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    package = tmp_path / "train" / "old_seg"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "net.py").write_text(NET)
    (package / "blocks.py").write_text("def kernel():\n    return 3\n")
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "three taps")
    (package / "blocks.py").write_text("def kernel():\n    return 21\n")
    yield tmp_path / "train"
    for name in [n for n in sys.modules if n.partition(".")[0] == "old_seg"]:
        del sys.modules[name]


def test_code_of_then_is_compared_with_code_of_now(repository: Path, program: Program) -> None:
    """Of the two kernels that are too long, the change made one; what git knows of the working tree stays as it is."""
    before = subprocess.run(["git", "status", "--porcelain"], cwd=repository, check=True, capture_output=True).stdout
    done = program(repository, "diff", "main:old_seg/net.py:net", "old_seg.net:net", "--format", "json")
    assert done.code == 1, done.err
    document = json.loads(done.out)
    assert {k: document["summary"][k] for k in ("new", "fixed", "unchanged")} == {"new": 1, "fixed": 0, "unchanged": 1}
    assert document["new"][0]["evidence"]["measured"] == 21
    done = program(repository, "check", "old_seg.net:net", "--since", "HEAD", "--format", "json")
    assert [f["suppressed"] for f in json.loads(done.out)["models"][0]["findings"]] == [True, False]
    after = subprocess.run(["git", "status", "--porcelain"], cwd=repository, check=True, capture_output=True).stdout
    assert after.replace(b"?? train/old_seg/__pycache__/\n", b"") == before


def test_code_that_the_revision_does_not_have(repository: Path, program: Program) -> None:
    for name, code, said in (
        ("HEAD:old_seg.nte:net", 3, "HEAD:old_seg.nte:net: there is no module 'old_seg.nte'; did you mean 'old_seg.net'?"),
        ("HEAD:old_seg/nte.py:net", 3, "HEAD:old_seg/nte.py:net: there is no file old_seg/nte.py"),
        ("nix:old_seg.net:net", 2, "git knows no revision 'nix'"),
    ):
        done = program(repository, "check", name)
        assert (done.code, said in done.err) == (code, True), done.err
    (repository / "old_seg" / "fresh.py").write_text(NET)
    done = program(repository, "check", "old_seg.fresh:net", "--since", "HEAD")
    said = "could not be exported as it is at HEAD, so all of it counts (there is no module 'old_seg.fresh'"
    assert (done.code, said in " ".join(done.out.split())) == (1, True), done.out


def test_a_module_of_the_working_tree_is_not_taken_for_one_of_then(
    repository: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with an editable installation, whose folder is on the path of Python; where the revision has that folder, it counts."""
    (repository / "src" / "old_seg_inner").mkdir(parents=True)
    (repository / "src" / "old_seg_inner" / "__init__.py").write_text(NET)
    monkeypatch.syspath_prepend(str(repository / "src"))
    done = program(repository, "check", "HEAD:old_seg_inner:net")
    assert (done.code, "old_seg_inner is imported from the working tree, not from the revision" in done.err) == (2, True), (
        done.err
    )
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "src, and 21 taps")
    (repository / "src" / "old_seg_inner" / "__init__.py").write_text("broken(")
    done = program(repository, "check", "HEAD:old_seg_inner:net", "--format", "json")
    assert done.code == 1, done.err
    assert [f["evidence"]["measured"] for f in json.loads(done.out)["models"][0]["findings"]] == [19, 21]


@pytest.mark.parametrize(
    ("text", "revision"),
    [
        ("HEAD:net:Net", ("HEAD", "net:Net")), ("main~2:a/net.py:Net", ("main~2", "a/net.py:Net")), ("a.b:Net", None),
        ("net.py:Net", None), ("main:models/net.onnx", None), ("s3://a/net.py:Net", None), ("C:net.py:Net", None),
        ("main:models/", None), ("main:net.onnx", None),
    ],
)  # fmt: skip
def test_what_names_code_of_a_revision(text: str, revision: tuple[str, str] | None) -> None:
    assert of_revision(text) == revision
    assert not (revision and is_target(text))
