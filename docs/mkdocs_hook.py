"""What `make site` adds to the pages of this folder: the files at the repository's root, and the order of all of them.

The folders of rules and devices are listed as they are, so a new page is on the site without an entry anywhere.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
AT_THE_ROOT = {
    "index.md": "README.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md", "LICENSE": "LICENSE",
    "reports/assets/json-v1.schema.json": "reports/assets/json-v1.schema.json",
}  # fmt: skip
"""Files of the site by where they are in the repository."""
USE = ("guide", "cli", "settings", "api", "training", "quantization", "compilers", "exporters", "cache", "scale")
PROJECT = ("design", "adding-a-device", "operators")


def on_config(config: Any) -> Any:
    """Write the navigation."""
    docs = Path(config["docs_dir"])
    pages = sorted(path.stem for path in docs.glob("*.md"))
    rest = [name for name in pages if name not in (*USE, *PROJECT)]
    config["nav"] = [
        {"Start": "index.md"},
        {"Use": [f"{name}.md" for name in USE if name in pages]},
        {"Rules": _folder(docs / "rules")},
        {"Devices": _folder(docs / "profiles")},
        {"Measured": [f"{name}.md" for name in rest]},
        {"Project": ["CONTRIBUTING.md", *(f"{name}.md" for name in PROJECT if name in pages), "CHANGELOG.md"]},
    ]
    return config


def _folder(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.glob("*.md") if path.name != "index.md")
    return [f"{folder.name}/{name}" for name in ("index.md", *names)]


def on_files(files: Any, *, config: Any) -> Any:
    """Add what lies at the root; links into docs/ are by the site's own paths there."""
    for name, source in AT_THE_ROOT.items():
        content = (ROOT / source).read_text(encoding="utf-8")
        if name.endswith(".md"):
            content = re.sub(r"(\]\(|src=\")docs/", r"\1", content)
            content = re.sub(r"\((rules|profiles)/?\)", r"(\1/index.md)", content)
        files.append(File.generated(config, name, content=content))
    return files


WEIGHT = {"use": 4, "rules": 3, "profiles": 2}
"""Where the search looks first: how to use it, then rules and devices, then what was measured. The changelog has every word."""


def _search(source: str) -> dict[str, Any]:
    folder, _, name = source.rpartition("/")
    if source == "CHANGELOG.md":
        return {"exclude": True}
    return {"boost": WEIGHT.get("use" if name.removesuffix(".md") in USE else folder, 1)}


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Indent nested lists by four, as this parser wants them; GitHub takes two as well."""
    page.meta["search"] = _search(page.file.src_uri)
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else re.sub(r"^  (?=- )", "    ", part, flags=re.MULTILINE) for part in parts)
