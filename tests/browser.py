"""What a real Chromium shows of a film: events, seeks, playback and colours, read from its pixels.

    with Browser() as browser:
        report = browser.probe(path, fps=30, seek_to=[0, 29])

The films hold the bar code of `tests/barcode.py`. Playwright lives in a thread of its own: its sync
API keeps an event loop running in the thread that started it, where `asyncio.run` then fails.
"""

from __future__ import annotations

import itertools
import mimetypes
import os
import queue
import re
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from playwright.sync_api import Page, sync_playwright

from tests import barcode

T = TypeVar("T")

CHROMIUM = Path("/usr/bin/chromium")
# As scripts/install_system.sh looks for it.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC_CHROME = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)
SOCKET_TIMEOUT_S = 10.0
EVENT_TIMEOUT_S = 10.0
START_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class PlayReport:
    """What the page saw of one film; an index of None is a picture without a clear bar code."""

    first: Literal["loadeddata", "error", "timeout"]
    error_code: int | None
    error_message: str
    duration_s: float
    width: int
    height: int
    start_index: int | None
    sought: dict[int, int | None]
    """Frame asked for -> index shown after the seek to the middle of its time."""
    colours: dict[int, dict[str, tuple[int, int, int]]]
    """Frame asked for -> the colour patches shown, named as in `barcode.PATCHES`."""
    ended: bool
    presented: tuple[int | None, ...]
    """Index at each `requestVideoFrameCallback` of the playback; a busy machine skips some."""

    @property
    def last_index(self) -> int | None:
        """The index that playback showed last."""
        return self.presented[-1] if self.presented else None


def find_chromium() -> Path:
    """Return the browser to use, present or not; Playwright's own Chromium plays no H.264."""
    if named := os.environ.get("ROLLCAM_CHROMIUM"):
        return Path(named)
    found = [Path(path) for path in map(shutil.which, NAMES) if path]
    return next(
        path for path in (*found, MAC_CHROME, CHROMIUM) if path.is_file() or path is CHROMIUM
    )


class Browser:
    """One headless Chromium and a loopback server for the films it shows.

    Args:
        executable: Chromium or Chrome; `None`: the one that `find_chromium` finds.

    Raises:
        FileNotFoundError: There is no Chromium at `executable`.
    """

    def __init__(self, executable: Path | None = None) -> None:
        executable = executable or find_chromium()
        if not executable.is_file():
            raise FileNotFoundError(
                f"no Chromium at {executable}: run `make browser` to install it"
            )
        self._executable = executable
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[Page], Any]] | None]
        self._jobs = queue.SimpleQueue()
        self._server = FileServer()
        started: Future[None] = Future()
        # A daemon: a Chromium that hangs may cost a test, not the end of the session.
        self._thread = threading.Thread(
            target=self._run, args=(started,), name="browser", daemon=True
        )
        self._thread.start()
        try:
            started.result(START_TIMEOUT_S)
        except BaseException:
            self._server.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End Chromium and the server; a second call does nothing."""
        self._jobs.put(None)
        self._thread.join(CLOSE_TIMEOUT_S)
        self._server.close()
        if self._thread.is_alive():
            raise TimeoutError(f"Chromium did not end within {CLOSE_TIMEOUT_S:.0f} s")

    def on_page(self, job: Callable[[Page], T], *, limit_s: float = 60) -> T:
        """Run `job` on a fresh page of the server, in the browser's thread.

        Raises:
            TimeoutError: The job did not end within `limit_s`.
        """
        future: Future[T] = Future()
        self._jobs.put((future, job))
        try:
            return future.result(limit_s)
        except TimeoutError:
            if future.done():  # the job's own
                raise
            raise TimeoutError(f"the browser did not answer within {limit_s:g} s") from None

    def probe(
        self,
        path: Path,
        *,
        fps: float,
        seek_to: Sequence[int] = (),
        play: bool = True,
        bits: int = barcode.BITS,
        limit_s: float = 60,
    ) -> PlayReport:
        """Open a film, seek to the middle of each frame of `seek_to`, then play it from the start.

        Raises:
            playwright.sync_api.TimeoutError: There was no report within `limit_s`.
        """
        task = {
            "url": self._server.url(path),
            "fps": fps,
            "seekTo": list(seek_to),
            "play": play,
            "eventMs": EVENT_TIMEOUT_S * 1000,
            "cells": barcode.cells(bits),
            "patches": barcode.patch_boxes(),
            "blackBelow": barcode.BLACK_BELOW,
            "whiteAbove": barcode.WHITE_ABOVE,
            "inverted": barcode.INVERTED & ((1 << bits) - 1),
        }

        def job(page: Page) -> dict[str, Any]:
            # Unlike `evaluate`, this wait is limited by the driver, even when the page hangs.
            seen = page.wait_for_function("task => probe(task)", arg=task, timeout=limit_s * 1000)
            return seen.json_value()

        return _report(self.on_page(job, limit_s=limit_s + EVENT_TIMEOUT_S))

    def _run(self, started: Future[None]) -> None:
        try:
            with sync_playwright() as playwright:
                chromium = playwright.chromium.launch(
                    executable_path=self._executable, args=ARGUMENTS, timeout=START_TIMEOUT_S * 1000
                )
                started.set_result(None)
                while (item := self._jobs.get()) is not None:
                    future, job = item
                    try:
                        with chromium.new_page() as page:
                            page.goto(self._server.base)
                            future.set_result(job(page))
                    except BaseException as error:  # noqa: BLE001 - it belongs to the caller
                        future.set_exception(error)
                chromium.close()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)


def _report(seen: dict[str, Any]) -> PlayReport:
    def named(colours: list[list[int]]) -> dict[str, tuple[int, int, int]]:
        return {n: (r, g, b) for n, (r, g, b) in zip(barcode.PATCHES, colours, strict=True)}

    return PlayReport(
        first=seen["first"],
        error_code=seen["errorCode"],
        error_message=seen["errorMessage"],
        duration_s=seen["duration"],
        width=seen["width"],
        height=seen["height"],
        start_index=seen["startIndex"],
        sought={k: index for k, index, _ in seen["sought"]},
        colours={k: named(colours) for k, _, colours in seen["sought"]},
        ended=seen["ended"],
        presented=tuple(seen["presented"]),
    )


class FileServer:
    """Serves the probe's page, and the files it was asked for, with byte ranges, on loopback."""

    def __init__(self) -> None:
        self._files: dict[str, Path] = {}
        self._numbers = itertools.count()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.files = self._files
        self.base = f"http://127.0.0.1:{self._http.server_address[1]}/"
        self._thread = threading.Thread(target=self._http.serve_forever, name="file-server")
        self._thread.start()

    def url(self, path: Path) -> str:
        """Offer a file; each call gives a new address, so that nothing is answered from a cache."""
        name = f"/{next(self._numbers)}/film{path.suffix}"
        self._files[name] = path
        return name

    def close(self) -> None:
        """Stop serving; a second call does nothing."""
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
            self._http.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them, SOCKET_TIMEOUT_S at most
    files: dict[str, Path]

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # Chromium drops what it needs no more
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SOCKET_TIMEOUT_S
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/":
            self._answer(200, PAGE.encode(), "text/html; charset=utf-8")
        elif (path := self.server.files.get(self.path)) and path.is_file():
            self._file(path.read_bytes(), mimetypes.guess_type(self.path)[0] or "video/mp4")
        else:
            self._answer(404, b"", "text/plain")

    def _file(self, data: bytes, content_type: str) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            self._answer(200, data, content_type)
            return
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        if first > last:
            self._answer(416, b"", content_type, f"bytes */{len(data)}")
        else:
            part = f"bytes {first}-{last}/{len(data)}"
            self._answer(206, data[first : last + 1], content_type, part)

    def _answer(self, status: int, body: bytes, content_type: str, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Connection", "close")
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        self.wfile.write(body)


PAGE = """<!doctype html>
<title>probe</title>
<body style="margin: 0">
<script>
async function probe(task) {
  const video = document.createElement("video");
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  video.muted = true;
  video.preload = "auto";
  document.body.append(video);

  const until = (ms, ...names) => new Promise((resolve) => {
    const timer = setTimeout(() => resolve("timeout"), ms);
    for (const name of names) {
      video.addEventListener(name, () => { clearTimeout(timer); resolve(name); }, { once: true });
    }
  });
  const painted = () =>
    new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));

  function look() {  // the index and the colours of the picture shown now; as in barcode.py
    const w = (pen.canvas.width = video.videoWidth), h = (pen.canvas.height = video.videoHeight);
    pen.drawImage(video, 0, 0);
    const middle = ([x, y, width, height]) => {
      const left = Math.round((x + width / 4) * w), right = Math.round((x + width * 0.75) * w);
      const top = Math.round((y + height / 4) * h), bottom = Math.round((y + height * 0.75) * h);
      const data = pen.getImageData(left, top, right - left, bottom - top).data;
      const sums = [0, 0, 0];
      data.forEach((value, i) => { if (i % 4 < 3) sums[i % 4] += value; });
      return sums.map((sum) => sum / (data.length / 4));
    };
    const levels = task.cells.map((cell) => middle(cell)[1]);
    const unclear = levels.some((level) => level >= task.blackBelow && level <= task.whiteAbove);
    const bits = levels.reduce((sum, level, k) => sum + (level > task.whiteAbove) * 2 ** k, 0);
    return {
      index: unclear ? null : bits ^ task.inverted,
      colours: task.patches.map((patch) => middle(patch).map(Math.round)),
    };
  }

  async function seek(time) {
    const done = until(task.eventMs, "seeked", "error");
    video.currentTime = time;
    await done;
    await painted();
    return look();
  }

  const opened = until(task.eventMs, "loadeddata", "error");
  video.src = task.url;
  const report = { first: await opened, startIndex: null, sought: [], ended: false, presented: [] };
  report.errorCode = video.error ? video.error.code : null;
  report.errorMessage = video.error ? video.error.message : "";
  report.duration = video.duration;
  report.width = video.videoWidth;
  report.height = video.videoHeight;
  if (report.first !== "loadeddata") return report;

  await painted();
  report.startIndex = look().index;
  for (const frame of task.seekTo) {
    const { index, colours } = await seek((frame + 0.5) / task.fps);
    report.sought.push([frame, index, colours]);
  }
  if (task.play) {
    await seek(0);
    const note = () => {
      report.presented.push(look().index);
      video.requestVideoFrameCallback(note);
    };
    video.requestVideoFrameCallback(note);
    const length = Number.isFinite(video.duration) ? video.duration * 1000 : 0;
    const ended = until(length + task.eventMs, "ended", "error");
    video.play().catch(() => {});  // the reason comes as an error event, or `ended` stays false
    report.ended = (await ended) === "ended";
    await painted();
  }
  if (video.error) {
    report.errorCode = video.error.code;
    report.errorMessage = video.error.message;
  }
  return report;
}
</script>
"""
