"""A text episode on the page is what a terminal emulator shows, cell by cell, at every step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyte
import pytest
from playwright.sync_api import Page

import rollcam
from rollcam.encode.cast import read_cast
from tests.browser import Browser
from tests.gallery.page_rig import gallery, step_shown, until, visit

SCREENS = [
    "S\x1b[41mF\x1b[0mFF\nFHFH\nFFFH\nHFFG",
    "  (Right)\nS\x1b[1;31mF\x1b[22mF\x1b[39mF\n\x1b[7mreversed\x1b[27m plain",
    "\x1b[38;5;208morange\x1b[0m \x1b[48;5;17mnavy\x1b[0m \x1b[38;5;250mgrey\x1b[38;5;9mred",
    "\x1b[38;2;10;200;30mtrue\x1b[48;2;90;0;90mcolour\x1b[0m\n\x1b[3mslant\x1b[23m \x1b[4munder\x1b[24m \x1b[9mgone",
    "abcdef\x1b[3Dxy\x1b[5;10Hfar\x1b[2;3Hnear\x1b[Aup\x1b[2Bdown\x1b[20Gcolumn",
    "one line to cut\x1b[8D\x1b[K\nsecond\x1b[1K|\nthird\x1b[2Kend",
    "aaaa\nbbbb\ncccc\x1b[2;2H\x1b[J!",
    "aaaa\nbbbb\ncccc\x1b[2;2H\x1b[1J!",
    "insert\x1b[3G\x1b[2@XY\x1b[2;1Hdelete\x1b[2G\x1b[2P\x1b[3;1Hblank\x1b[2G\x1b[2X",
    "one\ntwo\nthree\x1b[2;1H\x1b[Lnew\x1b[1;1H\x1b[M",
    "\u2500\u2502\u250c\u2510\u2588 wide: \u4f60\u597d, \uac00 end",
    "e\u0301 combined, a\ttab\tand\bback",
    "\x1b[90mdim\x1b[97mbright\x1b[100mback\x1b[107mwhite\x1b[49m plain \x1b[39mplain",
    "\x1b[44m\x1b[2K blue line \x1b[0m\nafter",
    "x" * 40 + "\nlast",
]
NAMES = ["black", "red", "green", "brown", "blue", "magenta", "cyan", "white"]
# pyte knows the first sixteen of the 256 by their values, we by their numbers, as a theme does.
FIRST = [
    "000000", "cd0000", "00cd00", "cdcd00", "0000ee", "cd00cd", "00cdcd", "e5e5e5",
    "7f7f7f", "ff0000", "00ff00", "ffff00", "5c5cff", "ff00ff", "00ffff", "ffffff",
]  # fmt: skip
SWITCHES = ("bold", "italics", "underscore", "strikethrough", "reverse")

READ = """() => {
  const film = document.querySelector('.stage').film;
  const { terminal } = film;
  return { frame: film.frame, columns: terminal.columns, rows: terminal.rows,
    cells: terminal.lines.map(line => line.map(({char, style}) => [char, style.fg, style.bg,
      style.bold, style.italics, style.underscore, style.strikethrough, style.reverse])),
    drawn: [...document.querySelectorAll('.tty-line')].map(l => l.textContent) };
}"""


def colour(said: Any) -> set[str]:
    """The names pyte may have for a colour of ours."""
    if said is None:
        return {"default"}
    if isinstance(said, str):
        return {said}
    name = NAMES[said % 8]
    # "bfightmagenta" is pyte's own spelling.
    bright = {f"bright{name}", f"b{'f' if name == 'magenta' else 'r'}ight{name}"}
    return {FIRST[said]} | ({name} if said < 8 else bright)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, rollcam.Episode]]:
    folder = tmp_path_factory.mktemp("texts")
    with rollcam.Recorder(folder, fps=10, env_id="Text-v0", on_error="raise") as recorder:
        recorder.begin()
        for step, screen in enumerate(SCREENS):
            recorder.frame(screen, reward=None if not step else 1.0)
        episode = recorder.end(terminated=True).result(timeout=30)
    with gallery(folder) as url:
        yield url, episode


def emulated(path: Path) -> list[pyte.Screen]:
    cast = read_cast(path)
    screens = []
    for k in range(len(SCREENS)):
        screen = pyte.Screen(cast.width, cast.height)
        stream = pyte.Stream(screen)
        for _, data in cast.frames[: k + 1]:
            stream.feed(data)
        screens.append(screen)
    return screens


def assert_same(seen: dict[str, Any], screen: pyte.Screen) -> None:
    assert (seen["columns"], seen["rows"]) == (screen.columns, screen.lines)
    assert seen["drawn"] == [line.ljust(screen.columns) for line in screen.display] or [
        line.rstrip() for line in seen["drawn"]
    ] == [line.rstrip() for line in screen.display]
    for y, line in enumerate(seen["cells"]):
        for x, (char, fg, bg, *switches) in enumerate(line):
            cell = screen.buffer[y][x]
            where = f"frame {seen['frame']}, row {y}, column {x}"
            assert char == cell.data, where
            assert cell.fg in colour(fg), where
            assert cell.bg in colour(bg), where
            assert switches == [getattr(cell, name) for name in SWITCHES], where


def test_every_step_is_what_a_terminal_shows(
    browser: Browser, shelf: tuple[str, rollcam.Episode]
) -> None:
    url, episode = shelf
    order = [*range(len(SCREENS)), *range(len(SCREENS) - 2, -1, -1), 7, 2, 11]

    def job(page: Page) -> list[dict[str, Any]]:
        page.goto(url)
        page.locator(".t-row .row-link").first.click()
        page.locator(".tty-line").first.wait_for()
        seen = []
        for step in order:
            page.locator(".scrub").fill(str(step))
            seen.append(page.evaluate(READ))
        return seen

    screens = emulated(episode.media_path)
    seen = visit(browser, url, job)
    assert [one["frame"] for one in seen] == order
    for one in seen:
        assert_same(one, screens[one["frame"]])


def test_text_plays_in_time_and_steps_by_keys(
    browser: Browser, shelf: tuple[str, rollcam.Episode]
) -> None:
    url, _ = shelf

    def job(page: Page) -> tuple[int, int]:
        page.goto(url)
        page.locator(".t-row .row-link").first.wait_for()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.locator(".tty-line").first.wait_for()
        page.keyboard.press(".")
        page.keyboard.press(".")
        stepped = step_shown(page)
        page.keyboard.press(" ")
        until(page, f"() => Number(document.querySelector('.scrub').value) === {len(SCREENS) - 1}")
        until(page, "() => document.querySelector('.play').dataset.shows === 'play'")
        return stepped, step_shown(page)

    assert visit(browser, url, job) == (2, len(SCREENS) - 1)
