"""What everybody must be able to use: names, contrast, focus, both themes and widths; nothing jumps.

axe-core checks the same pages where `axe-playwright-python` is installed.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

import rollcam
from tests import barcode
from tests.browser import Browser
from tests.gallery.page_rig import film, gallery, settled, until, visit

PAGES = ("find", "grid", "watch", "text", "compare", "help")
LOOKS = [(theme, width) for theme in ("light", "dark") for width in (1280, 390)]

# Elements that can be used and have no name; text that is too faint; what sticks out to the right.
CHECK = """() => {
  const seen = (e) => e.checkVisibility({ checkVisibilityCSS: true, checkOpacity: true }) && e.getClientRects().length > 0;
  const nameOf = (e) => [e.getAttribute('aria-label'), e.getAttribute('alt'), e.title,
    e.closest('label')?.textContent, e.textContent].map(t => (t ?? '').trim()).find(Boolean) ?? '';
  const usable = [...document.querySelectorAll('a[href], button, input, select, video, canvas, [tabindex], [role=img]')];
  const nameless = usable.filter(e => seen(e) && !e.closest('[aria-hidden=true]') && !e.matches('main') && !nameOf(e)).map(e => e.outerHTML.slice(0, 120));

  const rgb = (text) => (text.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const groundOf = (e) => {
    for (let at = e; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.5) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const e of document.querySelectorAll('body *')) {
    const hasText = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!hasText || !seen(e) || e.closest('.tty, .card-film, option, [aria-disabled=true]')) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(rgb(style.color)), light(groundOf(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const isLarge = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (ratio < (isLarge ? 3 : 4.5)) faint.push([e.textContent.slice(0, 40), Math.round(ratio * 100) / 100]);
  }
  const wide = document.documentElement.scrollWidth - innerWidth;
  const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
  const twice = ids.filter((id, k) => id && ids.indexOf(id) !== k);
  return { nameless, faint, wide, twice, heading: document.querySelectorAll('h1').length, main: document.querySelectorAll('main').length };
}"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("looks")
    film(folder, 8, 30, metadata={"note": "x" * 300, "<b>key</b>": 1})
    film(folder, 1, 5, first=40, env_id="Evaluated-v0", mode="eval")
    film(folder, 40, 1, size=(32, 32), first=60)  # enough to scroll
    with rollcam.Recorder(folder, env_id="Text-v0", name_prefix="text") as recorder:
        recorder.begin()
        recorder.frame("hello")
        recorder.frame("\x1b[32mworld", reward=-1.0)
        recorder.end(terminated=True).result(timeout=30)
    with gallery(folder) as address:
        yield address


def show(page: Page, url: str, place: str) -> None:
    """Bring the page to a place."""
    ids = json.loads(
        page.evaluate(
            """async () => { const { openSource } = await import(new URL('js/source.js', document.baseURI).href);
            const { rows } = await (await openSource()).list(new URLSearchParams('sort=started_at'), 0, 90);
            return JSON.stringify([rows.filter(r => r.codec === 'h264').map(r => r.id), rows.find(r => r.codec === 'asciicast').id]); }"""
        )
    )
    films, text = ids
    address = {
        "find": "#/?q=coded",
        "grid": "#/?view=grid",
        "watch": f"#/watch/{films[2]}?frame=7",
        "text": f"#/watch/{text}",
        "compare": "#/compare?" + "&".join(f"id={one}" for one in films[:4]),
        "help": "#/",
    }[place]
    page.goto(url + address)
    if place in ("find", "help"):
        until(page, "() => document.querySelector('.t-row .row-link[href]') !== null")
        until(
            page,
            "() => document.querySelector('.filters .choice, .filters .range:not([hidden])') !== null",
        )
    if place == "help":
        page.keyboard.press("?")
        page.get_by_role("dialog").wait_for()
    elif place == "grid":
        until(page, "() => document.querySelector('.poster.loaded') !== null")
    elif place == "text":
        page.locator(".tty-line").first.wait_for()
    elif place != "find":
        page.locator(".lane").first.wait_for()
        settled(page)


def show_again(page: Page, place: str) -> None:
    """Wait until a page that was reloaded is whole, and still."""
    whole = {"find": ".t-row .row-link[href]", "grid": ".poster.loaded"}.get(place, ".lane")
    page.locator(whole).first.wait_for()
    settled(page)


def each_look(page: Page, url: str, looks: list[tuple[str, int]]) -> Iterator[str]:
    page.goto(url)
    for theme, width in looks:
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size({"width": width, "height": 844})
        for place in PAGES:
            show(page, url, place)
            yield f"{place}, {theme}, {width}"


def test_every_place_can_be_read_and_used(browser: Browser, url: str) -> None:
    def job(page: Page) -> dict[str, Any]:
        return {look: page.evaluate(CHECK) for look in each_look(page, url, LOOKS)}

    for look, found in visit(browser, url, job, limit_s=120).items():
        assert found["nameless"] == [], look
        assert found["faint"] == [], look
        assert found["wide"] <= 0, look
        assert found["twice"] == [], look
        assert (found["heading"], found["main"]) == (1, 1), look


def test_a_narrow_bar_holds_picks_and_what_is_recorded(browser: Browser, tmp_path: Path) -> None:
    film(tmp_path, 3, 2, env_id="A-long-name-of-an-environment-v0")

    def job(page: Page) -> dict[str, Any]:
        page.set_viewport_size({"width": 390, "height": 844})
        page.goto(address)
        page.locator(".live-chip").first.wait_for()
        for n in range(3):
            page.locator(".t-row input").nth(n).click()
        found = {"find": page.evaluate(CHECK)}
        for button in ("Compare 3", "Put all back", "Keys"):
            box = page.get_by_role("button", name=button, exact=True).bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390
        strip, badge = page.locator(".live-strip").bounding_box(), page.locator(".badge.live").first
        assert strip is not None
        assert strip["width"] >= badge.evaluate("badge => badge.offsetWidth") > 20
        page.locator(".live-chip").first.click()
        page.locator(".lane").first.wait_for()
        found["live"] = page.evaluate(CHECK)
        return found

    with gallery(tmp_path) as address, rollcam.Recorder(tmp_path, env_id="Growing-v0") as recorder:
        recorder.begin()
        for step in range(4):
            recorder.frame(barcode.draw(step, 64, 48), reward=1.0 if step else None)
        for place, seen in visit(browser, address, job).items():
            assert seen["nameless"] == [], place
            assert seen["faint"] == [], place
            assert seen["wide"] <= 0, place


@pytest.mark.skipif(
    importlib.util.find_spec("axe_playwright_python") is None, reason="axe-core is not installed"
)
def test_axe_finds_nothing_serious(browser: Browser, url: str) -> None:
    import axe_playwright_python

    axe = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()

    def job(page: Page) -> dict[str, list[str]]:
        serious = {}
        for look in each_look(page, url, [LOOKS[0], LOOKS[-1]]):
            page.evaluate(axe)
            found = page.evaluate("async () => (await axe.run()).violations")
            serious[look] = [
                f"{one['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
                for one in found
                if one["impact"] in ("serious", "critical")
                for node in one["nodes"][:3]
            ]
        return serious

    for look, found in visit(browser, url, job, limit_s=180).items():
        assert found == [], look


def test_the_focus_is_seen_wherever_it_goes(browser: Browser, url: str) -> None:
    script = """() => {
      const at = document.activeElement, style = getComputedStyle(at);
      if (at === document.body) return null;
      return [at.outerHTML.slice(0, 90), style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2];
    }"""

    def job(page: Page) -> list[Any]:
        page.goto(url)
        show(page, url, "find")
        seen = []
        for _ in range(25):
            page.keyboard.press("Tab")
            seen.append(page.evaluate(script))
        show(page, url, "watch")
        for _ in range(12):
            page.keyboard.press("Tab")
            seen.append(page.evaluate(script))
        return seen

    seen = [one for one in visit(browser, url, job) if one]
    assert len(seen) > 25
    assert [what for what, is_seen in seen if not is_seen] == []


def test_nothing_jumps_while_a_page_comes_up(browser: Browser, url: str) -> None:
    watch = """window.shifts = []; new PerformanceObserver((list) => { for (const e of list.getEntries())
        if (!e.hadRecentInput) window.shifts.push(e.value) }).observe({ type: 'layout-shift', buffered: true })"""

    def job(page: Page) -> dict[str, float]:
        page.add_init_script(watch)
        page.goto(url)
        found = {}
        for place in ("find", "grid", "watch", "compare"):
            show(page, url, place)
            page.reload()
            show_again(page, place)
            found[place] = page.evaluate("() => window.shifts.reduce((a, b) => a + b, 0)")
        return found

    found = visit(browser, url, job)
    assert max(found.values()) < 0.1, found


def test_hostile_facts_stay_text(browser: Browser, tmp_path: Path) -> None:
    evil = "<img src=x onerror=\"document.title='had'\"><script>document.title='had'</script>"
    with rollcam.Recorder(
        tmp_path, env_id=evil, worker=evil, metadata={evil: evil, "__proto__": {"x": 1}}, context={evil: 1, "constructor": 2},
        info_keys=(evil, "__proto__"),
    ) as recorder:  # fmt: skip
        recorder.begin()
        recorder.frame(evil + "\x1b]0;title\x07\x1b[31m", info={evil: 0})
        recorder.frame("a", reward=1.0, info={evil: evil})
        recorder.end(terminated=True).result(timeout=30)
    with gallery(tmp_path) as address:

        def job(page: Page) -> tuple[int, str]:
            page.goto(address)
            page.locator(".t-row .row-link").first.click()
            page.locator(".tty-line").first.wait_for()
            page.locator(".lane").first.wait_for()
            n = page.locator("img[src=x], script:not([src])").count()
            return n, page.title() + page.locator(".facts").inner_text()

        def wild(page: Page) -> None:
            for place in (
                "#/watch/%E0%A4%A",
                "#/watch/..%2F..%2Fetc",
                "#/compare?id=<b>",
                "#/live/no",
            ):
                page.goto(address + place)
                page.locator(".notice").wait_for()

        visit(browser, address, wild)
        n, text = visit(browser, address, job)
        assert n == 0
        assert "had ·" not in text
        assert evil in text
