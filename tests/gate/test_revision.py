"""Models as git knows them: REV:path in every place of a model, and `check --since REV`, in a real repository."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from npu_guard.base.errors import ModelError, NpuGuardError, UsageError
from npu_guard.project import revision

Program = Callable[..., Any]


def net(kernel: int, folder: Path, *, beside: bool = False) -> bytes:
    """A model with one convolution, its weights in a file beside it where asked for."""
    pad = kernel // 2
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        net (float[1,8,32,32] x) => (float[1,8,32,32] y)
        {{ [body] y = Conv<pads = [{pad},{pad},{pad},{pad}]>(x, w) }}"""
    )
    weight = onnx.numpy_helper.from_array(np.ones((8, 8, kernel, kernel), np.float32), "w")
    if beside:
        (folder / "net.weights").write_bytes(weight.raw_data)
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="net.weights")
    proto.graph.initializer.append(weight)
    return proto.SerializeToString()


def git(folder: Path, *arguments: str) -> None:
    own = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *own, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose first revision has a model that fits; in the working tree its kernel is too long."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # set where git runs the tests as a hook
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "models").mkdir()
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "models" / "net.onnx").write_bytes(net(3, tmp_path))
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "fits")
    (tmp_path / "models" / "net.onnx").write_bytes(net(19, tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["main:models/net.onnx", "HEAD:./models/net.onnx", "main~0:models/net.onnx"])
def test_a_revision_is_a_side_of_diff(repository: Path, program: Program, name: str) -> None:
    done = program(repository, "diff", name, "models/net.onnx", "--format", "json")
    assert done.code == 1
    document = json.loads(done.out)
    assert document["summary"] == {"new": 1, "fixed": 0, "changed": 0, "unchanged": 0}
    assert (document["base"]["path"], document["head"]["path"]) == (name, "models/net.onnx")
    assert program(repository, "check", name).code == 0
    assert program(repository, "diff", "models/net.onnx", name).code == 0


def test_dots_are_taken_from_the_current_folder(repository: Path, program: Program) -> None:
    assert program(repository / "models", "check", "HEAD:./net.onnx").code == 0
    assert program(repository / "models", "check", "HEAD:../models/net.onnx").code == 0
    assert "there is no such file" in program(repository / "models", "check", "HEAD:net.onnx").err


def test_weights_beside_a_model_come_along(repository: Path, program: Program) -> None:
    (repository / "models" / "net.onnx").write_bytes(net(3, repository / "models", beside=True))
    (repository / "models" / "unrelated.bin").write_bytes(bytes(1000))
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "weights beside")
    (repository / "models" / "net.weights").unlink()
    assert program(repository, "check", "models/net.onnx").code == 3
    assert program(repository, "check", "main:models/net.onnx").code == 0


def test_a_pointer_of_lfs_is_named_as_one(repository: Path, program: Program) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"
    (repository / "models" / "net.onnx").write_text(pointer)
    git(repository, "commit", "-q", "-a", "-m", "pointer")
    assert "is a Git LFS pointer; install git-lfs" in program(repository, "check", "main:models/net.onnx").err


def test_filters_of_git_apply(repository: Path, program: Program) -> None:
    """Git LFS is such a filter: what git stores is not what a checkout has."""
    git(repository, "config", "filter.swap.smudge", "base64 -d")
    git(repository, "config", "filter.swap.clean", "base64")
    (repository / ".gitattributes").write_text("*.onnx filter=swap\n")
    git(repository, "add", ".gitattributes", "models/net.onnx")
    git(repository, "commit", "-q", "-m", "filtered")
    done = program(repository, "check", "main:models/net.onnx", "--format", "json")
    assert json.loads(done.out)["models"][0]["findings"][0]["evidence"]["measured"] == 19


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nope:models/net.onnx", "git knows no revision 'nope'"),
        ("--all:models/net.onnx", "git knows no revision"),
        ("main:models/other.onnx", "main:models/other.onnx: there is no such file in that revision"),
        ("main:modles/net.onnx", "there is no such file in that revision; did you mean 'main:models/net.onnx'"),
        ("main:modles/", "main:modles/: there is no such folder in that revision; did you mean 'main:models/'"),
        ("main:models/", "is a folder; name a model in it"),
    ],
)
def test_what_is_not_there_is_one_sentence(repository: Path, name: str, said: str, tmp_path: Path) -> None:
    found = revision.parse(name)
    assert found is not None
    with pytest.raises(NpuGuardError, match=said) as raised:
        revision.write(found, tmp_path)
    kind = ModelError if "there is no such" in said else UsageError  # a model that is not there ends with 3 wherever it is not
    assert type(raised.value) is kind


@pytest.mark.parametrize("text", ["package.module:Net", "s3://bucket/net.onnx", "net.onnx", ":x.onnx", "main:", "net.py:Net"])
def test_what_names_no_revision(text: str) -> None:
    assert revision.parse(text) is None


def test_outside_of_a_repository(tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "net.onnx").write_bytes(net(3, tmp_path))
    for arguments in (("diff", "main:a/net.onnx", "net.onnx"), ("check", "net.onnx", "--since", "main")):
        done = program(tmp_path, *arguments)
        assert (done.code, "is not inside a git repository" in done.err) == (2, True)


def test_since_counts_what_came_since(repository: Path, program: Program) -> None:
    done = program(repository, "check", "models/net.onnx", "--since", "main", "--format", "json")
    assert done.code == 1
    assert [f["suppressed"] for f in json.loads(done.out)["models"][0]["findings"]] == [False]
    git(repository, "commit", "-q", "-a", "-m", "too long")
    done = program(repository, "check", "models", "--since", "main", "--format", "json")
    assert done.code == 0
    (finding,) = json.loads(done.out)["models"][0]["findings"]
    assert finding["suppressed"] is True
    assert program(repository, "check", "models", "--since", "main~1").code == 1


def test_since_says_what_is_new_and_what_is_fixed(repository: Path, program: Program) -> None:
    git(repository, "commit", "-q", "-a", "-m", "too long")
    (repository / "models" / "net.onnx").write_bytes(net(3, repository))
    (repository / "models" / "other.onnx").write_bytes(net(19, repository))
    done = program(repository, "check", "models", "--since", "HEAD")
    assert done.code == 1
    assert "is new since HEAD" not in done.err  # the text has it already
    assert "fixed since HEAD: NPU201 kernel 19x19 is longer than 17 (Conv in (top level))" in done.err
    assert "note: only what came since HEAD counts" in done.out
    assert "note: is new since HEAD, so all of it counts" in done.out
    done = program(repository, "check", "models", "--since", "HEAD", "--format", "concise")
    assert "models/other.onnx: is new since HEAD" in done.err


def test_since_counts_what_is_known_at_the_revision_and_not_as_suppressed(repository: Path, program: Program) -> None:
    git(repository, "commit", "-q", "-a", "-m", "too long")
    for form in ("text", "concise", "markdown", "html"):
        done = program(repository, "check", "models", "--since", "main", "--format", form)
        assert done.code == 0
        assert "1 known at main" in done.out
        assert "1 suppressed" not in done.out


def test_since_an_unreadable_model_everything_counts(repository: Path, program: Program) -> None:
    (repository / "models" / "net.onnx").write_bytes(b"not a model")
    git(repository, "commit", "-q", "-a", "-m", "broken")
    (repository / "models" / "net.onnx").write_bytes(net(19, repository))
    done = program(repository, "check", "models/net.onnx", "--since", "main")
    assert done.code == 1
    assert "could not be checked as it is at main, so all of it counts" in done.out


def test_folders_are_compared_by_path(repository: Path, program: Program) -> None:
    for name in ("gone.onnx", "same.onnx", "broken.onnx"):
        (repository / "models" / name).write_bytes(net(3, repository) if name != "broken.onnx" else b"")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "more")
    (repository / "models" / "gone.onnx").unlink()
    (repository / "models" / "broken.onnx").write_bytes(net(19, repository))
    (repository / "models" / "deep").mkdir()
    (repository / "models" / "deep" / "fresh.onnx").write_bytes(net(19, repository))

    done = program(repository, "diff", "main~1:models/", "models/", "--format", "json")
    assert json.loads(done.out)["summary"] == {"new": 3, "fixed": 0, "changed": 0, "unchanged": 0}
    done = program(repository, "diff", "main:models/", "models/")
    assert done.code == 1
    assert "Compared models/ with main:models/: 2 new, 0 fixed, 1 unchanged" in done.out
    for line in (
        "broken.onnx      could not be read before, 1 finding",
        "deep/fresh.onnx  new model, 1 finding",
        "gone.onnx        removed",
        "2 models as before",
    ):
        assert f"  {line}\n" in done.out
    assert "all of models/broken.onnx counts" in done.err
    document = json.loads(program(repository, "diff", "main:models/", "models/", "--format", "json").out)
    assert (document["added"], document["removed"], document["unread"]) == (["deep/fresh.onnx"], ["gone.onnx"], ["broken.onnx"])
    assert "| `gone.onnx` | removed |" in program(repository, "diff", "main:models/", "models/", "--format", "markdown").out
    concise = program(repository, "diff", "main:models/", "models/", "--format", "concise").out
    assert concise.count("error NPU201") == 2

    done = program(repository, "diff", "models", "models/")
    assert (done.code, done.out) == (0, "Compared models/ with models: 0 new, 0 fixed, 3 unchanged\n  4 models as before\n")
    (repository / "models" / "net.onnx").write_bytes(b"")
    assert program(repository, "diff", "main:models/", "models/").code == 3


def test_a_folder_has_a_folder_beside_it(repository: Path, program: Program) -> None:
    (repository / "empty").mkdir()
    for arguments, said in (
        (("models", "models/net.onnx"), "models is a folder and models/net.onnx is none"),
        (("main:modles", "models"), "models is a folder and main:modles is none"),
        (("main:modles/", "models"), "main:modles/: there is no such folder in that revision; did you mean 'main:models/'"),
        (("empty", "empty"), "have no .onnx files"),
        (("models", "models", "--format", "html"), "shows one pair of models"),
    ):
        done = program(repository, "diff", *arguments)
        code = 3 if "there is no such folder" in said else 2
        assert (done.code, done.out, said in done.err) == (code, "", True), done.err
    for names in (
        ("main:models", "models"),
        ("models", "main:models"),
        ("main:models", "main:models/"),
    ):  # the slash may be left out
        done = program(repository, "diff", *names, "--format", "concise")
        assert (done.code, done.err) == (int(names[0] == "main:models" and names[1] == "models"), "")


def test_a_model_with_a_new_name_is_compared_with_what_it_was(repository: Path, program: Program) -> None:
    git(repository, "commit", "-q", "-a", "-m", "too long")
    (repository / "new").mkdir()
    git(repository, "mv", "models/net.onnx", "new/body.onnx")
    done = program(repository, "check", "new", "--since", "HEAD")
    assert (done.code, "new/body.onnx: was models/net.onnx at HEAD" in done.err) == (0, True)
    (repository / "new" / "copy.onnx").write_bytes(net(21, repository))  # which git does not know of yet
    done = program(repository, "check", "new", "--since", "HEAD")
    assert (done.code, "note: is new since HEAD, so all of it counts" in done.out) == (1, True)


def test_folders_are_compared_through_new_names(repository: Path, program: Program) -> None:
    (repository / "other.onnx").write_bytes(net(5, repository))
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-a", "-m", "too long")
    (repository / "models" / "deep").mkdir()
    git(repository, "mv", "models/net.onnx", "models/deep/body.onnx")
    git(repository, "mv", "other.onnx", "models/moved in.onnx")  # from outside of the folder
    done = program(repository, "diff", "HEAD:models/", "models/")
    assert (done.code, "  deep/body.onnx  was net.onnx, 0 new, 0 fixed, 1 unchanged\n" in done.out) == (0, True)
    assert "  moved in.onnx   new model, 0 findings\n" in done.out
    document = json.loads(program(repository, "diff", "HEAD:models/", "models/", "--format", "json").out)
    assert (document["added"], document["removed"]) == (["moved in.onnx"], [])
    assert document["renamed"] == {"deep/body.onnx": "net.onnx"}
    below = program(repository / "models", "diff", "HEAD:./", ".")
    assert "deep/body.onnx  was net.onnx" in below.out


def test_a_shallow_clone_says_how_to_get_the_rest(repository: Path, tmp_path: Path, program: Program) -> None:
    git(repository, "commit", "-q", "-a", "-m", "too long")
    git(repository, "clone", "-q", "--depth", "1", repository.as_uri(), "shallow")
    done = program(repository / "shallow", "check", "models", "--since", "HEAD~1")
    assert (done.code, "git fetch --unshallow" in done.err) == (2, True)
    assert "unshallow" not in program(repository, "check", "models", "--since", "absent").err
