"""What is generated and checked in is what the code says today."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from npu_guard.checking import registry
from npu_guard.project.config import read_config

ROOT = Path(__file__).parents[1]


def load_generator() -> tuple[dict[str, str], tuple[str, ...]]:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages(), module.FOLDERS


PAGES, FOLDERS = load_generator()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_current(name: str) -> None:
    file = ROOT / name
    assert file.is_file(), f"{name} is missing; run `make docs`"
    assert file.read_text(encoding="utf-8") == PAGES[name], f"{name} has drifted; run `make docs` and look at the diff"


def test_nothing_is_left_over() -> None:
    there = {file.relative_to(ROOT).as_posix() for folder in FOLDERS for file in (ROOT / folder).iterdir()}
    assert there == {name for name in PAGES if name.startswith(FOLDERS)}


def test_pages_name_no_machine_and_load_nothing() -> None:
    for name, text in PAGES.items():
        assert not re.search(r"/(home|root|tmp|usr)/", text), name
    assert not re.findall(r'(?:href|src)="http|url\(["\']?http|@import', PAGES["docs/check.svg"])


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/guide.md", "docs/design.md", "docs/rules/index.md"]
)
def test_links_lead_somewhere(page: str) -> None:
    file = ROOT / page
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", file.read_text(encoding="utf-8")):
        assert "://" in target or (file.parent / target).exists(), f"{page}: {target}"


def test_the_configuration_of_the_guide_is_valid(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/guide.md").read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "pyproject.toml"
    file.write_text(block, encoding="utf-8")
    config = read_config(file, [(rule.code, rule.name) for rule in registry.rules()])
    assert config.fail_on == "warning"
    assert config.suppress[0].reason


PAGES_WITH_PATHS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES_WITH_PATHS, ids=lambda page: page.name)
def test_paths_in_backticks_exist(page: Path) -> None:
    """Those that begin with a folder of the checkout or a room, and are written in full."""
    tops = {folder.name for base in (ROOT, ROOT / "npu_guard") for folder in base.iterdir() if folder.is_dir()} - {".bench"}
    said = re.findall(r"`([\w.-]+(?:/[\w.-]+)*/?)`", page.read_text(encoding="utf-8"))
    paths = [path for path in said if "/" in path and path.split("/")[0] in tops]
    assert not [path for path in paths if not (ROOT / path).exists() and not (ROOT / "npu_guard" / path).exists()]


def test_modules_in_backticks_exist() -> None:
    """Those that comments and docstrings name, from the checkout, from the room or by their file alone."""
    tops = ("npu_guard", "rules", "models", "reports", "bench", "fuzz", "tests")
    files = [file for top in tops for file in (ROOT / top).rglob("*.py")]
    known = [f"/{file.relative_to(ROOT).as_posix()}" for file in files]
    said = ((file, name) for file in files for name in re.findall(r"`([\w/]+\.py)`", file.read_text(encoding="utf-8")))
    assert not [f"{file.name}: {name}" for file, name in said if not any(path.endswith(f"/{name}") for path in known)]


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]), ids=lambda p: p.name)
def test_texts_promise_no_more_than_a_label_says(page: Path) -> None:
    """What is `proved` has a label and a page that says what that claims; other words for it claim what nobody defines."""
    words = regex_of_promises().findall(page.read_text(encoding="utf-8"))
    assert not words, f"{page.name} promises: {words}"


def regex_of_promises() -> re.Pattern[str]:
    return re.compile(
        r"\b(?:proven|provabl[ey]|guarante\w*|certif\w*|mathematically|100 % (?:safe|correct|equal))\b", re.IGNORECASE
    )


def test_a_promise_is_found() -> None:
    assert regex_of_promises().findall("each rewrite is provably equal, we guarantee it") == ["provably", "guarantee"]
    assert not regex_of_promises().findall("each rewrite is proved where it can be, and its label says so")
