"""Many tabs on one gallery: a browser opens six connections to a server, for all of them together."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

from tests.browser import Browser
from tests.gallery.page_rig import LIMIT_S, film, gallery, until, visit

N_TABS = 7
# A headless browser takes every tab for seen.
HIDING = "Object.defineProperty(document, 'hidden', { get: () => window.isAway === true })"
GO = "isAway => { window.isAway = isAway; document.dispatchEvent(new Event('visibilitychange')) }"
COUNT = "n => document.querySelector('.count-line')?.textContent === `${n} episodes`"


def test_tabs_that_are_not_seen_hold_no_connection(browser: Browser, tmp_path: Path) -> None:
    film(tmp_path, 2, 2)

    def job(page: Page) -> None:
        assert page.context.browser is not None
        with page.context.browser.new_context() as context:
            context.set_default_timeout(LIMIT_S * 1000)
            context.add_init_script(HIDING)
            tabs = [context.new_page() for _ in range(N_TABS)]
            for tab in tabs:
                tab.goto(address, wait_until="commit")
                until(tab, COUNT, 2)
                tab.evaluate(GO, True)
            # Whoever comes back to a tab sees what came meanwhile.
            film(tmp_path, 1, 2, first=10)
            tabs[1].evaluate(GO, False)
            until(tabs[1], COUNT, 3)

    with gallery(tmp_path) as address:
        visit(browser, address, job)
