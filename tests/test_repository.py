"""What lies at the root for GitHub: workflow and issue templates name commands, options and files that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from npu_guard import cli

GITHUB = Path(__file__).parents[1] / ".github"
FILES = sorted(GITHUB.rglob("*.yml"))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_commands_in_them_exist(path: Path) -> None:
    context = click.Context(cli.cli)
    for name, rest in re.findall(r"(?:`|bin/)npu-guard ([a-z]+) ([^\n`|]*)", path.read_text(encoding="utf-8")):
        command = cli.cli.get_command(context, name)
        assert command is not None, name
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest)) <= known


def test_a_release_is_published_from_what_was_tried_and_with_no_more_rights_than_that() -> None:
    jobs = read(GITHUB / "workflows" / "release.yml")["jobs"]
    assert jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["build"]["permissions"] == {"contents": "read"}
    made = [step.get("with", {}).get("name") for step in jobs["build"]["steps"] if "upload-artifact" in step.get("uses", "")]
    taken = [step.get("with", {}).get("name") for step in jobs["publish"]["steps"] if "download-artifact" in step.get("uses", "")]
    assert made == taken == ["dist"]
    tried = next(step["run"] for step in jobs["build"]["steps"] if "wheel" in step.get("name", ""))
    assert (GITHUB.parent / "samples/sample_net.onnx").is_file()
    assert "dist/*.whl" in tried


@pytest.mark.parametrize("path", [*sorted((GITHUB / "ISSUE_TEMPLATE").glob("[!c]*.yml")), GITHUB / "ISSUE_TEMPLATE/crash.yml"])
def test_issue_forms_are_forms(path: Path) -> None:
    """The fields that GitHub asks for: https://docs.github.com/communities (syntax for issue forms)."""
    form = read(path)
    assert {"name", "description", "body"} <= set(form)
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids))
    assert {field["type"] for field in form["body"]} <= {"input", "textarea", "dropdown", "markdown", "checkboxes"}
    assert all(field["attributes"]["label"] for field in form["body"])
