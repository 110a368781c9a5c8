"""Pages of the manual that are kept beside the template."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from npu_guard.reports.blocks import manual_html
from npu_guard.reports.blocks.manual_html import Manual

PAGE = "# NPU999 some-rule\n\n## Why\n\nBecause of `x` <b>.\n"
HTML = "<h4>Why</h4>\n<p>Because of <code>x</code> &lt;b&gt;.</p>\n"


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Python keeps bytecode; the texts that were rendered."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    texts: list[str] = []
    for name in ("_page", "_line"):
        render = getattr(manual_html, name)

        def counted(text: str, render: object = render) -> str:
            texts.append(text)
            return str(render(text))  # type: ignore[operator]

        counted.__name__ = name
        monkeypatch.setattr(manual_html, name, counted)
    return texts


def test_a_text_is_rendered_once_by_all_processes_that_keep(tmp_path: Path, rendered: list[str]) -> None:
    for _ in range(2):
        manual = Manual(tmp_path)
        assert (manual.page(PAGE), manual.line("a `b`")) == (HTML, "a <code>b</code>")
        manual.keep()
    assert rendered == [PAGE, "a `b`"]
    assert Manual(tmp_path).line(PAGE) != HTML, "a line is no page"


def test_another_parser_or_version_renders_again(tmp_path: Path, rendered: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    manual = Manual(tmp_path)
    manual.page(PAGE)
    manual.keep()
    monkeypatch.setattr(manual_html, "_made_with", lambda: "another")
    assert Manual(tmp_path).page(PAGE) == HTML
    assert rendered == [PAGE, PAGE]


def test_no_more_is_kept_than_is_bounded(tmp_path: Path, rendered: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manual_html, "_MOST", 3)
    for start in (0, 4):
        manual = Manual(tmp_path)
        for i in range(start, start + 4):
            manual.line(f"{i}")
        manual.keep()
    last = Manual(tmp_path)
    rendered.clear()
    for i in (5, 6, 7, 0):
        last.line(f"{i}")
    assert rendered == ["0"]
