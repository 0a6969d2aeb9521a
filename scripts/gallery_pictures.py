"""Take the pictures of the gallery's pages that are kept in docs/images/gallery, in both themes and widths.

make demo   # or any folder with films, and text episodes
PYTHONPATH=.:src python scripts/gallery_pictures.py demo-videos docs/images/gallery
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from playwright.sync_api import Page

import rollcam
from tests.browser import Browser
from tests.gallery.page_rig import gallery

SIZES = {1280: 800, 390: 844}
QUIET_MS = 900
LIMIT_S = 240
COLOURS = 128
IDS = """async () => {
  const { openSource } = await import(new URL('js/source.js', document.baseURI).href);
  const { rows } = await (await openSource()).list(new URLSearchParams('sort=-episode_length'), 0, 500);
  const of = (codec) => rows.filter((row) => row.codec === codec).map((row) => row.id);
  return JSON.stringify([of('h264'), of('asciicast')]);
}"""


def places(page: Page) -> dict[str, str]:
    """Return the addresses of the pages."""
    films, texts = json.loads(page.evaluate(IDS))
    return {
        "find": "#/",
        "grid": "#/?view=grid",
        "watch": f"#/watch/{films[0]}?frame=37",
        "text": f"#/watch/{texts[0]}?frame=1",
        "compare": "#/compare?frame=20&" + "&".join(f"id={one}" for one in films[:6]),
        "empty": "#/?q=nothing+at+all",
        "lost": "#/watch/no!such",
    }


def take(page: Page, url: str, out: Path) -> None:
    """Take every page in every look."""
    page.goto(url)
    for name, place in places(page).items():
        for theme in ("light", "dark"):
            for width, height in SIZES.items():
                page.emulate_media(color_scheme=theme)
                page.set_viewport_size({"width": width, "height": height})
                page.goto("about:blank")
                page.goto(url + place)
                page.wait_for_timeout(QUIET_MS)
                keep(page, out / f"{name}-{theme}-{width}.png")


def take_live(page: Page, url: str, out: Path) -> None:
    """Take the page of an episode that is being recorded."""
    for theme in ("light", "dark"):
        for width, height in SIZES.items():
            page.emulate_media(color_scheme=theme)
            page.set_viewport_size({"width": width, "height": height})
            page.goto(url)
            page.locator(".live-chip").first.click()
            page.locator(".lane").first.wait_for()
            page.wait_for_timeout(QUIET_MS)
            keep(page, out / f"live-{theme}-{width}.png")


def keep(page: Page, path: Path) -> None:
    """Write what is shown, in few colours."""
    from PIL import Image

    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    told = parser.parse_args()
    told.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch, Browser() as browser:
        folder = Path(scratch) / "videos"  # a copy: an episode is recorded into it
        shutil.copytree(told.folder, folder)
        with gallery(folder) as url:
            take_all(browser, url, folder, told.out)


def take_all(browser: Browser, url: str, folder: Path, out: Path) -> None:
    """Take what is finished, then what is being recorded."""
    browser.on_page(lambda page: take(page, url, out), limit_s=LIMIT_S)
    with rollcam.Recorder(folder, fps=20, env_id="Growing-v0") as recorder:
        recorder.begin(seed=3)
        for step in range(60):
            picture = np.full((96, 128, 3), 40, np.uint8)
            picture[40:56, 2 * step : 2 * step + 10] = (90, 200, 220)
            reward = None if step == 0 else float(np.sin(step / 6))
            recorder.frame(picture, reward=reward, action=step % 3)
        browser.on_page(lambda page: take_live(page, url, out), limit_s=LIMIT_S)
        recorder.end(terminated=True).result(timeout=30)


if __name__ == "__main__":
    main()
