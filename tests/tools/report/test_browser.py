"""The page in a real browser, without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from run_folders import MakeRun

from adversarial_trainer.tools.report import write_comparison, write_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here")

FACTS = """() => ({
    durations: [...document.querySelectorAll("audio")].map((player) => player.duration),
    widths: [...document.images].map((image) => image.naturalWidth),
    charts: [...document.querySelectorAll(".chart img")].map((chart) => chart.clientWidth),
    captions: [...document.querySelectorAll("figcaption")].map((caption) => caption.innerText),
    figures: document.querySelectorAll("figure").length,
    overflow: document.documentElement.scrollWidth - innerWidth,
})"""
LOADED = """() => [...document.querySelectorAll("audio")].every((p) => p.readyState > 0 || p.error)
    && [...document.images].every((image) => image.complete)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio"]
        browser = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


class Visit:
    """A page that is open, and what it has complained about or asked for so far."""

    def __init__(self, browser: Any, path: Path, width: int = 1280, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_function(LOADED)
        self.facts = self.page.evaluate(FACTS)

    def check(self, players: int) -> None:
        assert self.complaints == []
        assert [url[:40] for url in self.requests if not url.startswith(("file:", "data:"))] == []
        assert len(self.facts["durations"]) == players
        assert len(self.facts["widths"]) == players + len(self.facts["charts"])
        assert all(self.facts["widths"])
        assert all(width > 250 for width in self.facts["charts"])
        assert len(self.facts["captions"]) == self.facts["figures"]
        assert all(len(caption) > 10 for caption in self.facts["captions"])
        assert self.facts["overflow"] <= 0  # wide tables scroll in themselves
        self.context.close()


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (360, "dark")])
def test_pages(browser: Any, make_run: MakeRun, tmp_path: Path, width: int, scheme: str) -> None:
    files = {"00_voice": 0.5, "01_long": 2.25, '02_<script>alert("x")<': 0.1}
    path = write_report(make_run(files=files, rate=12345))
    visit = Visit(browser, path, width, scheme)
    wanted = [seconds for seconds in files.values() for _ in range(3)]
    assert visit.facts["durations"] == pytest.approx(wanted, abs=0.01)
    assert len(visit.facts["charts"]) >= 15
    visit.check(players=9)
    stereo = make_run("22222222", rate=48000, channels=2)
    both = write_comparison([make_run("11111111"), stereo], tmp_path / "both.html")
    # The original, and both runs at each of two bandwidths.
    Visit(browser, both, width, scheme).check(players=5)


def test_one_plays_at_a_time_and_keys_go_to_other_versions(browser: Any, make_run: MakeRun) -> None:
    visit = Visit(browser, write_report(make_run("one", files={"00_a": 8.0, "01_b": 8.0})))
    page = visit.page
    playing = "() => [...document.querySelectorAll('audio')].map((p) => !p.paused)"
    times = "() => [...document.querySelectorAll('audio')].map((p) => p.currentTime)"
    pictures = page.locator(".picture")
    box = pictures.nth(1).bounding_box()
    pictures.nth(1).click(position={"x": box["width"] / 2, "y": 20})
    assert page.evaluate(playing) == [False, True, False, False, False, False]
    assert page.evaluate(times)[1] == pytest.approx(4, abs=1)
    page.keyboard.press("3")
    assert page.evaluate(playing) == [False, False, True, False, False, False]
    assert page.evaluate(times)[2] == pytest.approx(4, abs=1)
    pictures.nth(5).click(position={"x": 1, "y": 20})
    assert page.evaluate(playing) == [False, False, False, False, False, True]
    bars = page.locator(".switch")
    bars.nth(0).locator("button").nth(0).click()  # another file, from its beginning
    assert page.evaluate(playing) == [True, False, False, False, False, False]
    bars.nth(0).locator("button").nth(2).click()
    assert page.evaluate(playing) == [False, False, True, False, False, False]
    assert page.evaluate(times)[2] == pytest.approx(page.evaluate(times)[0], abs=1)
    pictures.nth(5).click(position={"x": 1, "y": 20})
    page.keyboard.press("9")  # there is none
    assert page.evaluate(playing)[5]
    visit.check(players=6)
    # No script but its own runs, even if something got past the escaping.
    path = write_report(make_run())
    path.write_text(path.read_text().replace("<main>", "<main><script>window.bad = 1</script>"))
    visit = Visit(browser, path)
    assert visit.page.evaluate("window.bad === undefined")
    assert any("Content Security Policy" in complaint for complaint in visit.complaints)
    visit.context.close()
