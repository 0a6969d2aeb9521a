"""The page in Debian's Firefox, over a real `rollcam serve`: find, watch, compare, live, text, looks."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rollcam
from tests import barcode
from tests.firefox import Firefox, Tab, find_firefox, is_offered
from tests.gallery.page_rig import READ_CODE, TASK, film
from tests.gallery.test_page_compare import SAMPLE
from tests.gallery.test_page_looks import CHECK

N_FILMS = 6
N_STEPS = 45
CLOSE_TIMEOUT_S = 20.0
# Read before the tests lose the settings of whoever runs them.
PICTURES = os.environ.get("ROLLCAM_PICTURES")
TEXTS = ("\x1b[41mS\x1b[0mFFF\nFHFH", "(Right)\nS\x1b[1;31mF\x1b[0mFF\nFHFH", "done")
NAMES = """() => [...document.querySelectorAll('.t-row')].filter(r => !r.hidden && r.dataset.id)
  .sort((a, b) => a.offset - b.offset).map(r => r.querySelector('.row-link').textContent)"""
STEP = "() => Number(document.querySelector('.scrub')?.value ?? -1)"
TITLE = "() => document.querySelector('h1.title')?.textContent"
SETTLED = """() => [...document.querySelectorAll('video')].every(v => !v.seeking && v.readyState >= 2)
  && new Promise(d => requestAnimationFrame(() => requestAnimationFrame(() => d(true))))"""
VALUES = """() => Object.fromEntries([...document.querySelectorAll('.lane')].map(l =>
  [l.querySelector('.lane-name').textContent, l.querySelector('.lane-value').textContent]))"""

pytestmark = pytest.mark.skipif(
    find_firefox() is None and not is_offered(), reason="no Firefox on this machine"
)


@contextlib.contextmanager
def served(*folders: Path) -> Iterator[str]:
    """Run `rollcam serve` as a process of its own; yields its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rollcam", "serve", *folders, "--no-browser", "--port", "0"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        address = re.search(r"http://\S+/", told)
        assert address is not None, told
        yield address[0]
    finally:
        process.terminate()
        try:
            process.communicate(timeout=CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise


@pytest.fixture(scope="module")
def firefox() -> Iterator[Firefox]:
    try:
        opened = Firefox()
    except FileNotFoundError as error:
        pytest.fail(str(error), pytrace=False)
    with opened:
        yield opened


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[rollcam.Episode]]]:
    folder = tmp_path_factory.mktemp("firefox")
    episodes = film(folder, N_FILMS, N_STEPS, fps=15)
    episodes += film(folder, 2, 10, first=20, env_id="Other-v0", mode="eval")
    with rollcam.Recorder(folder, fps=4, env_id="Text-v0", name_prefix="text") as recorder:
        recorder.begin()
        for step, screen in enumerate(TEXTS):
            recorder.frame(screen, reward=None if step == 0 else 1.0)
        episodes.append(recorder.end(terminated=True).result(timeout=30))
    with served(folder) as url:
        yield url, episodes


def codes(tab: Tab, selector: str = ".stage video") -> list[int | None]:
    """Read the bar codes of the pictures shown now."""
    tab.until(SETTLED)
    read = f"(task, css) => ({READ_CODE})([...document.querySelectorAll(css)], task)"
    return list(tab.evaluate(read, TASK, selector))


def listed(tab: Tab, names: list[str]) -> None:
    """Wait until the list holds these, in this order."""
    tab.until(f"(names) => JSON.stringify(({NAMES})()) === JSON.stringify(names)", names)


def watched(tab: Tab, url: str, question: str = "sort=episode_return&is=env_id%3DCoded-v0") -> None:
    """Open the first episode of a list."""
    tab.go(f"{url}#/?{question}")
    tab.until("() => document.querySelector('.t-row .row-link[href]')?.href")
    tab.click(".t-row .row-link")
    tab.until("() => document.querySelectorAll('.lane').length >= 4")
    tab.until(SETTLED)


def as_number(text: str) -> float:
    return float(text.replace("\u2212", "-").replace("\u2009", ""))


def test_find_filter_and_sort(firefox: Firefox, shelf: tuple[str, list[rollcam.Episode]]) -> None:
    url, episodes = shelf
    newest = [episode.name for episode in reversed(episodes)]
    with firefox.tab() as tab:
        tab.go(url)
        listed(tab, newest)
        tab.click(".sort[data-column=episode_return]")
        best = sorted(episodes, key=lambda episode: -(episode.episode_return or 0))
        listed(tab, [episode.name for episode in best])
        tab.click("[data-key='env_id=Other-v0'] input")
        listed(tab, [episode.name for episode in best if episode.env_id == "Other-v0"])
        tab.back()
        listed(tab, [episode.name for episode in best])
        tab.click(".search")
        tab.press(*"text")
        listed(tab, ["text-episode-0"])


def test_all_cards_of_the_grid_play(
    firefox: Firefox, shelf: tuple[str, list[rollcam.Episode]]
) -> None:
    url, episodes = shelf
    with firefox.tab() as tab:
        tab.go(f"{url}#/?view=grid")
        n = len(episodes) - 1
        tab.until("(n) => document.querySelectorAll('.poster.loaded').length === n", n)
        tab.until("() => document.querySelector('.card .still .tty-line')")
        tab.evaluate(
            "() => [...document.querySelectorAll('button')].find(b => b.textContent === 'Play all').click()"
        )
        tab.until(
            "(n) => [...document.querySelectorAll('.card-film video')].filter(v => v.currentTime > 0).length === n",
            n,
        )


def test_an_episode_plays_and_steps(
    firefox: Firefox, shelf: tuple[str, list[rollcam.Episode]]
) -> None:
    url, episodes = shelf
    columns = episodes[0].read_steps()
    with firefox.tab() as tab:
        watched(tab, url)
        assert tab.evaluate("() => document.querySelector('.stage video').videoWidth") == 128
        for step in range(1, 11):
            tab.press(".")
            assert codes(tab) == [step]
            assert tab.evaluate(STEP) == step
            values = tab.evaluate(VALUES)
            for name in ("reward", "return", "info.height"):
                assert as_number(values[name]) == pytest.approx(columns[name][step], rel=1e-3)
        tab.press(" ")
        tab.until(f"() => ({STEP})() > 16")
        assert tab.evaluate("() => document.querySelector('.stage video').error") is None
        tab.press(" ")
        assert codes(tab) == [tab.evaluate(STEP)]
        tab.press(" ")
        tab.until(f"() => ({STEP})() === {N_STEPS}")
        tab.until("() => document.querySelector('.play').dataset.shows === 'play'")
        assert codes(tab) == [N_STEPS]
        tab.click("[data-lane=return]", x=1 / 3)
        assert codes(tab) == [tab.evaluate(STEP)]
        assert abs(tab.evaluate(STEP) - N_STEPS / 3) <= 1


def test_a_link_to_a_step_opens_there_in_a_new_tab(
    firefox: Firefox, shelf: tuple[str, list[rollcam.Episode]]
) -> None:
    url, episodes = shelf
    with firefox.tab() as tab:
        watched(tab, url)
        tab.press(*"." * 7)
        tab.press("y")
        tab.until("() => document.getElementById('toast').classList.contains('shown')")
        assert "copied" in tab.evaluate("() => document.getElementById('toast').textContent")
        link = tab.until("() => location.hash.includes('frame=7') && location.href")
    with firefox.tab() as other:
        other.go(link)
        other.until(f"() => ({STEP})() === 7 && document.querySelector('.stage video')")
        assert codes(other) == [7]
        other.until("() => document.querySelector('[data-way=better][href]')")
        other.press("]")
        other.until(f"(name) => ({TITLE})() === name", episodes[1].name)
        other.back()
        other.until(f"(name) => ({TITLE})() === name", episodes[0].name)


def test_six_films_keep_step(firefox: Firefox, shelf: tuple[str, list[rollcam.Episode]]) -> None:
    url, _ = shelf
    with firefox.tab() as tab:
        tab.go(f"{url}#/?is=env_id%3DCoded-v0&sort=episode_return")
        tab.until("() => document.querySelectorAll('.t-row .row-link[href]').length === 6")
        tab.press(*["ArrowDown", "x"] * N_FILMS, "c")
        tab.until("() => document.querySelectorAll('.cell video').length === 6")
        tab.until("() => document.querySelectorAll('.lane').length === 2")
        for step in (1, 2):
            tab.press(".")
            assert codes(tab, ".cell video") == [step] * N_FILMS
        tab.evaluate(
            "() => document.querySelectorAll('.cell video').forEach(v => v.dataset.fps = 15)"
        )
        tab.evaluate(SAMPLE)
        tab.press(" ")
        tab.until(f"() => ({STEP})() >= 36")
        tab.press(" ")
        assert codes(tab, ".cell video") == [tab.evaluate(STEP)] * N_FILMS
        samples = tab.evaluate("() => window.samples")
    spreads = [max(one) - min(one) for one in samples if min(one) >= 4]
    assert len(spreads) > 10
    assert sum(spread <= 1 for spread in spreads) >= 0.9 * len(spreads)


def test_text_is_drawn(firefox: Firefox, shelf: tuple[str, list[rollcam.Episode]]) -> None:
    url, _ = shelf
    lines = "() => [...document.querySelectorAll('.tty-line')].map(l => l.textContent.trimEnd())"
    with firefox.tab() as tab:
        tab.go(f"{url}#/?q=text")
        tab.until("() => document.querySelector('.t-row .row-link[href]')")
        tab.press("ArrowDown", "Enter")
        tab.until("() => document.querySelector('.tty-line')")
        for screen in TEXTS:
            wanted = re.sub(r"\x1b\[[\d;]*m", "", screen).split("\n")
            assert tab.evaluate(lines)[: len(wanted)] == wanted
            tab.press(".")
        tab.press("Home", " ")
        tab.until("() => document.querySelector('.tty').textContent.includes('done')")


def test_a_growing_film_is_followed(firefox: Firefox, tmp_path: Path) -> None:
    with served(tmp_path) as url, rollcam.Recorder(tmp_path, fps=20, env_id="Live-v0") as recorder:
        recorder.begin()

        def add(first: int, last: int) -> None:
            for step in range(first, last + 1):
                recorder.frame(barcode.draw(step, 128, 96), reward=1.0 if step else None)

        add(0, 10)
        with firefox.tab() as tab:
            tab.go(url)
            tab.click(".live-chip")
            tab.until("() => Number(document.querySelector('.scrub')?.max) >= 8")
            add(11, 60)
            tab.until(f"() => ({STEP})() >= 57")
            assert codes(tab) == [tab.evaluate(STEP)]
            tab.press(",", ",", ",")
            step = tab.evaluate(STEP)
            assert codes(tab) == [step]
            recorder.end(terminated=True).result(timeout=30)
            tab.until("() => location.hash.startsWith('#/watch/')")
            tab.until(
                f"() => document.querySelector('.scrub')?.max === '60' && ({STEP})() === {step}"
            )
            assert codes(tab) == [step]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_place_can_be_read(
    firefox: Firefox, shelf: tuple[str, list[rollcam.Episode]], theme: str
) -> None:
    url, _ = shelf
    with contextlib.ExitStack() as stack:
        opened = firefox if theme == "light" else stack.enter_context(Firefox(is_dark=True))
        for width in (1280, 390):
            tab = stack.enter_context(opened.tab(width, 844))
            tab.go(f"{url}#/?sort=-episode_return")
            tab.until("() => document.querySelector('.t-row .row-link[href]')")
            tab.until("() => document.querySelector('.filters .choice')")
            found = {"find": looked(tab, theme, width, "find")}
            # Nothing to scroll, no bar for it; and the headings stand on one line.
            assert tab.evaluate("() => document.documentElement.clientWidth") == width
            tops = "() => [...document.querySelectorAll('.t-head .sort')].map(b => b.getBoundingClientRect().top)"
            assert len(set(tab.evaluate(tops))) == 1
            tab.press("?")
            help_width = tab.until(
                "() => document.getElementById('help').getBoundingClientRect().width"
            )
            assert help_width >= min(760, 0.9 * width)
            found["help"] = looked(tab, theme, width, "help")
            tab.press("Escape")
            tab.until("() => !document.getElementById('help').open")
            tab.click(".t-row .row-link")
            tab.until("() => document.querySelectorAll('.lane').length >= 4")
            tab.until(SETTLED)
            found["watch"] = looked(tab, theme, width, "watch")
            for place, told in found.items():
                assert told["nameless"] == [], place
                assert told["faint"] == [], place
                assert told["wide"] <= 0, place


def looked(tab: Tab, theme: str, width: int, place: str) -> dict[str, Any]:
    """Check a page; its picture is kept where `ROLLCAM_PICTURES` says, for somebody to look at."""
    if PICTURES:
        Path(PICTURES, f"{place}-{theme}-{width}.png").write_bytes(tab.screenshot())
    is_dark = tab.evaluate("() => matchMedia('(prefers-color-scheme: dark)').matches")
    assert is_dark == (theme == "dark")
    return dict(tab.evaluate(CHECK))
