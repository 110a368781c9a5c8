"""Markdown: rendered by a real parser, nothing in it is more than text, and it fits into a comment."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from npu_guard.checking import registry
from npu_guard.results.findings import Report

RAW = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
OURS = {"h2", "p", "strong", "code", "details", "summary", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}


class Page(HTMLParser):
    """Tags of a page, cells of each row of its tables, and the text that is not in code."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.comments: list[str] = []
        self.open: list[str] = []
        self.rows: list[int] = []
        self.loose = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not [name for name, _ in attrs if name != "style"]  # a column's alignment
        self.tags.append(tag)
        self.open.append(tag)
        if tag == "tr":
            self.rows.append(0)
        if tag in ("td", "th"):
            self.rows[-1] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def handle_data(self, data: str) -> None:
        if "code" not in self.open:
            self.loose += data


def read(text: str) -> Page:
    assert not RAW.search(text.replace("\n", ""))
    page = Page()
    page.feed(PARSER.render(text))
    page.close()
    assert not page.open
    assert set(page.tags) <= OURS
    assert page.comments == [" npu-guard "]
    assert set(page.rows) <= {6, 9}
    assert not re.search(r"(?<!\w)[@#][A-Za-z0-9]|://|www\.", page.loose)
    return page


def render(report: Report) -> str:
    return registry.renderer("markdown")(report, color=False)


def test_golden(compare: Callable[[str, str], str]) -> None:
    read(compare("markdown", "markdown.md"))


@pytest.mark.usefixtures("root")
def test_comment(sample: ModuleType) -> None:
    lines = render(sample.REPORT).split("\n")
    assert lines[0] == "<!-- npu-guard -->"
    assert "| `exports/net one.onnx` | aimotive-aiware | fail | 4 | 1 | 1 | 1 | 1 | 55.0 % |" in lines
    rows = [line for line in lines if re.match(r"\| (error|warning|note|undecided) ", line)]
    assert rows[1] == (
        "| error | NPU201 kernel-size | kernel 19x1 is longer than 17; all fixable | Conv `node_conv2d_4` and 1 more "
        "| `nets/context.py:55` | 20.0 % |"
    )
    assert [row.split(" | ")[1][:6] for row in rows] == ["NPU103", "NPU201", "NPU201", "NPU301", "NPU401", "NPU104"]
    assert "(`npu-guard rules NPU201`)" in "\n".join(lines)


def test_the_rest_is_folded_by_module(sample: ModuleType) -> None:
    text = render(sample.many(50, modules=3))
    read(text)
    in_sight, *folded = text.split("<details>")[:4]
    assert in_sight.count("| error |") == 20
    assert sum(part.count("| error |") for part in folded) == 30
    assert [re.match(r"<summary>(.*)</summary>", part)[1] for part in folded] == [  # type: ignore[index]
        "<code>module2</code>: 10 more findings",
        "<code>module1</code>: 10 more findings",
        "<code>module0</code>: 10 more findings",
    ]


@pytest.mark.parametrize(
    ("count", "modules", "text"), [(3_000, 7, "kernel {0}"), (400, 400, "{0} " + "[<&" * 120), (10, 1, "<" * 400)]
)
def test_it_fits_into_a_comment(sample: ModuleType, count: int, modules: int, text: str) -> None:
    page = render(sample.many(count, modules=modules, text=text))
    read(page)
    assert len(page) <= 60_000
    shown = page.count("| error |")
    if shown < count:
        assert f"{count - shown:,} findings not shown" in page
    assert shown > 5


def test_many_models_fit_too(sample: ModuleType) -> None:
    models = sample.many(1).models * 2_000
    page = render(Report("1", models))
    read(page)
    assert len(page) <= 60_000
    assert re.search(r"Cut to what a comment holds: [\d,]+ models, [\d,]+ findings not shown", page)


@pytest.mark.usefixtures("root")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_hostile_text(data: st.DataObject, any_report: st.SearchStrategy[Report]) -> None:
    read(render(data.draw(any_report)))
