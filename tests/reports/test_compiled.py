"""Code of templates that is kept beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import jinja2
import pytest

from npu_guard.reports.blocks import compiled


@pytest.fixture(autouse=True)
def keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python keeps bytecode, beside the sources."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)


def shown(folder: Path, **options: object) -> tuple[str, int]:
    """What the template says, and how often Jinja took one apart for it."""
    environment = compiled.environment(folder, **options)
    parsed = []
    parse = environment._parse

    def counted(*arguments: object) -> object:
        parsed.append(1)
        return parse(*arguments)  # type: ignore[arg-type]

    environment._parse = counted  # type: ignore[method-assign, assignment]
    return environment.get_template("page.html.j2").render(x="<b>"), len(parsed)


def test_a_template_is_taken_apart_once(tmp_path: Path) -> None:
    (tmp_path / "page.html.j2").write_text("{{ x }}")
    assert [shown(tmp_path), shown(tmp_path)] == [("<b>", 1), ("<b>", 0)]


def test_another_template_and_other_options_make_other_code(tmp_path: Path) -> None:
    page = tmp_path / "page.html.j2"
    page.write_text("{{ x }}")
    assert shown(tmp_path) == ("<b>", 1)
    page.write_text("{{ x }}!")
    assert shown(tmp_path) == ("<b>!", 1)
    assert shown(tmp_path, autoescape=True) == ("&lt;b&gt;!", 1)
    assert shown(tmp_path, autoescape=True, undefined=jinja2.StrictUndefined) == ("&lt;b&gt;!", 1)


@pytest.mark.parametrize("damage", [b"", b"no code", b"\n", None])
def test_what_is_no_code_is_made_again(tmp_path: Path, damage: bytes | None) -> None:
    (tmp_path / "page.html.j2").write_text("{{ x }}")
    shown(tmp_path)
    (kept,) = (tmp_path / "__pycache__").iterdir()
    kept.write_bytes(kept.read_bytes()[:-20] if damage is None else damage)
    assert [shown(tmp_path), shown(tmp_path)] == [("<b>", 1), ("<b>", 0)]


def test_nothing_is_kept_where_python_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "page.html.j2").write_text("{{ x }}")
    assert [shown(tmp_path), shown(tmp_path)] == [("<b>", 1), ("<b>", 1)]
    assert [f.name for f in tmp_path.iterdir()] == ["page.html.j2"]


def test_a_folder_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "page.html.j2").write_text("{{ x }}")
    (tmp_path / "__pycache__").write_text("no folder")
    assert [shown(tmp_path), shown(tmp_path)] == [("<b>", 1), ("<b>", 1)]
