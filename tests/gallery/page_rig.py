"""A real gallery on loopback with films whose pictures tell their frame, and a page that opens it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from playwright.sync_api import Page

import rollcam
from rollcam.gallery.serve import Place, serve
from tests import barcode

T = TypeVar("T")

LIMIT_S = 15.0

READ_CODE = """(elements, task) => elements.map((video) => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const w = (pen.canvas.width = video.videoWidth), h = (pen.canvas.height = video.videoHeight);
  if (!w) return null;
  pen.drawImage(video, 0, 0);
  const levels = task.cells.map(([x, y, cw, ch]) => {
    const [left, top] = [Math.round((x + cw / 4) * w), Math.round((y + ch / 4) * h)];
    const data = pen.getImageData(left, top, Math.max(1, cw * w / 2 | 0), Math.max(1, ch * h / 2 | 0)).data;
    let sum = 0;
    for (let k = 1; k < data.length; k += 4) sum += data[k];
    return sum / (data.length / 4);
  });
  if (levels.some((level) => level >= task.black && level <= task.white)) return null;
  return levels.reduce((sum, level, k) => sum + (level > task.white) * 2 ** k, 0) ^ task.inverted;
})"""
TASK = {
    "cells": barcode.cells(),
    "black": barcode.BLACK_BELOW,
    "white": barcode.WHITE_ABOVE,
    "inverted": barcode.INVERTED & ((1 << barcode.BITS) - 1),
}


def film(
    folder: Path,
    n_episodes: int = 1,
    n_steps: int = 40,
    *,
    env_id: str = "Coded-v0",
    fps: float = 30,
    size: tuple[int, int] = (128, 96),
    first: int = 0,
    **settings: Any,
) -> list[rollcam.Episode]:
    """Film episodes of bar codes; episode `k` has a reward of `k + 1` a step, and an action."""
    done = []
    settings.setdefault("name_prefix", f"coded-{first}")
    with rollcam.Recorder(
        folder, fps=fps, env_id=env_id, on_error="raise", info_keys=("height",), **settings
    ) as recorder:
        for k in range(first, first + n_episodes):
            recorder.set_context(num_env_steps=1000 * k, iteration=k)
            recorder.begin(seed=k)
            recorder.frame(barcode.draw(0, *size), info={"height": 0.0})
            for step in range(1, n_steps + 1):
                recorder.frame(
                    barcode.draw(step, *size),
                    reward=float(k + 1) + (0.5 if step % 10 == 0 else 0.0),
                    action=np.array([step % 4, -step / 10]),
                    info={"height": step * 0.25},
                )
            done.append(recorder.end(terminated=k % 2 == 0, truncated=k % 2 == 1))
        return [future.result(timeout=60) for future in done]


@contextlib.contextmanager
def gallery(*folders: Path) -> Iterator[str]:
    """Serve folders until the block is left; yields the address."""
    up = threading.Event()
    found: dict[str, Any] = {}

    def ready(place: Place) -> None:
        found["url"] = place.url
        up.set()

    def run() -> None:
        try:
            serve(folders, port=0, ready=ready, keep=lambda server: found.update(server=server))
        except BaseException as error:
            found["error"] = error
            up.set()
            raise

    thread = threading.Thread(target=run, name="gallery", daemon=True)
    thread.start()
    try:
        if not up.wait(LIMIT_S) or "url" not in found:
            raise TimeoutError(f"the gallery did not start: {found.get('error')!r}")
        yield found["url"]
    finally:
        if "server" in found:
            found["server"].should_exit = True
        thread.join(LIMIT_S)
    assert not thread.is_alive()


def until(page: Page, script: str, arg: Any = None, *, limit_s: float = LIMIT_S) -> Any:
    """Evaluate until something true comes back. (`wait_for_function` needs `eval`, which the CSP forbids.)"""
    deadline = time.monotonic() + limit_s
    while True:
        value = page.evaluate(script, arg)
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not happen within {limit_s:g} s: {script}\n{told(page)}")
        page.wait_for_timeout(20)


def told(page: Page) -> str:
    """Return what the page says, for a failure's message."""
    return str(page.evaluate("() => `${location.href}\n${document.body.innerText.slice(0, 3000)}`"))


def settled(page: Page) -> None:
    """Wait until no picture is being sought, and what was found is painted."""
    until(
        page,
        "() => [...document.querySelectorAll('video')].every(v => !v.seeking && v.readyState >= 2)",
    )
    page.evaluate("() => new Promise(d => requestAnimationFrame(() => requestAnimationFrame(d)))")


def codes(page: Page, selector: str = ".stage video") -> list[int | None]:
    """Read the bar codes of the pictures shown now."""
    return list(page.eval_on_selector_all(selector, READ_CODE, TASK))


def step_shown(page: Page) -> int:
    """Return the step that the bar names."""
    return int(page.locator(".scrub").input_value())


def lane_values(page: Page) -> dict[str, str]:
    """Return what the lanes say of the step shown."""
    return dict(
        page.eval_on_selector_all(
            ".lane",
            "lanes => lanes.map(l => [l.querySelector('.lane-name').textContent,"
            " l.querySelector('.lane-value').textContent])",
        )
    )


class Watcher:
    """Notes what a page asks for, and what goes wrong in it."""

    def __init__(self, page: Page, base: str) -> None:
        self.away: list[str] = []
        self.errors: list[str] = []
        self._base = base
        page.on("request", self._request)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._console)

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self._base, "blob:", "data:")):
            self.away.append(request.url)

    def _console(self, message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)


def visit(browser: Any, base: str, job: Callable[[Page], T], *, limit_s: float = 60) -> T:
    """Run `job` on a page of its own, 1280 × 800; nothing may fail in it or go to another host."""

    def run(page: Page) -> T:
        page.set_viewport_size({"width": 1280, "height": 800})
        page.set_default_timeout(LIMIT_S * 1000)
        watcher = Watcher(page, base)
        result = job(page)
        assert watcher.errors == []
        assert watcher.away == []
        return result

    return browser.on_page(run, limit_s=limit_s)
