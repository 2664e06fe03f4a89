# SPDX-License-Identifier: GPL-2.0-or-later
"""A real browser for the tests of pages: Debian's Chromium, headless, behind its own driver."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--window-size=1440,1000")
"""As root, with no network and no screen."""


@contextmanager
def chromium(folder: Path) -> Iterator[Any]:
    """A browser with a profile of its own; skips the test if there is none."""
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="pages are tried in a browser by selenium (Debian: "
        "python3-selenium)")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no chromium with chromedriver (Debian: chromium, chromium-driver)")
    service = __import__("selenium.webdriver.chrome.service", fromlist=["Service"])
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(service=service.Service(driver), options=options)
    try:
        yield made
    finally:
        made.quit()
