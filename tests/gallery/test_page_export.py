"""An exported gallery works from a host of plain files, in a sub-folder, without byte ranges."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

import rollcam
from rollcam.gallery.export import export
from tests.browser import Browser
from tests.gallery.page_rig import codes, film, gallery, settled, step_shown, until, visit

N = 6


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The same folder served, and exported: both addresses."""
    folder = tmp_path_factory.mktemp("exported")
    film(folder, N, 20)
    film(folder, 2, 10, env_id="Other-v1", first=30, mode="eval")
    with rollcam.Recorder(folder, env_id="Text-v0", name_prefix="text") as recorder:
        recorder.begin()
        recorder.frame("hello")
        recorder.frame("\x1b[32mworld", reward=-1.0)
        recorder.end(terminated=True).result(timeout=30)
    site = tmp_path_factory.mktemp("www") / "deep" / "site"
    site.parent.mkdir()
    export([folder], site)
    handler = functools.partial(Quiet, directory=site.parent.parent)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, name="plain-files")
    thread.start()
    try:
        with gallery(folder) as url:
            yield url, f"http://127.0.0.1:{server.server_address[1]}/deep/site/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_it_finds_watches_and_compares(browser: Browser, sites: tuple[str, str]) -> None:
    _, site = sites

    def job(page: Page) -> None:
        page.goto(site)
        until(
            page, f"() => document.querySelector('.count-line')?.textContent === '{N + 3} episodes'"
        )
        page.locator(".choice", has_text="Coded-v0").click()
        until(page, f"() => document.querySelector('.count-line').textContent.startsWith('{N} of')")
        page.get_by_role("button", name="Best").click()
        until(
            page, "() => document.querySelector('#row-0 [data-column=seed]')?.textContent === '5'"
        )
        page.locator("#row-0 .row-link").click()
        page.locator(".stage video").wait_for()
        until(page, "() => document.querySelectorAll('.lane').length >= 4")
        settled(page)
        for step in (1, 2, 3):
            page.keyboard.press(".")
            settled(page)
            assert (step_shown(page), codes(page)) == (step, [step])
        page.locator("[data-way=worse][href]").wait_for()
        page.keyboard.press("[")
        until(page, "() => document.querySelector('h1.title').textContent === 'coded-0-episode-4'")
        page.go_back()
        page.go_back()
        page.get_by_role("button", name="Stages").click()
        page.locator(".cell video").nth(N - 1).wait_for()
        settled(page)
        page.keyboard.press("End")
        settled(page)
        assert codes(page, ".cell video") == [20] * N
        page.goto(f"{site}#/?view=grid&is=env_id%3DCoded-v0")
        until(page, "() => document.querySelector('.poster.loaded') !== null")
        page.locator(".card-slot").first.hover()
        until(page, "() => document.querySelector('.card-film video')?.currentTime > 0")
        page.goto(f"{site}#/?q=text-v0")
        until(page, "() => document.querySelector('.count-line')?.textContent.startsWith('1 of')")
        page.locator("#row-0 .row-link").click()
        until(page, "() => document.querySelector('.tty')?.textContent.includes('hello')")

    visit(browser, site, job)


QUESTIONS = [
    "",
    "is=env_id=Coded-v0&sort=-seed",
    "in=episode_return=30..70",
    "in=episode_return=..60&sort=episode_return",
    "is=mode=eval&is=mode=train&q=CODED",
    "is=terminated=true&sort=env_id&sort=-episode_length",
    "is=seed=",
    "sort=-seed",
    "sort=seed",
    "in=context_at_end.num_env_steps=2000..",
]


def test_it_answers_questions_as_the_server_does(browser: Browser, sites: tuple[str, str]) -> None:
    url, site = sites
    ask = """async (questions) => {
      const { openSource } = await import(new URL('js/source.js', document.baseURI).href);
      const source = await openSource();
      const told = [];
      for (const text of questions) {
        const question = new URLSearchParams(text);
        const { total, rows } = await source.list(question, 0, 100);
        const { values, ranges } = await source.facets(question);
        const points = await source.points(question, 'step_index', 'episode_return');
        const beside = await source.neighbours(rows[0].id, question);
        told.push({ total, ids: rows.map(row => row.id), env: values.env_id.map(String).sort(),
          ranges: ranges.episode_return, ys: points.ys, n: points.n,
          beside: Object.fromEntries(Object.entries(beside).map(([way, row]) => [way, row?.id ?? null])) });
      }
      return told;
    }"""

    def asked(address: str) -> list[dict[str, Any]]:
        def on(page: Page) -> list[dict[str, Any]]:
            page.goto(address)
            page.locator(".t-row").first.wait_for()
            return list(page.evaluate(ask, QUESTIONS))

        return visit(browser, address, on)

    for question, served, plain in zip(QUESTIONS, asked(url), asked(site), strict=True):
        assert plain == served, question


def test_the_file_itself_says_what_it_needs(browser: Browser, tmp_path: Path) -> None:
    page_file = Path(rollcam.__file__).parent / "gallery" / "static" / "index.html"
    text = page_file.read_text()
    # Opened from the disk no script runs at all; what is seen then stands in the file.
    assert "web server" in text
