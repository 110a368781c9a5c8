"""Settings from environment variables, links to the manual, and the page of all settings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from npu_guard.base.errors import UsageError
from npu_guard.base.limits import Limits
from npu_guard.project.config import Config, SettingsFile, Suppression, read_config
from npu_guard.project.environment import VARIABLES, misspelt, with_environment
from npu_guard.project.settings_page import field_docs

Program = Callable[..., tuple[int, str, str]]
MODEL = """<ir_version: 10, opset_import: ["" : 20]> g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = NonMaxThing(x) }"""


def test_the_environment_counts_more_than_the_file() -> None:
    file = Config(profile="a", fail_on="warning", cache=Path("kept"))
    assert with_environment(file, {}) == file
    assert with_environment(file, {"NPU_GUARD_PROFILE": ""}) == file
    found = with_environment(
        file,
        {"NPU_GUARD_PROFILE": "b", "NPU_GUARD_FAIL_ON": "never", "NPU_GUARD_ALLOW_UNDECIDED": "True", "NPU_GUARD_CACHE": "c"},
    )
    assert (found.profile, found.fail_on, found.allow_undecided, found.cache) == ("b", "never", True, Path("c"))
    assert not with_environment(Config(allow_undecided=True), {"NPU_GUARD_ALLOW_UNDECIDED": "0"}).allow_undecided


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NPU_GUARD_FAIL_ON", "errors"), ("NPU_GUARD_ALLOW_UNDECIDED", "perhaps"), ("NPU_GUARD_DOCS_URL", "javascript:alert(1)"),
        ("NPU_GUARD_MAX_COST", "twice"), ("NPU_GUARD_MAX_COST", "0.5"),
        ("NPU_GUARD_DOCS_URL", "https://x/)"), ("NPU_GUARD_DOCS_URL", "https://x/{rule}"),
    ],
)  # fmt: skip
def test_what_a_setting_cannot_be_is_refused(variable: str, value: str) -> None:
    with pytest.raises(UsageError, match=variable):
        with_environment(Config(), {variable: value})


def test_a_misspelt_variable_is_told_and_changes_nothing(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.onnxtxt").write_text(MODEL)
    monkeypatch.setenv("NPU_GUARD_PROFIL", "qualcomm-htp")
    monkeypatch.setenv("NPU_GUARD_CACHE_KEY", "one that is read elsewhere")
    _, out, err = program(tmp_path, "check", "m.onnxtxt", "--format", "json")
    said = "NPU_GUARD_PROFIL is set, and there is no such setting; it is ignored; did you mean 'NPU_GUARD_PROFILE'?"
    assert err == f"npu-guard: {said}\n"
    assert json.loads(out)["models"][0]["profile"] == Config().profile
    monkeypatch.delenv("NPU_GUARD_PROFIL")
    assert program(tmp_path, "check", "m.onnxtxt", "--format", "json")[2] == ""


def test_whatever_is_read_from_the_environment_is_known() -> None:
    root = Path(__file__).parents[2]
    read = re.compile(r'environ(?:\.get\(|\[)"(NPU_GUARD_\w+)"(?! *\] *=)')
    files = [f for room in ("npu_guard", "tests", "bench", "fuzz") for f in (root / room).rglob("*.py")]
    names = {name for file in files for name in read.findall(file.read_text(encoding="utf-8"))}
    assert "NPU_GUARD_EXAMPLES" in names
    assert not misspelt(dict.fromkeys(names, "1"))


def test_flags_count_more_than_the_environment(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.onnxtxt").write_text(MODEL)
    monkeypatch.setenv("NPU_GUARD_PROFILE", "qualcomm-htp")

    def profile(*arguments: str) -> str:
        document = json.loads(program(tmp_path, "check", "m.onnxtxt", "--format", "json", *arguments)[1])
        return str(document["models"][0]["profile"])

    assert profile() == "qualcomm-htp"
    assert profile("--profile", "ethos-u85") == "ethos-u85"


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://docs.example.com/npu/", "https://docs.example.com/npu/rules/NPU101/"),
        ("https://git.example.com/blob/main/docs/rules/{code}.md", "https://git.example.com/blob/main/docs/rules/NPU101.md"),
    ],
)
def test_rules_are_linked_where_the_manual_is_on_the_web(program: Program, tmp_path: Path, url: str, page: str) -> None:
    (tmp_path / "m.onnxtxt").write_text(MODEL)
    (tmp_path / "npu-guard.toml").write_text(f'docs-url = "{url}"\n')
    for form in ("markdown", "github", "html", "sarif"):
        out = program(tmp_path, "check", "m.onnxtxt", "--format", form)[1]
        assert page.replace(":", "%3A") in out or page in out, form
        if form == "sarif":
            rules = json.loads(out)["runs"][0]["tool"]["driver"]["rules"]
            assert {rule["id"]: rule["helpUri"] for rule in rules}["NPU101"] == page
    (tmp_path / "npu-guard.toml").write_text("")
    assert "example.com" not in program(tmp_path, "check", "m.onnxtxt", "--format", "sarif")[1]


def test_a_table_that_nobody_reads_is_told(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.npu_guard]\nprofile = "x"\n')
    with pytest.raises(UsageError, match=r"write \[tool\.npu-guard\]"):
        read_config(tmp_path / "pyproject.toml", [])


@pytest.mark.parametrize("kind", [SettingsFile, Suppression, Limits])
def test_each_setting_says_what_it_means(kind: type[msgspec.Struct]) -> None:
    assert {field.name for field in msgspec.structs.fields(kind)} == set(field_docs(kind))


def test_variables_are_those_of_settings() -> None:
    assert set(VARIABLES) <= {field.encode_name for field in msgspec.structs.fields(SettingsFile)}
    assert [f"NPU_GUARD_{name.replace('-', '_').upper()}" for name in VARIABLES] == list(VARIABLES.values())
