"""An episode is opened, stepped, sought by its curves, and left again; every picture tells its frame."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

import rollcam
from tests.browser import Browser
from tests.gallery.page_rig import (
    codes,
    film,
    gallery,
    lane_values,
    settled,
    step_shown,
    until,
    visit,
)

N_STEPS = 40


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[rollcam.Episode]]]:
    folder = tmp_path_factory.mktemp("watched")
    episodes = film(folder, 4, N_STEPS)
    with gallery(folder) as url:
        yield url, episodes


def told_by_sidecar(episode: rollcam.Episode, frame: int) -> dict[str, float]:
    columns = json.loads(episode.steps_path.read_text())["columns"]
    return {name: values[frame] for name, values in columns.items()}


def as_number(text: str) -> float:
    return float(text.replace("\u2212", "-").replace("\u2009", ""))


def open_first(page: Page, url: str, *, sort: str = "episode_return") -> None:
    page.goto(f"{url}#/?sort={sort}")
    page.locator(".t-row .row-link").first.click()
    page.locator(".stage video").wait_for()
    until(page, "() => document.querySelectorAll('.lane').length >= 4")
    settled(page)


def test_steps_show_the_frame_and_its_values(
    browser: Browser, shelf: tuple[str, list[rollcam.Episode]]
) -> None:
    url, episodes = shelf

    def job(page: Page) -> list[tuple[int, int | None, dict[str, str]]]:
        open_first(page, url)
        seen = []
        for _ in range(10):
            page.keyboard.press(".")
            settled(page)
            seen.append((step_shown(page), codes(page)[0], lane_values(page)))
        page.keyboard.press(",")
        settled(page)
        seen.append((step_shown(page), codes(page)[0], lane_values(page)))
        return seen

    seen = visit(browser, url, job)
    assert [step for step, _, _ in seen] == [*range(1, 11), 9]
    for step, code, values in seen:
        assert code == step
        row = told_by_sidecar(episodes[0], step)
        for name in ("reward", "return", "info.height"):
            assert as_number(values[name]) == pytest.approx(row[name], rel=1e-3)
        parts = [as_number(part) for part in values["action"].split("  ")]
        assert parts == pytest.approx(row["action"], rel=1e-2)


def test_a_click_on_a_curve_goes_to_its_step(
    browser: Browser, shelf: tuple[str, list[rollcam.Episode]]
) -> None:
    url, _ = shelf

    def job(page: Page) -> list[tuple[int, int | None]]:
        open_first(page, url)
        box = page.locator("[data-lane='return']").bounding_box()
        assert box is not None
        seen = []
        for share in (0.25, 0.9, 0.5):
            page.mouse.click(box["x"] + box["width"] * share, box["y"] + 20)
            settled(page)
            seen.append((step_shown(page), codes(page)[0]))
        page.mouse.move(box["x"] + 20, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 20, steps=8)
        page.mouse.up()
        settled(page)
        seen.append((step_shown(page), codes(page)[0]))
        return seen

    seen = visit(browser, url, job)
    assert all(step == code for step, code in seen)
    for (step, _), share in zip(seen, (0.25, 0.9, 0.5, 0.75), strict=True):
        assert abs(step - share * N_STEPS) <= 1


def test_playback_tells_the_frame_that_is_shown(
    browser: Browser, shelf: tuple[str, list[rollcam.Episode]]
) -> None:
    url, _ = shelf

    def job(page: Page) -> tuple[int, int | None, int]:
        open_first(page, url)
        page.get_by_label("Speed").select_option("2")
        page.locator(".play").click()
        until(page, "() => Number(document.querySelector('.scrub').value) > 8")
        page.locator(".play").click()
        settled(page)
        paused = step_shown(page), codes(page)[0]
        page.keyboard.press(" ")
        until(page, f"() => Number(document.querySelector('.scrub').value) === {N_STEPS}")
        settled(page)
        return *paused, codes(page)[0] or 0

    step, code, last = visit(browser, url, job)
    assert step == code
    assert last == N_STEPS


def test_a_loop_begins_again(browser: Browser, shelf: tuple[str, list[rollcam.Episode]]) -> None:
    url, _ = shelf

    def job(page: Page) -> None:
        open_first(page, url)
        page.keyboard.press("l")
        page.keyboard.press("End")
        settled(page)
        page.keyboard.press(",")
        settled(page)
        page.keyboard.press(" ")
        until(
            page,
            "() => { const n = Number(document.querySelector('.scrub').value); return n > 2 && n < 30 }",
        )

    visit(browser, url, job)


def test_a_link_to_a_step_opens_there_in_a_new_tab(
    browser: Browser, shelf: tuple[str, list[rollcam.Episode]]
) -> None:
    url, _ = shelf

    def job(page: Page) -> tuple[int, int | None, str]:
        context = page.context.browser.new_context(
            permissions=["clipboard-read", "clipboard-write"]
        )
        try:
            return in_tabs(context.new_page())
        finally:
            context.close()

    def in_tabs(page: Page) -> tuple[int, int | None, str]:
        open_first(page, url)
        for _ in range(7):
            page.keyboard.press(".")
        page.keyboard.press("y")
        until(page, "() => document.getElementById('toast').classList.contains('shown')")
        link = page.evaluate("() => navigator.clipboard.readText()")
        other = page.context.new_page()
        other.goto(link)
        other.locator(".stage video").wait_for()
        until(other, "() => Number(document.querySelector('.scrub')?.value) === 7")
        settled(other)
        return step_shown(other), codes(other)[0], link

    step, code, link = visit(browser, url, job)
    assert (step, code) == (7, 7)
    assert link.startswith(url)
    assert "frame=7" in link


def test_next_better_and_back(browser: Browser, shelf: tuple[str, list[rollcam.Episode]]) -> None:
    url, episodes = shelf

    def job(page: Page) -> list[str]:
        open_first(page, url)
        titles = []
        for _ in range(2):
            titles.append(page.locator("h1.title").inner_text())
            page.locator("[data-way=better][href]").wait_for()
            page.keyboard.press("]")
            until(
                page,
                "title => !['…', title].includes(document.querySelector('h1.title').textContent)",
                titles[-1],
            )
        titles.append(page.locator("h1.title").inner_text())
        page.go_back()
        until(page, "title => document.querySelector('h1.title').textContent === title", titles[1])
        page.keyboard.press("Escape")
        page.locator(".t-row .row-link").first.wait_for()
        assert "sort=episode_return" in page.url
        return titles

    assert visit(browser, url, job) == [episode.name for episode in episodes[:3]]


def test_facts_and_download(browser: Browser, shelf: tuple[str, list[rollcam.Episode]]) -> None:
    url, episodes = shelf

    def job(page: Page) -> tuple[str, bytes]:
        open_first(page, url, sort="-episode_return")
        with page.expect_download() as download:
            page.get_by_role("link", name="Download").click()
        return page.locator(".facts").inner_text(), Path(download.value.path()).read_bytes()

    text, data = visit(browser, url, job)
    last = episodes[-1]
    assert data == last.media_path.read_bytes()
    squeezed = re.sub(r"\s+", " ", text)
    for said in (
        "Coded-v0",
        last.run_id,
        last.episode_id,
        "num_env_steps",
        "3000",
        "truncated",
        "128 \u00d7 96",
    ):
        assert said in squeezed.replace("\u2009", "").replace("3 000", "3000"), said


def test_an_episode_without_a_film_says_so(browser: Browser, tmp_path: Path) -> None:
    with rollcam.Recorder(tmp_path, env_id="Dropped-v0", keep=lambda episode: False) as recorder:
        recorder.begin()
        recorder.end(terminated=True).result(timeout=30)

    with gallery(tmp_path) as url:

        def job(page: Page) -> str:
            page.goto(url)
            page.locator(".t-row .row-link").first.click()
            page.locator(".stage .notice").wait_for()
            missing = page.locator(".stage").inner_text()
            page.goto(f"{url}#/watch/nobody!here")
            page.locator(".watch > .notice").wait_for()
            assert "Back to the episodes" in page.locator(".notice").inner_text()
            return missing

        assert "There is no film" in visit(browser, url, job)


def test_a_film_of_a_lower_rate_steps_through_every_frame(browser: Browser, tmp_path: Path) -> None:
    film(tmp_path, 1, 30, fps=30, output_fps=10)
    with gallery(tmp_path) as url:

        def job(page: Page) -> list[tuple[int, int | None, str]]:
            open_first(page, url)
            seen = []
            for _ in range(7):
                page.keyboard.press(".")
                settled(page)
                seen.append((step_shown(page), codes(page)[0], lane_values(page)["info.height"]))
            return seen

        seen = visit(browser, url, job)
    assert [step for step, _, _ in seen] == list(range(1, 8))
    for step, code, height in seen:
        assert code is not None
        assert 0 <= step - code <= 2  # the picture that stands at its time
        assert as_number(height) == pytest.approx(step * 0.25)
