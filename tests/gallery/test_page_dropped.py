"""Films with dropped frames: the page counts true steps, and values and picture belong to them."""

from __future__ import annotations

import itertools
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

import rollcam
from rollcam.errors import DroppedFramesWarning
from tests import barcode
from tests.browser import Browser
from tests.gallery.page_rig import (
    codes,
    gallery,
    lane_values,
    settled,
    step_shown,
    until,
    visit,
)

N_STEPS = 80
SIZE = (960, 720)
# Steps before which the encoder has done all; what comes right after one of them finds it busy.
CALM = [0, 1, 2, 3, 24, 50, 51, 52, 79, 80]


def recording(folder: Path, **settings: Any) -> rollcam.Recorder:
    return rollcam.Recorder(
        folder, fps=30, env_id="Sparse-v0", info_keys=("height",), on_full="drop", queue_bytes=1,
        **settings,
    )  # fmt: skip


def film_fast(recorder: rollcam.Recorder, steps: Iterable[int]) -> None:
    """Film faster than the encoder can, but for the steps that it is waited for."""
    for step in steps:
        if step in CALM:
            recorder.flush(30)
        picture = barcode.draw(step, *SIZE)
        recorder.frame(picture, reward=None if step == 0 else 1.0, info={"height": step / 4})


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Dropped frames are told of; here they are meant to be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DroppedFramesWarning)
        yield


def filmed(folder: Path, n: int = 1) -> list[rollcam.Episode]:
    episodes = []
    with recording(folder) as recorder:
        for _ in range(n):
            recorder.begin()
            film_fast(recorder, range(N_STEPS + 1))
            episodes.append(recorder.end(terminated=True).result(timeout=30))
    return episodes


def kept(episode: rollcam.Episode) -> list[int]:
    """Return the steps whose pictures are in the film; some are missing, and runs of them."""
    steps = [barcode.read(frame) for _, frame in barcode.decode(episode.media_path)]
    assert set(CALM) <= set(steps)
    assert episode.n_dropped == N_STEPS + 1 - len(steps)
    assert max(after - before for before, after in itertools.pairwise(steps)) > 2
    return steps


def picture_at(steps: list[int], step: int) -> int:
    """Return whose picture is shown at a step: the last one that was not lost."""
    return steps[bisect_right(steps, step) - 1]


def opened(page: Page, url: str) -> None:
    page.goto(url)
    page.locator(".t-row .row-link").first.click()
    page.locator(".stage video").wait_for()
    until(page, "() => document.querySelectorAll('.lane').length === 3")
    settled(page)


def test_steps_are_the_true_ones(browser: Browser, tmp_path: Path) -> None:
    (episode,) = filmed(tmp_path)
    steps = kept(episode)

    def job(page: Page) -> list[tuple[int, int | None, str]]:
        opened(page, url)
        assert page.locator(".scrub").get_attribute("max") == str(N_STEPS)
        seen = []
        for key in [*"." * 30, "Home", *["Shift+ArrowRight"] * 7, ".", ".", ",", "End"]:
            page.keyboard.press(key)
            settled(page)
            seen.append((step_shown(page), codes(page)[0], lane_values(page)["info.height"]))
        return seen

    with gallery(tmp_path) as url:
        seen = visit(browser, url, job)
    wanted = [*range(1, 31), 0, *range(10, 80, 10), 71, 72, 71, 80]
    assert [step for step, _, _ in seen] == wanted
    assert [code for _, code, _ in seen] == [picture_at(steps, step) for step in wanted]
    assert [float(text) for _, _, text in seen] == pytest.approx(
        [step / 4 for step in wanted], rel=1e-3
    )


# Notes at each picture that is presented: the step of the bar, and that of the picture's time.
NOTE = """() => {
  window.notes = [];
  const video = document.querySelector('.stage video');
  const note = (_, { mediaTime }) => {
    const step = Math.floor(mediaTime * 30 + 0.02);
    requestAnimationFrame(() => window.notes.push([step, Number(document.querySelector('.scrub').value)]));
    video.requestVideoFrameCallback(note);
  };
  video.requestVideoFrameCallback(note);
}"""


def test_playback_keeps_the_values_with_the_pictures(browser: Browser, tmp_path: Path) -> None:
    (episode,) = filmed(tmp_path)
    steps = kept(episode)

    def job(page: Page) -> tuple[list[list[int]], int, int | None, int | None]:
        opened(page, url)
        page.evaluate(NOTE)
        page.keyboard.press(" ")
        until(page, "() => Number(document.querySelector('.scrub').value) >= 24")
        page.keyboard.press(" ")
        settled(page)
        paused, code = step_shown(page), codes(page)[0]
        page.keyboard.press(" ")
        until(page, f"() => Number(document.querySelector('.scrub').value) === {N_STEPS}")
        until(page, "() => document.querySelector('.play').dataset.shows === 'play'")
        settled(page)
        return page.evaluate("() => window.notes"), paused, code, codes(page)[0]

    with gallery(tmp_path) as url:
        notes, paused, code, last = visit(browser, url, job)
    assert code == picture_at(steps, paused)
    assert last == N_STEPS
    assert {picture for picture, _ in notes} <= {*steps, N_STEPS}
    # What is noted at a picture's frame of the screen is that picture, or the one that came meanwhile.
    assert sum(picture == bar for picture, bar in notes) >= 0.8 * len(notes)
    assert all(
        0 <= steps.index(bar) - steps.index(picture) <= 1 for picture, bar in notes if bar in steps
    )


def test_sparse_films_side_by_side(browser: Browser, tmp_path: Path) -> None:
    films = [kept(episode) for episode in filmed(tmp_path, 2)]

    def job(page: Page) -> list[tuple[int, list[int | None]]]:
        page.goto(f"{url}#/?sort=started_at")
        until(page, "() => document.querySelectorAll('.t-row .row-link[href]').length === 2")
        for key in ("ArrowDown", "x", "ArrowDown", "x", "c"):
            page.keyboard.press(key)
        page.locator(".cell video").nth(1).wait_for()
        until(page, "() => document.querySelectorAll('.lane').length === 2")
        settled(page)
        seen = []
        for key in (".", *["Shift+ArrowRight"] * 6, "End"):
            page.keyboard.press(key)
            settled(page)
            seen.append((step_shown(page), codes(page, ".cell video")))
        return seen

    with gallery(tmp_path) as url:
        seen = visit(browser, url, job)
    assert [step for step, _ in seen] == [1, 11, 21, 31, 41, 51, 61, 80]
    for step, shown in seen:
        assert shown == [picture_at(steps, step) for steps in films]


def test_a_sparse_film_is_followed_as_it_grows(browser: Browser, tmp_path: Path) -> None:
    with gallery(tmp_path) as url, recording(tmp_path) as recorder:
        recorder.begin()
        film_fast(recorder, range(25))

        def job(page: Page) -> list[tuple[int, int | None]]:
            page.goto(url)
            page.locator(".live-chip").click()
            seen = []
            for first, last in ((25, 51), (52, 52), (53, N_STEPS)):
                film_fast(recorder, range(first, last + 1))
                until(page, f"() => Number(document.querySelector('.scrub')?.value) === {last}")
                settled(page)
                seen.append((step_shown(page), codes(page)[0]))
            for key in (",", *["Shift+ArrowLeft"] * 7, ".", "."):
                page.keyboard.press(key)
                settled(page)
                seen.append((step_shown(page), codes(page)[0]))
            return seen

        seen = visit(browser, url, job)
        episode = recorder.end(terminated=True).result(timeout=30)
    steps = kept(episode)
    assert [step for step, _ in seen] == [51, 52, 80, 79, *range(69, 0, -10), 10, 11]
    assert [code for _, code in seen] == [picture_at(steps, step) for step, _ in seen]
