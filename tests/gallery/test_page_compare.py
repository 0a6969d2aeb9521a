"""Episodes side by side keep step: six films played, and how far their pictures lie apart."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.browser import Browser
from tests.gallery.page_rig import codes, film, gallery, settled, step_shown, until, visit

N_FILMS = 6
N_STEPS = 90

# Notes, each time the page is painted, the frame that every film has on the screen.
SAMPLE = """() => {
  window.samples = [];
  const videos = [...document.querySelectorAll('.cell video')];
  const shown = videos.map(() => null);
  videos.forEach((video, k) => {
    const note = (_, { mediaTime }) => {
      shown[k] = Math.round(mediaTime * Number(video.dataset.fps));
      video.requestVideoFrameCallback(note);
    };
    video.requestVideoFrameCallback(note);
  });
  const look = () => {
    if (shown.every((frame) => frame !== null)) window.samples.push([...shown]);
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("compared")
    film(folder, N_FILMS, N_STEPS, fps=15)
    film(folder, 1, 30, fps=30, first=20, env_id="Short-v0")
    with gallery(folder) as address:
        yield address


def compared(
    page: Page, url: str, question: str = "is=env_id%3DCoded-v0", n: int = N_FILMS
) -> None:
    """Go through the list, as a person would: pick, then compare."""
    page.goto(f"{url}#/?{question}&sort=episode_return")
    until(page, "n => document.querySelectorAll('.t-row .row-link[href]').length >= n", n)
    for _ in range(n):
        page.keyboard.press("ArrowDown")
        page.keyboard.press("x")
    page.get_by_role("button", name=f"Compare {n}").click()
    page.locator(".cell video").nth(n - 1).wait_for()
    until(page, "() => document.querySelectorAll('.lane').length === 2")
    settled(page)


def test_six_films_keep_step_while_they_play(browser: Browser, url: str) -> None:
    def job(page: Page) -> tuple[list[list[int]], list[int | None], int]:
        compared(page, url)
        page.eval_on_selector_all(".cell video", "vs => vs.forEach(v => { v.dataset.fps = 15 })")
        page.evaluate(SAMPLE)
        page.keyboard.press(" ")
        until(page, "() => Number(document.querySelector('.scrub').value) >= 60")
        samples = page.evaluate("() => window.samples")
        page.keyboard.press(" ")
        settled(page)
        return samples, codes(page, ".cell video"), step_shown(page)

    samples, paused, step = visit(browser, url, job)
    # The first pictures come while the films are still starting.
    spreads = [max(one) - min(one) for one in samples if min(one) >= 2]
    assert len(spreads) > 20
    within = sum(spread <= 1 for spread in spreads) / len(spreads)
    print(
        f"spread: median {statistics.median(spreads)}, within one {within:.3f}, most {max(spreads)}"
    )
    assert statistics.median(spreads) <= 1
    assert within >= 0.9
    assert paused == [step] * N_FILMS


def test_steps_and_seeks_go_to_all(browser: Browser, url: str) -> None:
    def job(page: Page) -> list[tuple[int, list[int | None]]]:
        compared(page, url)
        seen = []
        for key in (".", ".", "shift+ArrowRight", ",", "End"):
            page.keyboard.press(key.replace("shift", "Shift"))
            settled(page)
            seen.append((step_shown(page), codes(page, ".cell video")))
        box = page.locator("[data-lane='return']").bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 20)
        settled(page)
        seen.append((step_shown(page), codes(page, ".cell video")))
        return seen

    seen = visit(browser, url, job)
    assert [step for step, _ in seen[:5]] == [1, 2, 12, 11, N_STEPS]
    assert abs(seen[5][0] - N_STEPS / 2) <= 1
    assert all(shown == [step] * N_FILMS for step, shown in seen)


def test_films_of_other_rates_and_lengths_keep_step(browser: Browser, url: str) -> None:
    def job(page: Page) -> tuple[list[int | None], int, list[int | None], str]:
        compared(page, url, "in=seed%3D5..20", 2)
        page.keyboard.press(" ")
        until(page, "() => Number(document.querySelector('.scrub').value) >= 12")
        page.keyboard.press(" ")
        settled(page)
        middle, step = codes(page, ".cell video"), step_shown(page)
        page.keyboard.press("End")
        settled(page)
        return middle, step, codes(page, ".cell video"), page.locator(".cell.over").inner_text()

    middle, step, end, over = visit(browser, url, job)
    assert middle == [min(step, 30) if k == 1 else step for k in range(2)] or middle == [
        step,
        step,
    ]
    assert sorted(code or 0 for code in end) == [30, N_STEPS]
    assert "at 30, its end" in over


def test_one_episode_per_training_stage(browser: Browser, url: str) -> None:
    def job(page: Page) -> tuple[list[str], str]:
        page.goto(f"{url}#/?is=env_id%3DCoded-v0")
        until(page, "() => document.querySelectorAll('.t-row .row-link[href]').length > 3")
        page.get_by_role("button", name="Stages").click()
        page.locator(".cell").first.wait_for()
        return page.locator(".cell-name").all_inner_texts(), page.url

    names, address = visit(browser, url, job)
    assert [name.replace("\n", "") for name in names] == [
        f"coded-0-episode-{k}" for k in range(N_FILMS)
    ]
    assert address.count("id=") == N_FILMS


def test_a_comparison_is_a_link(browser: Browser, url: str) -> None:
    def job(page: Page) -> tuple[list[int | None], int]:
        compared(page, url, n=3)
        page.keyboard.press("Shift+ArrowRight")
        until(page, "() => location.hash.includes('frame=10')")
        link = page.url
        page.goto("about:blank")
        page.goto(link)
        page.locator(".cell video").nth(2).wait_for()
        until(page, "() => Number(document.querySelector('.scrub')?.value) === 10")
        settled(page)
        shown = codes(page, ".cell video")
        page.get_by_role("button", name="Take").first.click()
        until(page, "() => document.querySelectorAll('.cell').length === 2")
        return shown, page.locator(".cell").count()

    assert visit(browser, url, job) == ([10, 10, 10], 2)
