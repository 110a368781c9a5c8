"""Write the picture of the HTML report in the README: `make pictures`.

The picture of the terminal is text, so `make docs` writes it and a test compares it. This one is drawn by a browser with the
fonts of its machine, so nothing compares it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from npu_guard.checking import registry
from npu_guard.pipeline.check import check_models
from npu_guard.project.config import Config

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "report.png"
CHROMIUM = "/usr/bin/chromium"


def main() -> None:
    """Draw the top of the sample's report."""
    os.chdir(ROOT)  # a report shows paths as they were given
    report = check_models(["samples/sample_net.onnx"], Config(), layers=True, remedies=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as browsers:
        page = Path(folder, "report.html")
        page.write_text(registry.renderer("html")(report), encoding="utf-8")
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1200, "height": 690}, color_scheme="light")
        view.goto(page.as_uri())
        view.wait_for_timeout(500)
        view.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
