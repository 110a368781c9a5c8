"""The manual's site in Chromium: the search finds rules, devices, commands and settings by the names that people type."""

from __future__ import annotations

import functools
import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

SOUGHT = {
    "spatial-reshape": "rules/NPU102/",
    "rk3588": "profiles/rockchip-rk3588/",
    "partition": "cli/",
    "NPU_GUARD_PROFILE": "settings/",
}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing: a test says nothing where all is well."""


@pytest.fixture
def site(tmp_path: Path, root: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    subprocess.run(command, cwd=root, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=True)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_the_search_finds_names_as_they_are_typed(site: str, browser: Browser) -> None:
    page = browser.new_page()
    for words, place in SOUGHT.items():
        page.goto(site)
        page.keyboard.press("/")
        page.keyboard.type(words)
        first = page.locator(".md-search-result__link").first
        expect(first).to_have_attribute("href", re.compile(f"{re.escape(place)}([?#].*)?$"), timeout=30_000)
    page.close()
