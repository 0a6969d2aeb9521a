"""The browser harness itself: what plays is seen to play, and what does not is seen not to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import pytest
from playwright.sync_api import TimeoutError as PageTimeoutError

from tests import barcode
from tests.browser import Browser

FPS = 30
N = 45
SEEKS = [0, 1, 14, 29, 30, 31, N - 1]


def write(
    path: Path,
    indices: Iterable[int] = range(N),
    *,
    codec: str = "libx264",
    movflags: str | None = "faststart",
    size: tuple[int, int] = (256, 192),
) -> Path:
    options = {"preset": "veryfast", "bf": "0", "threads": "1"} if codec == "libx264" else {}
    where = {"movflags": movflags} if movflags else {}
    with av.open(str(path), "w", format="mp4", container_options=where) as out:
        stream = out.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 6  # smpte170m
        context.color_range = 1
        for index in indices:
            frame = av.VideoFrame.from_ndarray(barcode.draw(index, *size), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def without_moov(path: Path) -> Path:
    """Cut a film whose index stands at its end just before that index, as a killed writer does."""
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"moov") - 4])
    return path


def colour_error(seen: dict[str, tuple[int, int, int]]) -> int:
    return max(
        abs(a - b)
        for name, colour in barcode.PATCHES.items()
        for a, b in zip(seen[name], colour, strict=True)
    )


@pytest.mark.parametrize("size", [(256, 192), (16, 16), (642, 480)])
def test_plain_h264_plays(browser: Browser, tmp_path: Path, size: tuple[int, int]) -> None:
    report = browser.probe(write(tmp_path / "a.mp4", size=size), fps=FPS, seek_to=SEEKS)
    assert (report.first, report.error_code, report.error_message) == ("loadeddata", None, "")
    assert report.duration_s == pytest.approx(N / FPS, abs=1e-3)
    assert (report.width, report.height) == size
    assert report.start_index == 0
    assert report.sought == {k: k for k in SEEKS}
    assert report.ended
    assert report.last_index == N - 1


def test_colours_come_back(browser: Browser, tmp_path: Path) -> None:
    report = browser.probe(write(tmp_path / "a.mp4"), fps=FPS, seek_to=[7], play=False)
    assert colour_error(report.colours[7]) <= 3
    assert not report.ended
    assert report.presented == ()


def test_the_index_is_what_the_picture_shows_not_what_was_asked(
    browser: Browser, tmp_path: Path
) -> None:
    film = write(tmp_path / "a.mp4", reversed(range(N)))
    report = browser.probe(film, fps=FPS, seek_to=SEEKS)
    assert report.start_index == N - 1
    assert report.sought == {k: N - 1 - k for k in SEEKS}
    assert report.last_index == 0


def test_mpeg4_part_2_is_refused(browser: Browser, tmp_path: Path) -> None:
    report = browser.probe(write(tmp_path / "a.mp4", codec="mpeg4"), fps=FPS, seek_to=SEEKS)
    assert (report.first, report.error_code) == ("error", 4)
    assert "DEMUXER_ERROR_NO_SUPPORTED_STREAMS" in report.error_message
    assert report.sought == {}
    assert report.start_index is None
    assert report.last_index is None
    assert not report.ended


def test_a_file_without_moov_is_refused(browser: Browser, tmp_path: Path) -> None:
    film = without_moov(write(tmp_path / "a.mp4", movflags=None))
    report = browser.probe(film, fps=FPS)
    assert (report.first, report.error_code) == ("error", 4)
    assert "DEMUXER_ERROR_COULD_NOT_OPEN" in report.error_message


def test_a_film_that_breaks_off_does_not_end(browser: Browser, tmp_path: Path) -> None:
    # Random pictures, so that the cut lies well inside the film's samples.
    film = write(tmp_path / "a.mp4", np.random.default_rng(0).permutation(4096)[:N].tolist())
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    report = browser.probe(film, fps=FPS)
    assert report.first == "loadeddata"
    assert len(report.presented) < N


def test_a_missing_file_is_an_error(browser: Browser, tmp_path: Path) -> None:
    report = browser.probe(tmp_path / "never-written.mp4", fps=FPS)
    assert (report.first, report.error_code) == ("error", 4)


def test_a_probe_has_a_limit_and_the_browser_outlives_it(browser: Browser, tmp_path: Path) -> None:
    film = write(tmp_path / "a.mp4")
    with pytest.raises(PageTimeoutError):
        browser.probe(film, fps=FPS, limit_s=0.5)  # it plays for 1.5 s
    assert browser.probe(film, fps=FPS, play=False).first == "loadeddata"


def test_a_page_that_hangs_ends_at_its_limit(browser: Browser, tmp_path: Path) -> None:
    with pytest.raises(PageTimeoutError):
        browser.on_page(lambda page: page.wait_for_function("() => { for (;;); }", timeout=500))
    assert browser.probe(write(tmp_path / "a.mp4"), fps=FPS, play=False).start_index == 0


def test_an_absent_chromium_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make browser"):
        Browser(tmp_path / "chromium")


def test_an_event_loop_can_run_beside_the_browser(browser: Browser) -> None:
    assert asyncio.run(asyncio.sleep(0, result="ran")) == "ran"


@pytest.mark.parametrize("size", [(16, 16), (17, 17), (84, 84), (255, 191), (1280, 720)])
def test_the_bar_code_reads_back_at_any_size(size: tuple[int, int], tmp_path: Path) -> None:
    width, height = (side + side % 2 for side in size)
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"crf": "28", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        shown = np.random.default_rng(0).integers(0, 4096, 40).tolist()
        for index in shown:
            drawn = barcode.draw(index, *size)
            padding = ((0, height - size[1]), (0, width - size[0]), (0, 0))
            padded = np.pad(drawn, padding, mode="edge")
            out.mux(stream.encode(av.VideoFrame.from_ndarray(padded, format="rgb24")))
        out.mux(stream.encode(None))
    assert barcode.indices(tmp_path / "a.mp4") == shown
    assert barcode.durations(tmp_path / "a.mp4") == pytest.approx([1 / FPS] * 40)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_picture_is_not_a_bar_code_of_a_film(level: int) -> None:
    blank = np.full((48, 64, 3), level, np.uint8)
    if level == 128:
        with pytest.raises(ValueError, match="neither black nor white"):
            barcode.read(blank)
    else:
        assert barcode.read(blank) > 1000


def test_patches_read_back_from_a_drawing() -> None:
    assert barcode.read_patches(barcode.draw(5)) == barcode.PATCHES
