"""What lies at the root for GitHub: workflow and issue templates name commands, options and files that exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from npu_guard import cli
from npu_guard.checking import registry
from npu_guard.results.findings import Report

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


def test_owners_are_named_for_what_exists() -> None:
    lines = [
        line.split() for line in (GITHUB / "CODEOWNERS").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    ]
    assert [path for path, *owners in lines if not (GITHUB.parent / path.strip("/")).exists() or not owners] == []


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


def test_the_site_has_every_rule_and_device_at_the_address_that_reports_link_to(tmp_path: Path) -> None:
    """Strict: a link that leads nowhere is an error. Nothing is loaded from elsewhere."""
    root = GITHUB.parent
    told = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "NPU_GUARD_DOCS_URL": "https://docs.example/guard"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=root, env=told, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    index = (tmp_path / "search/search_index.json").read_text(encoding="utf-8")
    report = Report("1", (), docs_url="https://docs.example/guard")
    for rule in registry.rules():
        place = report.rule_url(rule.code).removeprefix("https://docs.example/guard/")
        page = (tmp_path / place / "index.html").read_text(encoding="utf-8")
        assert f'rel="canonical" href="https://docs.example/guard/{place}"' in page
        assert f'"{place}"' in index
    for device in registry.profile_files():
        assert f'"profiles/{device}/"' in index
    for command_name in cli.cli.list_commands(click.Context(cli.cli)):
        assert f'"cli/#npu-guard-{command_name}"' in index
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert set(re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(https?:[^"]*)"', page)) == {"https://docs.example/guard/"}
