# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages of ``report`` in a real browser: drawn, moved about with keys, printed, in time."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.report.campaign import campaign_page
from harness.report.comparison import comparison_page
from harness.report.goldens import golden_page
from harness.report.traces import Told, trace_page
from tests.unit.browser import chromium
from tests.unit.report_lab import COMPARED, GOLDEN, RUN, forgotten, lied, long_trace

SECONDS = 2.0
"""A trace of 10,000 operations must be open in that time."""


class Page:
    """A page that is open in the browser."""

    def __init__(self, driver: Any, file: Path, html: str) -> None:
        file.write_text(html, encoding="utf-8")
        self._driver = driver
        driver.get_log("browser")
        driver.get(file.as_uri())

    def run(self, script: str, *arguments: Any) -> Any:
        """What the script returns."""
        return self._driver.execute_script(script, *arguments)

    def press(self, *keys: str) -> None:
        """Press keys with the map in focus."""
        for key in keys:
            self.run("lockstep.map.scroller.focus(); lockstep.map.scroller.dispatchEvent("
                     "new KeyboardEvent('keydown', {key: arguments[0], cancelable: true}))", key)

    def details(self) -> str:
        """What stands beside the map."""
        return str(self.run("return lockstep.map.part('details').innerText"))

    def pixels(self) -> int:
        """How many colours the map has."""
        return int(self.run("""
            const canvas = lockstep.map.paint.canvas;
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            const words = new Uint32Array(data.data.buffer);
            return new Set(words).size;"""))

    def complaints(self) -> list[str]:
        """What the browser's console has."""
        return [str(each["message"]) for each in self._driver.get_log("browser")]

    def paper(self) -> bytes:
        """The page as a PDF."""
        return base64.b64decode(self._driver.print_page())


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("chromium")) as made:
        yield made


@contextmanager
def window(driver: Any, width: int) -> Iterator[None]:
    """While the browser's window has that width."""
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False})
    try:
        yield
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture
def opened(driver: Any, tmp_path: Path) -> Page:
    return Page(driver, tmp_path / "page.html", trace_page(lied()))


def test_the_map_is_drawn_and_nobody_complains(opened: Page) -> None:
    assert opened.pixels() > 8
    assert opened.complaints() == []
    assert "6 read snap 0 192k" in opened.details().replace("\n", " ")
    assert "data: 1 differ" in opened.details()


def test_the_page_of_a_comparison_has_the_map(driver: Any, tmp_path: Path) -> None:
    plain = {"builds": [{"version": "1.0", "path": "/a"}, {"version": "2.0", "path": "/b"}],
             "steps": 6, "traces": 1, "seed": 1, "explained": [], "unexplained": []}
    assert Page(driver, tmp_path / "page.html", comparison_page(plain)).complaints() == []
    found = {"build": 1, "summary": "wrong", "other": "conforms", "alike": False,
             "area": "access", "system": "qsd", "shown": 0}
    opened = Page(driver, tmp_path / "page.html",
                  comparison_page({**plain, "unexplained": [found]}, [lied()]))
    assert opened.pixels() > 8
    assert opened.complaints() == []


def test_keys_move_about(opened: Page) -> None:
    opened.press("Home")
    assert "add-filter cbw" in opened.details()
    opened.press("ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowLeft")
    assert "5 write cbw 64k 4k" in opened.details()
    assert "64k..128k" in opened.details()
    assert "0 → 1" in opened.details(), "the done bit of cluster 1"
    assert "data of operation 5" in opened.details()
    opened.press("d")
    assert "6 read snap" in opened.details()
    before = opened.run("return lockstep.map.cell")
    opened.press("-")
    assert opened.run("return lockstep.map.cell") < before
    opened.press("+")
    assert opened.run("return lockstep.map.cell") == before
    opened.press("2")
    assert opened.run("return lockstep.map.states_.grid.name") == "src"
    opened.press("f")
    assert opened.run("return lockstep.map.rows.length < lockstep.map.timeline.rows.length")
    assert opened.complaints() == []


def test_the_mouse_tells_exact_values(opened: Page) -> None:
    words = opened.run("""
        const map = lockstep.map;
        const box = map.scroller.getBoundingClientRect();
        const at = { clientX: box.left + map.left + map.cell * 1.5,
          clientY: box.top + lockstep.Map.HEAD + map.high * 4.5, bubbles: true };
        map.scroller.dispatchEvent(new MouseEvent("mousemove", at));
        const told = map.tip.hidden ? "" : map.tip.innerText;
        map.scroller.dispatchEvent(new MouseEvent("click", at));
        return told;""")
    assert "after operation 5" in words
    assert "access: 1" in words
    assert "5 write cbw" in opened.details()


def test_light_and_dark(opened: Page) -> None:
    first = opened.run("return getComputedStyle(document.documentElement).backgroundColor")
    opened.run("document.getElementById('theme').click()")
    assert opened.run("return getComputedStyle(document.documentElement).backgroundColor") != first
    assert opened.pixels() > 8


def test_the_reproducer_is_copied(opened: Page) -> None:
    opened.run("document.querySelector('button[data-copy=reproducer]').click()")
    selected = opened.run("""
        const part = document.querySelector('[data-part=reproducer]');
        return part.textContent;""")
    assert selected == "#!/bin/sh\necho '</script><b>'\n"
    assert opened.complaints() == []


def test_a_schedule_is_a_sequence_diagram(driver: Any, tmp_path: Path) -> None:
    page = Page(driver, tmp_path / "page.html", trace_page(forgotten()))
    bars = page.run("return document.querySelectorAll('.sequence .bar').length")
    assert bars >= 4
    assert page.run("return document.querySelector('.sequence .extra') !== null")
    assert page.run("return document.querySelector('.sequence .wait') !== null")
    assert "write src 0..64k" in page.run(
        "return document.querySelector('.sequence .note').textContent")
    assert page.complaints() == []


def test_what_differs_in_a_schedule_is_told_within_the_diagram(driver: Any,
                                                               tmp_path: Path) -> None:
    with window(driver, 1200):
        page = Page(driver, tmp_path / "page.html", trace_page(forgotten()))
        assert page.run("""
        const box = (name) => document.querySelector(name).getBoundingClientRect();
        const [note, frame] = [box('.sequence .note'), box('.sequence')];
        return frame.left <= note.left && note.right <= frame.right
          && note.bottom <= frame.bottom;""")


@pytest.mark.parametrize("html", [
    pytest.param(trace_page(lied()), id="trace"),
    pytest.param(trace_page(forgotten()), id="schedule"),
    pytest.param(campaign_page([RUN], []), id="campaign"),
    pytest.param(comparison_page(COMPARED), id="comparison"),
    pytest.param(golden_page(GOLDEN), id="golden")])
def test_a_narrow_window_shows_all_of_the_width(html: str, driver: Any, tmp_path: Path) -> None:
    """What is wide, as a table of many columns, is moved within the page, not with it."""
    with window(driver, 400):
        page = Page(driver, tmp_path / "page.html", html)
        assert page.run("return document.documentElement.scrollWidth") <= 400
        cut = page.run("""
            return [...document.querySelectorAll('.bars span, .table td, .three pre')]
              .filter((each) => each.scrollWidth > each.clientWidth && each.clientWidth)
              .map((each) => each.textContent);""")
        assert cut == []


def test_the_diagram_follows_the_map_and_the_map_the_diagram(driver: Any, tmp_path: Path) -> None:
    page = Page(driver, tmp_path / "page.html", trace_page(forgotten()))

    def chosen() -> tuple[str, str]:
        """What is written in the row that is marked, and what stands beside the map."""
        words = page.run("""
            const box = (each) => each.getBoundingClientRect();
            const mark = box(document.querySelector('.sequence .chosen'));
            const inside = (each) => mark.top <= box(each).top && box(each).bottom <= mark.bottom;
            return [...document.querySelectorAll('.sequence .said')].find(inside)
              .firstChild.textContent;""")
        return str(words), page.details()

    def agree() -> str:
        words, beside = chosen()
        assert words.rstrip("…") in beside.replace("\n", " ")
        return words

    last = agree()
    page.press("ArrowUp", "ArrowUp")
    assert agree() != last
    page.run("document.querySelector('.sequence').dispatchEvent("
             "new KeyboardEvent('keydown', {key: 'End', cancelable: true}))")
    assert agree() == last
    page.run("""
        const line = [...document.querySelectorAll('.sequence .said')].at(-3);
        const box = line.getBoundingClientRect();
        line.dispatchEvent(new MouseEvent('click', {clientY: box.top + 5, bubbles: true}));""")
    assert agree() != last
    assert page.complaints() == []


def test_paper_has_what_is_folded_and_says_what_it_lacks(driver: Any, tmp_path: Path) -> None:
    page = Page(driver, tmp_path / "page.html", trace_page(Told(long_trace(1000), replay="x")))
    folded = "return document.querySelectorAll('details:not([open])').length"
    before = page.run(folded)
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert before
    assert page.run(folded) == 0
    assert "Printed are operations 1 to 120, 120 of 1,000" in page.run(
        "return document.querySelector('.printed').textContent")
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run(folded) == before
    assert page.complaints() == []


def test_it_can_be_printed(opened: Page) -> None:
    assert opened.paper().startswith(b"%PDF")
    assert opened.complaints() == []
    opened.press("Home")
    assert "add-filter" in opened.details(), "afterwards all is as before"


def test_ten_thousand_operations_open_in_time(driver: Any, tmp_path: Path) -> None:
    page = Page(driver, tmp_path / "page.html", trace_page(Told(long_trace(10_000))))
    taken = int(page.run("return document.documentElement.dataset.ready")) / 1000
    assert page.complaints() == []
    page.press("End")
    assert "\n10000 " in page.details()
    assert taken < SECONDS, f"{taken} s"
