"""An episode is found among others: search, filters, order, the scatter, the keyboard, the address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from playwright.sync_api import Page

import rollcam
from tests import barcode
from tests.browser import Browser
from tests.gallery.page_rig import film, gallery, until, visit

N = 12
TOTAL = N + 3 + 1


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("found")
    film(folder, N, 5, env_id="Coded-v0", metadata={"note": "first try"})
    film(folder, 3, 5, env_id="Other-v1", mode="eval", metadata={"note": "second try"}, first=20)
    with rollcam.Recorder(folder, env_id="Wild-v0", name_prefix="wild") as recorder:
        recorder.begin()
        recorder.frame(barcode.draw(1, 64, 48))
        recorder.frame(barcode.draw(1, 64, 48), reward=900.0)
        recorder.end(terminated=True).result(timeout=30)
    with gallery(folder) as address:
        yield address


def column(page: Page, name: str) -> list[str]:
    """Return a column of the rows that are shown, from the top."""
    script = """(rows, name) => rows.filter(r => !r.hidden && r.row).sort((a, b) => a.offset - b.offset)
        .map(r => r.querySelector(`[data-column=${name}]`).textContent)"""
    return list(page.eval_on_selector_all(".t-row", script, name))


def opened(page: Page, address: str, n: int | None = None) -> None:
    page.goto(address)
    until(page, "() => document.querySelectorAll('.t-row .row-link[href]').length > 0")
    until(page, "() => document.querySelector('.filters').checkValidity()")
    if n is not None:
        counted(page, n)


def counted(page: Page, n: int) -> None:
    until(page, "n => document.querySelector('.count-line').textContent.startsWith(`${n} `)", n)
    if n:
        until(
            page,
            "n => [...document.querySelectorAll('.t-row')].filter(r => !r.hidden && r.row).length >= Math.min(n, 5)",
            n,
        )


def test_filter_sort_search_and_back(browser: Browser, url: str) -> None:
    def job(page: Page) -> None:
        opened(page, url, TOTAL)
        page.locator(".choice", has_text="Coded-v0").click()
        counted(page, N)
        page.get_by_role("button", name="Return", exact=True).click()
        until(
            page,
            "() => document.querySelector('[aria-sort=descending] .sort')?.dataset.column === 'episode_return'",
        )
        until(
            page,
            "() => document.querySelector('#row-0 [data-column=episode_return]').textContent === '60'",
        )
        best = [float(text) for text in column(page, "episode_return")]
        assert best == sorted(best, reverse=True)
        page.get_by_role("button", name="Return", exact=True).click()
        until(
            page,
            "() => document.querySelector('#row-0 [data-column=episode_return]').textContent === '5'",
        )
        page.get_by_label("Return at least").fill("20")
        page.get_by_label("Return at most").fill("40")
        page.keyboard.press("Enter")
        counted(page, 5)
        assert column(page, "episode_return") == ["20", "25", "30", "35", "40"]
        assert "in=episode_return=20..40" in unquote(page.url)
        page.go_back()
        counted(page, 9)
        page.go_back()
        counted(page, N)
        for _ in range(3):
            page.go_back()
        counted(page, TOTAL)
        page.go_forward()
        counted(page, N)
        page.keyboard.press("Escape")  # out of the field
        page.keyboard.press("/")
        page.keyboard.type("nothing of the kind")
        until(
            page,
            "() => document.querySelector('.holder .notice')?.textContent.includes('No episode matches')",
        )
        page.get_by_role("button", name="Clear all filters").click()
        counted(page, TOTAL)
        page.locator(".search").fill("SECOND try")
        counted(page, 3)
        assert set(column(page, "mode")) == {"eval"}

    visit(browser, url, job)


def test_the_address_alone_brings_it_all_back(browser: Browser, url: str) -> None:
    def job(page: Page) -> list[str]:
        opened(page, f"{url}#/?is=env_id%3DCoded-v0&in=seed%3D3..6&sort=-seed&q=first", 4)
        assert page.locator(".search").input_value() == "first"
        assert page.locator(".choice", has_text="Coded-v0").locator("input").is_checked()
        assert page.get_by_label("Seed at least").input_value() == "3"
        return column(page, "seed")

    assert visit(browser, url, job) == ["6", "5", "4", "3"]


def test_by_keyboard_alone(browser: Browser, url: str) -> None:
    def job(page: Page) -> tuple[str, str]:
        opened(page, url, TOTAL)
        page.keyboard.press("b")
        until(
            page,
            "() => document.querySelector('#row-0 [data-column=episode_return]')?.textContent === '900'",
        )
        page.keyboard.press("?")
        page.get_by_role("dialog").wait_for()
        page.keyboard.press("Escape")
        until(page, "() => !document.getElementById('help').open")
        for _ in range(3):
            page.keyboard.press("ArrowDown")
        page.keyboard.press("x")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("x")
        until(page, "() => document.querySelector('.tray').textContent.includes('Compare 2')")
        name = page.locator(".t-row.selected .row-link").inner_text()
        page.keyboard.press("Enter")
        until(page, "() => document.querySelector('.watch h1')?.textContent.length > 1")
        until(page, "() => document.querySelector('.watch h1').textContent !== '…'")
        title = page.locator(".watch h1").inner_text()
        page.keyboard.press("Escape")
        page.locator(".t-row.selected").wait_for()
        assert page.locator(".t-row.selected .row-link").inner_text() == name
        page.keyboard.press("c")
        page.locator(".cell").nth(1).wait_for()
        page.keyboard.press("Escape")
        page.locator(".t-row").first.wait_for()
        page.keyboard.press("g")
        page.locator(".card").first.wait_for()
        page.keyboard.press("End")
        until(page, f"() => document.querySelector('.selected')?.id === 'row-{TOTAL - 1}'")
        return name.replace("\n", ""), title

    name, title = visit(browser, url, job)
    assert name == title


def hovered(page: Page, box: Any, text: str) -> bool:
    """Find a point as a hand would: the pointer says when it is over one. It may still be drawn."""
    for _ in range(50):
        for dx in range(58, 90, 3):
            page.mouse.move(box["x"] + dx, box["y"] + 15)
            if text in page.locator(".tip").inner_text():
                return True
        page.wait_for_timeout(100)
    return False


def test_the_scatter_filters_and_opens(browser: Browser, url: str) -> None:
    def job(page: Page) -> None:
        opened(page, f"{url}#/?x=episode_index", TOTAL)
        until(
            page,
            "() => document.querySelector('.scatter-canvas').getAttribute('aria-label').includes('16 episodes')",
        )
        page.wait_for_timeout(100)
        box = page.locator(".scatter .over").bounding_box()
        assert box is not None
        # The wild one lies alone at the top left; a box around the bottom leaves it out.
        page.mouse.move(box["x"] + 62, box["y"] + box["height"] * 0.5)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 4, box["y"] + box["height"] - 23, steps=5)
        page.mouse.up()
        counted(page, TOTAL - 1)
        assert page.get_by_label("Return at most").input_value() != ""
        page.go_back()
        counted(page, TOTAL)
        page.get_by_role("button", name="Outliers").click()
        counted(page, 1)
        assert column(page, "env_id") == ["Wild-v0"]
        page.go_back()
        counted(page, TOTAL)
        assert hovered(page, box, "900"), "the pointer is never over the wild one"
        page.mouse.down()
        page.mouse.up()
        until(page, "() => document.querySelector('.watch h1')?.textContent.startsWith('wild')")

    visit(browser, url, job)


def test_the_grid_has_posters_and_plays(browser: Browser, url: str) -> None:
    def job(page: Page) -> None:
        page.goto(f"{url}#/?view=grid")
        page.locator(".card").first.wait_for()
        until(page, "() => document.querySelectorAll('.poster.loaded').length >= 8")
        page.locator(".card-slot").first.hover()
        until(
            page,
            "() => { const v = document.querySelector('.card-film video'); return v && v.currentTime > 0 }",
        )
        page.mouse.move(5, 5)
        until(page, "() => !document.querySelector('.card-film video')")
        page.get_by_role("button", name="Play all").click()
        until(
            page,
            "() => [...document.querySelectorAll('.card-film video')].filter(v => v.currentTime > 0).length >= 8",
        )
        page.get_by_role("button", name="Play all").click()
        until(page, "() => !document.querySelector('.card-film video')")

    visit(browser, url, job)


def test_a_text_episode_shows_its_middle_screen_in_the_grid(
    browser: Browser, tmp_path: Path
) -> None:
    film(tmp_path, 1, 2)
    with rollcam.Recorder(tmp_path, env_id="Text-v0", name_prefix="text") as recorder:
        recorder.begin()
        for screen in ("first", "in the \x1b[31mmiddle", "last"):
            recorder.frame(screen, reward=0.0)
        recorder.end(terminated=True).result(timeout=30)

    def job(page: Page) -> None:
        page.goto(f"{address}#/?view=grid&sort=-name")
        page.locator(".card .still").wait_for()
        card = page.locator(".card", has_text="text-episode-0")
        assert card.locator(".tty").inner_text().split("\n")[0].strip() == "in the middle"
        assert page.locator(".still").count() == 1
        card.hover()
        until(page, "() => document.querySelectorAll('.card-film .tty').length === 2")
        page.mouse.move(5, 5)
        until(page, "() => document.querySelectorAll('.card-film .tty').length === 1")
        # The same card shows another episode: the screen goes with its own.
        page.keyboard.press("w")
        until(page, "() => document.querySelectorAll('.card .still').length === 1")
        assert card.locator(".still").count() == 1

    with gallery(tmp_path) as address:
        visit(browser, address, job)


def test_a_new_episode_arrives_and_nothing_moves(browser: Browser, tmp_path: Path) -> None:
    film(tmp_path, 40, 1, size=(32, 32))

    with gallery(tmp_path) as address:

        def job(page: Page) -> None:
            opened(page, address, 40)
            # Untouched, at the top: the newest stands there by itself.
            film(tmp_path, 1, 1, size=(32, 32), first=40)
            counted(page, 41)
            until(
                page,
                "() => document.querySelector('#row-0 [data-column=seed]')?.textContent === '40'",
            )
            # Somebody is reading: what they look at stays where it is, and a button says what is new.
            for _ in range(4):
                page.keyboard.press("ArrowDown")
            before = page.locator(".t-row.selected").get_attribute("data-id")
            film(tmp_path, 2, 1, size=(32, 32), first=41)
            page.get_by_role("button", name="2 new").wait_for()
            assert page.locator(".t-row.selected").get_attribute("data-id") == before
            assert page.locator(".t-row.selected").get_attribute("id") == "row-3"
            page.get_by_role("button", name="2 new").click()
            counted(page, 43)
            until(
                page,
                "() => document.querySelector('#row-0 [data-column=seed]')?.textContent === '42'",
            )

        visit(browser, address, job)


def test_rows_stay_while_new_ones_are_on_their_way(browser: Browser, url: str) -> None:
    # More may arrive before what came last has been answered.
    script = """async () => {
      const { Rows } = await import(new URL('js/rows.js', document.baseURI).href);
      const waiting = [];
      const list = (question, offset, limit, { signal }) => new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => reject(new Error('aborted')));
        waiting.push((id) => resolve({ generation: id, total: 1, rows: [{ id }] }));
      });
      const rows = new Rows({ list }), seen = [];
      const asked = rows.ask(new URLSearchParams());
      waiting.at(-1)('first');
      await asked;
      const overtaken = rows.refresh(), last = rows.refresh();
      await overtaken;
      seen.push(rows.at(0)?.id ?? null);
      waiting.at(-1)('second');
      await last;
      seen.push(rows.at(0)?.id ?? null);
      return seen;
    }"""

    def job(page: Page) -> list[str | None]:
        page.goto(url)
        return list(page.evaluate(script))

    assert visit(browser, url, job) == ["first", "second"]


def test_an_empty_folder_says_what_to_do(browser: Browser, tmp_path: Path) -> None:
    with gallery(tmp_path) as address:

        def job(page: Page) -> str:
            page.goto(address)
            page.locator(".holder .notice").wait_for()
            return page.locator(".holder .notice").inner_text()

        assert "rollcam.RecordVideo" in visit(browser, address, job)


def test_a_gallery_that_ended_is_told_of(browser: Browser, tmp_path: Path) -> None:
    film(tmp_path, 1, 1, size=(32, 32))
    with gallery(tmp_path) as address:

        def job(page: Page) -> None:
            opened(page, address, 1)

        visit(browser, address, job)

    def gone(page: Page) -> str:
        page.route("**/api/list.json*", lambda route: route.abort())
        page.goto(address)
        page.locator(".holder .notice").wait_for()
        return page.locator(".holder .notice").inner_text()

    with gallery(tmp_path) as address:
        assert "does not answer" in browser.on_page(gone)
