"""One Chromium for all tests that look at pages: Playwright runs once in a process."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

KNOWN = runpy.run_path(str(Path(__file__).parents[2] / "bench" / "chromium.py"))
CHROMIUM = Path(KNOWN["CHROMIUM"])


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.fail(f"{CHROMIUM} is missing: the report is tested in Debian's Chromium, apt-get install chromium", pytrace=False)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(KNOWN["FLAGS"]))
        yield browser
        browser.close()
