"""An episode is watched while it is recorded, as film and as text, and becomes the finished one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

import rollcam
from tests import barcode
from tests.browser import Browser
from tests.gallery.page_rig import codes, gallery, settled, step_shown, until, visit


@contextlib.contextmanager
def recording(folder: Path, **settings: Any) -> Iterator[rollcam.Recorder]:
    with rollcam.Recorder(folder, fps=20, on_error="raise", **settings) as recorder:
        recorder.begin(seed=3)
        yield recorder


def add(recorder: rollcam.Recorder, first: int, last: int) -> None:
    for step in range(first, last + 1):
        recorder.frame(
            barcode.draw(step, 128, 96), reward=None if step == 0 else 1.0, action=step % 3
        )


def test_a_growing_film_is_followed_and_becomes_the_episode(
    browser: Browser, tmp_path: Path
) -> None:
    with gallery(tmp_path) as url, recording(tmp_path, env_id="Live-v0") as recorder:
        add(recorder, 0, 10)

        def job(page: Page) -> None:
            page.goto(url)
            page.locator(".live-chip").click()
            assert "Live" in page.locator(".badge.live").first.inner_text()
            until(page, "() => Number(document.querySelector('.scrub')?.max) >= 8")
            add(recorder, 11, 60)
            # The newest frame is shown by itself (what the encoder still holds may be missing).
            until(page, "() => Number(document.querySelector('.scrub').value) >= 57")
            settled(page)
            step = step_shown(page)
            assert codes(page) == [step]
            until(page, "() => document.querySelector('[data-lane=return]') !== null")
            until(page, "() => Number(document.querySelector('.figures dd').textContent) >= 57")
            # Looking back does not lose the place while the film grows.
            for _ in range(5):
                page.keyboard.press("Shift+ArrowLeft")
            settled(page)
            back = step_shown(page)
            assert back == step - 50
            assert codes(page) == [back]
            add(recorder, 61, 80)
            until(page, "() => Number(document.querySelector('.scrub').max) >= 77")
            assert step_shown(page) == back
            page.keyboard.press("f")
            until(page, "() => Number(document.querySelector('.scrub').value) >= 77")
            for _ in range(3):
                page.keyboard.press(",")
            settled(page)
            kept = step_shown(page)
            recorder.end(terminated=True).result(timeout=30)
            until(page, "() => location.hash.startsWith('#/watch/')")
            page.locator(".stage video").wait_for()
            until(page, "() => Number(document.querySelector('.scrub')?.max) === 80")
            until(page, f"() => Number(document.querySelector('.scrub').value) === {kept}")
            settled(page)
            assert codes(page) == [kept]

        visit(browser, url, job)


def test_growing_text_is_followed(browser: Browser, tmp_path: Path) -> None:
    with gallery(tmp_path) as url, recording(tmp_path, env_id="LiveText-v0") as recorder:
        recorder.frame("step 0")
        recorder.frame("step 1", reward=1.0)

        def job(page: Page) -> str:
            page.goto(url)
            page.locator(".live-chip").click()
            until(page, "() => document.querySelector('.tty')?.textContent.includes('step 1')")
            recorder.frame("a wider line: step 2\n\x1b[31mand another", reward=1.0)
            until(
                page,
                "() => document.querySelector('.tty')?.textContent.includes('wider line: step 2')",
            )
            page.keyboard.press(",")
            assert "step 1" in page.locator(".tty").inner_text()
            recorder.end(terminated=True).result(timeout=30)
            until(page, "() => location.hash.startsWith('#/watch/')")
            page.locator(".tty-line").first.wait_for()
            until(page, "() => document.querySelector('.tty')?.textContent.includes('step 1')")
            return page.locator("h1.title").inner_text()

        assert visit(browser, url, job) == "rl-video-episode-0"


def test_what_is_recorded_comes_and_goes_in_the_list(browser: Browser, tmp_path: Path) -> None:
    with gallery(tmp_path) as url:

        def job(page: Page) -> None:
            page.goto(url)
            page.locator(".holder .notice").wait_for()
            with recording(tmp_path, env_id="Coming-v0") as recorder:
                add(recorder, 0, 3)
                until(
                    page,
                    "() => document.querySelector('.live-chip')?.textContent.includes('Coming-v0')",
                )
                recorder.end(truncated=True).result(timeout=30)
            until(page, "() => document.querySelector('.live-chip') === null")
            until(page, "() => document.querySelector('.t-row .row-link[href]') !== null")

        visit(browser, url, job)
