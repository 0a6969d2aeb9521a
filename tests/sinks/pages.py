"""What a tracker's page shows of a film, in a real Chromium."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page

IMAGES = Path(__file__).parents[2] / "docs" / "images"
"""Pictures for the documents. What is there stays; delete one and run its test to have it anew."""

PAGE_S = 60.0

_WATCH = """
async (video) => {
  const until = (what, test) => new Promise((done, fail) => {
    const timer = setInterval(() => {
      if (video.error) stop(fail, new Error(`media error ${video.error.code}: ${video.error.message}`));
      else if (test()) stop(done);
    }, 20);
    const limit = setTimeout(() => stop(fail, new Error(`waited in vain until ${what}`)), 20000);
    const stop = (how, value) => { clearInterval(timer); clearTimeout(limit); how(value); };
  });
  video.muted = true;
  video.scrollIntoView();
  await until("the film is open", () => video.readyState >= 2);
  await video.play();
  const from = video.currentTime;
  await until("time advances", () => video.currentTime > from + 0.2);
  video.pause();
  video.currentTime = 1.1;
  await until("the seek ends", () => !video.seeking && Math.abs(video.currentTime - 1.1) < 0.05);
  return { width: video.videoWidth, height: video.videoHeight, duration: video.duration,
           error: video.error && video.error.message, at: video.currentTime };
}
"""


def screenshot(page: Page, name: str) -> None:
    """Keep a picture of the page for the documents, unless there is one."""
    taken = page.screenshot()
    if not (IMAGES / name).exists():
        IMAGES.mkdir(parents=True, exist_ok=True)
        with Image.open(io.BytesIO(taken)) as picture:  # 128 colours are a third of the bytes
            picture.convert("RGB").quantize(128).save(IMAGES / name, optimize=True)


def watch(video: Any) -> dict[str, Any]:
    """Play a `<video>` for a moment, then seek; what it then says of itself."""
    seen: dict[str, Any] = video.evaluate(_WATCH)
    assert seen["error"] is None
    return seen


def n_moments(picture: Any) -> int:
    """Look at an animated picture until it has shown three that differ; how many there were."""
    seen: set[bytes] = set()
    for _ in range(200):
        seen.add(picture.screenshot())
        if len(seen) > 2:
            break
    return len(seen)


def on_page(
    browser: Any, url: str, job: Callable[[Page], Any], *, width: int = 1100, height: int = 700
) -> Any:
    """Open `url` in a page of the session's Chromium; nothing but loopback may be asked for."""

    def run(page: Page) -> Any:
        page.set_viewport_size({"width": width, "height": height})
        page.set_default_timeout(PAGE_S * 1000)
        page.goto(url)
        return job(page)

    return browser.on_page(run, limit_s=2 * PAGE_S)
