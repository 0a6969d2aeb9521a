"""Where each film went is on its page: delivered, refused, waiting; and it changes while one looks."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Page

import rollcam
from rollcam.errors import SinkError, SinkRefused
from rollcam.publish.entry import State
from rollcam.publish.ledger import FILE_NAME, Ledger
from rollcam.publish.sink import Delivery
from tests import barcode
from tests.browser import Browser
from tests.films import wait_until
from tests.gallery.page_rig import film, gallery, until, visit

SHOWN = """() => [...document.querySelectorAll('.deliveries li')].map(one =>
  [one.querySelector('.sink').firstChild.textContent, one.querySelector('.badge').textContent,
   one.querySelector('.reason')?.textContent ?? ''])"""


class Office:
    """A sink that refuses films with an odd seed, and takes no other before it opens."""

    name = "office"
    target = "<b>first</b> floor"

    def __init__(self) -> None:
        self.is_open = threading.Event()
        self.taken: list[str] = []

    def publish(self, delivery: Delivery) -> str:
        if (delivery.episode.seed or 0) % 2:
            raise SinkRefused("odd films are <i>not</i> wanted")
        if not self.is_open.is_set():
            raise SinkError("the office is closed")
        self.taken.append(delivery.episode.episode_id)
        return delivery.episode.name

    def stored(self, deliveries: Sequence[Delivery]) -> Collection[str] | None:
        return [d.episode.episode_id for d in deliveries if d.episode.episode_id in self.taken]

    def close(self) -> None:
        pass


@pytest.fixture
def quiet() -> Iterator[None]:
    """A sink that fails says so; here it is meant to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rollcam.RollcamWarning)
        yield


def opened(page: Page, url: str, seed: int) -> None:
    page.goto(f"{url}#/?in=seed%3D{seed}..{seed}")
    until(page, "() => document.querySelectorAll('.t-row .row-link[href]').length === 1")
    page.locator(".t-row .row-link").first.click()
    page.locator(".stage video").wait_for()


@pytest.mark.usefixtures("quiet")
def test_states_of_real_sinks_are_shown_and_change(browser: Browser, tmp_path: Path) -> None:
    videos, copies, office = tmp_path / "videos", tmp_path / "copies", Office()
    ledger = Ledger(videos / ".rollcam" / FILE_NAME)

    def state_is(seed: int, sink: str, state: State) -> bool:
        found = {e.sink: e.state for e in ledger.of_episode(episodes[seed].episode_id)}
        return found.get(sink) == state

    # A recorder of a process that stays, as a training does.
    recorder = rollcam.Recorder(
        videos, fps=30, env_id="Sent-v0", sinks=[f"folder:{copies}", office]
    )
    with recorder, gallery(videos) as url:
        episodes = [filmed(recorder, seed) for seed in range(2)]
        for seed, state in ((0, State.QUEUED), (1, State.FAILED)):
            wait_until(lambda s=seed: state_is(s, "folder", State.STORED), "the copy is there")
            wait_until(lambda s=seed, x=state: state_is(s, "office", x), f"the office says {state}")

        def job(page: Page) -> None:
            opened(page, url, 1)
            stored, failed = until(page, SHOWN)
            assert stored == ["folder", "stored", ""]
            assert failed[:2] == ["office", "failed"]
            assert "odd films are <i>not</i> wanted" in failed[2]
            assert office.target in page.locator(".deliveries").inner_text()

            opened(page, url, 0)
            until(page, f"() => ({SHOWN})()[1]?.[2].includes('the office is closed')")
            assert page.evaluate(SHOWN)[1][:2] == ["office", "queued"]
            page.evaluate("() => { document.querySelector('.stage').isThis = true }")
            office.is_open.set()
            until(page, f"() => ({SHOWN})()[1]?.[1] === 'stored'", limit_s=30)
            assert page.evaluate(SHOWN)[1] == ["office", "stored", ""]
            # Nothing else of the page was drawn anew.
            assert page.evaluate("() => document.querySelector('.stage').isThis")

        visit(browser, url, job, limit_s=90)


def filmed(recorder: rollcam.Recorder, seed: int) -> rollcam.Episode:
    recorder.begin(seed=seed)
    for step in range(4):
        recorder.frame(barcode.draw(step, 64, 48), reward=1.0)
    return recorder.end(terminated=True).result(timeout=30)


def test_a_film_that_is_sent_afterwards_gets_its_part(browser: Browser, tmp_path: Path) -> None:
    videos, copies = tmp_path / "videos", tmp_path / "copies"
    film(videos, 1, 3)
    command = [
        sys.executable,
        "-m",
        "rollcam",
        "publish",
        videos,
        "--to",
        "folder",
        "--dir",
        copies,
    ]

    with gallery(videos) as url:

        def job(page: Page) -> None:
            opened(page, url, 0)
            page.locator(".facts .figures").wait_for()
            assert not page.locator(".delivered").is_visible()
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            until(page, f"() => ({SHOWN})()[0]?.[1] === 'stored'")
            assert page.locator(".delivered").is_visible()

        visit(browser, url, job)
