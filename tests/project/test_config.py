"""A project's settings: which file counts, and what it may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_guard.base.errors import UsageError
from npu_guard.project.config import Config, Suppression, find_config, project_root, read_config
from npu_guard.results.findings import Location, Severity

RULES = [("NPU101", "unsupported-operator"), ("NPU201", "kernel-size"), ("NPU203", "stride")]


def read(folder: Path, text: str, name: str = "npu-guard.toml") -> Config:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_config(path, RULES)


FULL = """profile = "other"
select = ["NPU2"]
ignore = ["stride"]
fail-on = "warning"
allow-undecided = true
[severity]
NPU201 = "note"
[[suppress]]
rule = "kernel-size"
node = "encoder.*"
reason = "runs on the host"
"""


def test_a_full_file(tmp_path: Path) -> None:
    found = read(tmp_path, FULL)
    assert found.profile == "other"
    assert found.fail_on == "warning"
    assert found.allow_undecided
    assert found.severity == {"NPU201": Severity.NOTE}
    assert [found.selects(*rule) for rule in RULES] == [False, True, False]


def test_pyproject(tmp_path: Path) -> None:
    found = read(tmp_path, '[project]\nname = "x"\n[tool.npu-guard]\nignore = ["npu1"]\n', "pyproject.toml")
    assert [found.selects(*rule) for rule in RULES] == [False, True, True]
    assert read(tmp_path, "[tool.npu-guard]\n", "pyproject.toml") == Config()
    assert read(tmp_path, "") == Config()


def test_severity_of_a_family(tmp_path: Path) -> None:
    found = read(tmp_path, '[severity]\nNPU2 = "warning"\nunsupported-operator = "note"\n')
    assert found.severity == {"NPU201": Severity.WARNING, "NPU203": Severity.WARNING, "NPU101": Severity.NOTE}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('profle = "x"', ("unknown key 'profle'", "did you mean 'profile'?")),
        ('fail_on = "error"', ("unknown key 'fail_on'", "did you mean 'fail-on'?")),
        ('fail-on = "sometimes"', ("sometimes",)),
        ("select = 3", ("select",)),
        ('select = ["NPU9"]', ("no rule 'NPU9'",)),
        ('select = [""]', ("no rule ''",)),
        ('ignore = ["kernel-sise"]', ("did you mean 'kernel-size'?",)),
        ('[severity]\nNPU201 = "fatal"', ("fatal",)),
        ('[severity]\nNPU999 = "note"', ("no rule 'NPU999'",)),
        ('[[suppress]]\nrule = "NPU201"', ("reason",)),
        ('[[suppress]]\nrule = "NPU201"\nreason = "  "', ("gives no reason",)),
        ('[[suppress]]\nrule = "NPU9"\nreason = "x"', ("no rule 'NPU9'",)),
        ('[[suppress]]\nrule = "NPU201"\nreason = "x"\nwhere = "y"', ("unknown key 'where'",)),
        ("a = ", ("not valid TOML",)),
    ],
)
def test_what_is_wrong_gets_one_line(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith("npu-guard.toml: ")
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_config(tmp_path / "absent.toml", RULES)
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="cannot be read"):
        read_config(tmp_path / "bytes.toml", RULES)
    with pytest.raises(UsageError, match=r"no table \[tool.npu-guard\]"):
        read(tmp_path, "[project]\n", "pyproject.toml")
    with pytest.raises(UsageError):
        read(tmp_path, "[tool]\nnpu-guard = 3\n", "pyproject.toml")


def test_the_nearest_file_counts(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    assert find_config(inner) is None
    outermost = tmp_path / "pyproject.toml"
    outermost.write_text("[tool.npu-guard]\n")
    assert find_config(inner) == outermost
    nearer = tmp_path / "a" / "npu-guard.toml"
    nearer.write_text("")
    assert find_config(inner) == nearer
    (inner / "pyproject.toml").write_text("[project]\n")
    assert find_config(inner) == nearer, "a pyproject.toml without the table is passed over"
    (inner / "pyproject.toml").write_text("[tool.npu-guard]\n")
    assert find_config(inner) == inner / "pyproject.toml"
    own = inner / "npu-guard.toml"
    own.write_text("")
    assert find_config(inner) == own, "the tool's own file goes first"
    assert project_root(inner) == tmp_path


def test_nothing_above_the_repository_counts(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (repository / ".git").mkdir(parents=True)
    (tmp_path / "npu-guard.toml").write_text("")
    assert find_config(repository) is None
    assert find_config(tmp_path) == tmp_path / "npu-guard.toml"


PLACE = Location("/encoder/conv/Conv", "Conv", "conv_out", ("encoder", "conv"))


@pytest.mark.parametrize("glob", ["*", "/encoder/*", "conv_out", "encoder.conv", "encoder.*", "*/Conv", "[/c]*"])
def test_suppression_by_any_name(glob: str) -> None:
    found = Config(suppress=(Suppression("NPU2", "because", glob),))
    assert found.suppression("NPU201", "kernel-size", PLACE) == found.suppress[0]
    assert found.suppression("NPU101", "unsupported-operator", PLACE) is None


@pytest.mark.parametrize("glob", ["conv", "ENCODER.*", "encoder", ""])
def test_suppression_of_other_places(glob: str) -> None:
    found = Config(suppress=(Suppression("NPU201", "because", glob),))
    assert found.suppression("NPU201", "kernel-size", PLACE) is None
